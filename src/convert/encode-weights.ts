import type { StateDict } from "../state-dict.js";
import { encodeNpz } from "./formats/npz/encode.js";
import { encodePth } from "./formats/pth/index.js";
import { encodeSafetensors } from "./formats/safetensors/index.js";
import type { WeightsFormat } from "./sniff.js";

/** What a safetensors file of PyTorch weights says of itself: transformers refuses one that does not. */
const PYTORCH_METADATA: ReadonlyMap<string, string> = new Map([["format", "pt"]]);

/**
 * The bytes of a file of weights; the same state dict always gives the same bytes.
 *
 * @param metadata what a safetensors file is to say of itself, if not that its weights are PyTorch's
 * @throws InputError (`unsupported`) for an element type that the format does not have
 */
export function encodeWeights(
  stateDict: StateDict,
  format: WeightsFormat,
  { subject, metadata }: { readonly subject: string; readonly metadata?: ReadonlyMap<string, string> },
): Uint8Array {
  switch (format) {
    case "pth":
      return encodePth(stateDict, { subject });
    case "npz":
      return encodeNpz(stateDict, { subject });
    case "safetensors":
      return encodeSafetensors(stateDict, {
        subject,
        metadata: metadata?.size ? metadata : PYTORCH_METADATA,
      });
  }
}

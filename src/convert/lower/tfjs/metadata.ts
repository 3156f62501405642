import type { OsnetSpec } from "../../../arch/spec.js";
import type { JsonObject } from "../../formats/tfjs/index.js";
import { type PixelOrder, preprocessMetadata } from "../preprocess.js";

/** Keys of a model's own description in `userDefinedMetadata`. */
export const TFJS_METADATA = { spec: "osnet.spec", folded: "osnet.folded" } as const;

/** What a model says of itself. */
export function tfjsMetadata(spec: OsnetSpec, fold: boolean, preprocess: PixelOrder | undefined): JsonObject {
  return {
    [TFJS_METADATA.spec]: JSON.stringify(spec),
    [TFJS_METADATA.folded]: String(fold),
    ...preprocessMetadata(preprocess),
  };
}

/**
 * PyTorch's zip container as torch.save writes it since 1.6 (torch/serialization.py, `_save`): a pickle of the state
 * dict, each tensor's elements in an entry of its own, 64-byte aligned so that `torch.load(mmap=True)` can map them.
 * `torch.load(weights_only=True)` reads it from PyTorch 1.13 on, `torch.load` from 1.6 on.
 */
import type { StateDict } from "../../../state-dict.js";
import { elementCount, formatShape } from "../../../tensor.js";
import { corrupt, quote } from "../refusals.js";
import { encodeStoredZip } from "../zip/stored.js";
import { pickleStateDict } from "./pickle/state-dict.js";

/** The archive's folder, which torch.save names after the file, or so where it has no name: bytes must not depend on it. */
const FOLDER = "archive";

const STORAGE_ALIGNMENT = 64;

/**
 * The bytes of a checkpoint: an OrderedDict from paths to tensors, in the order of the state dict. The dict has no
 * `_metadata`, as if from PyTorch 0.4: without it `load_state_dict` fills in a missing `num_batches_tracked`.
 *
 * @throws InputError (`format`) if a tensor's data does not fill its shape
 */
export function encodePth(stateDict: StateDict, { subject }: { readonly subject: string }): Uint8Array {
  const storages = new Map<string, Uint8Array>();
  for (const [path, { shape, data }] of stateDict) {
    if (data.length !== elementCount(shape))
      throw corrupt(
        { subject, part: "the file" },
        `${data.length} elements in ${quote(path)}`,
        `the ${elementCount(shape)} of its shape ${formatShape(shape)}`,
      );
    storages.set(`data/${storages.size}`, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  const ascii = new TextEncoder();
  const entries = [
    ["data.pkl", pickleStateDict(stateDict)],
    [".format_version", ascii.encode("1")],
    [".storage_alignment", ascii.encode(String(STORAGE_ALIGNMENT))],
    ["byteorder", ascii.encode("little")],
    ...storages,
    ["version", ascii.encode("3\n")],
  ] as const;
  return encodeStoredZip(new Map(entries.map(([name, data]) => [`${FOLDER}/${name}`, data])), {
    subject,
    alignment: STORAGE_ALIGNMENT,
  });
}

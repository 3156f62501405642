import { InputError } from "../../../errors.js";
import type { StateDict } from "../../../state-dict.js";
import { encodeStoredZip } from "../zip/stored.js";
import { encodeNpy } from "./npy.js";

/**
 * The bytes of an .npz archive as numpy.savez writes it, one array for each tensor under its path.
 * `numpy.load(allow_pickle=False)` reads it.
 *
 * @throws InputError (`unsupported`) for bfloat16, which numpy does not have; (`format`) if a tensor's data does not
 * fill its shape
 */
export function encodeNpz(stateDict: StateDict, { subject }: { readonly subject: string }): Uint8Array {
  const foreign = [...stateDict].filter(([, { dtype }]) => dtype === "bfloat16").map(([path]) => path);
  if (foreign.length > 0)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${foreign.length} bfloat16 ${foreign.length === 1 ? "tensor" : "tensors"} (${foreign[0]}${foreign.length > 1 ? ", …" : ""})`,
      expected: "element types that numpy has",
      remedy: "add --dtype float32, which keeps every value",
    });
  return encodeStoredZip(
    new Map([...stateDict].map(([path, tensor]) => [`${path}.npy`, encodeNpy(tensor, subject)])),
    { subject },
  );
}

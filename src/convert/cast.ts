import { InputError } from "../errors.js";
import type { StateDict } from "../state-dict.js";
import type { Tensor } from "../tensor.js";
import { castFloat, FLOAT_DTYPES, type FloatDType, toReal } from "../tensor-cast.js";

/**
 * The state dict with its floating-point tensors in another type, each value rounded at most once, to nearest even.
 * Integers (`num_batches_tracked`) stay as they are.
 *
 * @throws InputError (`tensor`) listing every tensor with a value that is too large for the type
 */
export function castStateDict(stateDict: StateDict, dtype: FloatDType, subject: string): StateDict {
  const overflows: string[] = [];
  const cast = [...stateDict].map(([path, tensor]): [string, Tensor] => {
    if (!FLOAT_DTYPES.some((float) => float === tensor.dtype)) return [path, tensor];
    const result = castFloat(tensor, dtype, path);
    if (result !== tensor) {
      const lost = overflowOf(tensor, result, path);
      if (lost !== undefined) overflows.push(`${path}: ${lost}`);
    }
    return [path, result];
  });
  if (overflows.length > 0)
    throw new InputError({
      code: "tensor",
      subject,
      found: `values beyond ${dtype} in ${overflows.length} ${overflows.length === 1 ? "tensor" : "tensors"}`,
      expected: "weights that it can hold",
      remedy: `choose ${dtype === "float16" ? "bfloat16 or float32" : "float32 or float64"}`,
      details: overflows,
    });
  return new Map(cast);
}

/** How many finite values became infinite, and the largest of them; undefined for none. */
function overflowOf(tensor: Tensor, cast: Tensor, path: string): string | undefined {
  const before = toReal(tensor, path).data;
  const after = toReal(cast, path).data;
  let count = 0;
  let largest = 0;
  for (let index = 0; index < before.length; index++) {
    const value = before[index] ?? 0;
    if (Math.abs(after[index] ?? 0) !== Infinity || Math.abs(value) === Infinity) continue;
    count++;
    if (Math.abs(value) > Math.abs(largest)) largest = value;
  }
  return count > 0 ? `${count} ${count === 1 ? "value" : "values"}, the largest ${largest}` : undefined;
}

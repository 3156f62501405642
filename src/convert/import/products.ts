import type { Shape, Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import type { Constants, ForeignNode } from "./foreign.js";

/** Whole numbers as ONNX has them in shapes, axes and the like. */
export function wholeNumbers(values: readonly number[], shape: Shape = [values.length]): Tensor<"int64"> {
  return { dtype: "int64", shape, data: BigInt64Array.from(values, BigInt) };
}

/**
 * A linear layer whose bias is in the sum of the batch norm after it, as optimisers of constants leave it: W · s and t of
 * (W·x) · s + t.
 */
export function productOf(
  { constants: { weight, bias } }: ForeignNode<"linear">,
  { constants: { weight: scale, bias: shift } }: ForeignNode<"affine">,
): Constants | undefined {
  if (bias || !weight || !scale || !shift) return undefined;
  const [rows, factors] = [toReal(weight, "weight").data, toReal(scale, "scale").data];
  const rowLength = rows.length / Math.max(1, factors.length);
  const data = Float32Array.from(
    { length: rows.length },
    (_, index) => (rows[index] ?? 0) * (factors[Math.floor(index / rowLength)] ?? 0),
  );
  return { weight: { dtype: "float32", shape: weight.shape, data }, bias: shift };
}

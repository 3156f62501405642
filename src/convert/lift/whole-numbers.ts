import type { Shape, Tensor } from "../../tensor.js";

/** Whole numbers as ONNX has them in shapes, axes and the like. */
export function wholeNumbers(values: readonly number[], shape: Shape = [values.length]): Tensor<"int64"> {
  return { dtype: "int64", shape, data: BigInt64Array.from(values, BigInt) };
}

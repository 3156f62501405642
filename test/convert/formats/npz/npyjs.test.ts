import { dump, parse } from "npyjs";
import { describe, expect, it } from "vitest";
import { decodeNpy, encodeNpy } from "../../../../src/convert/formats/npz.js";
import type { Tensor } from "../../../../src/core/tensor.js";

/** Another implementation of .npy reads what ours writes, and the other way round. */
const TENSORS: readonly Tensor[] = [
  { dtype: "float32", shape: [2, 3], data: Float32Array.of(1, -2.5, 3e-45, 4, -0, 65504) },
  { dtype: "float64", shape: [4], data: Float64Array.of(0.1, -1e300, 5e-324, 2) },
  { dtype: "int64", shape: [], data: BigInt64Array.of(-9_007_199_254_740_993n) },
  { dtype: "uint8", shape: [1, 2], data: Uint8Array.of(0, 255) },
];

describe.each(TENSORS)("npyjs and $dtype $shape", (tensor) => {
  it("reads our bytes", () => {
    const bytes = encodeNpy(tensor, "tensor");
    const { data, shape, fortranOrder } = parse(bytes.slice().buffer);
    expect({ data, shape, fortranOrder }).toEqual({
      data: tensor.data,
      shape: tensor.shape,
      fortranOrder: false,
    });
  });

  it("writes bytes that we read", () => {
    const bytes = new Uint8Array(dump(tensor.data as Float32Array, [...tensor.shape]));
    expect(decodeNpy(bytes, "tensor")).toEqual(tensor);
  });
});

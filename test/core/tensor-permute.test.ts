import { describe, expect, it } from "vitest";
import type { Tensor } from "../../src/core/tensor.js";
import { permute } from "../../src/core/tensor.js";

const counted = (...shape: readonly number[]): Tensor<"float32"> => ({
  dtype: "float32",
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, index) => index),
});

describe("permute", () => {
  it("puts element [i, j, k] where the axes say", () => {
    // [2, 3] by rows 0 1 2 / 3 4 5; its columns are 0 3, 1 4, 2 5.
    expect([...permute(counted(2, 3), [1, 0]).data]).toEqual([0, 3, 1, 4, 2, 5]);
    const { shape, data } = permute(counted(2, 3, 4), [2, 0, 1]);
    expect(shape).toEqual([4, 2, 3]);
    // [1, 2, 3] of the tensor is 12 + 2·4 + 3; in the result it is [3, 1, 2].
    expect(data[3 * 6 + 1 * 3 + 2]).toBe(23);
  });

  it.each([
    [
      [2, 3, 4, 5],
      [3, 1, 0, 2],
      [2, 1, 3, 0],
    ],
    [
      [5, 1, 3, 1],
      [2, 3, 0, 1],
      [2, 3, 0, 1],
    ],
    [
      [2, 1, 2, 3, 2],
      [4, 3, 2, 1, 0],
      [4, 3, 2, 1, 0],
    ],
    [
      [1, 1],
      [1, 0],
      [1, 0],
    ],
    [[], [], []],
    [
      [0, 3],
      [1, 0],
      [1, 0],
    ],
  ] as const)("there and back: %j by %j", (shape, there, back) => {
    const tensor = counted(...shape);
    expect(permute(permute(tensor, there), back)).toEqual(tensor);
  });

  it("keeps the element type, and what else is known of a tensor", () => {
    const tensor = { dtype: "int64", shape: [2, 1], data: BigInt64Array.of(1n, 2n), note: "kept" } as const;
    expect(permute(tensor, [1, 0])).toEqual({ ...tensor, shape: [1, 2] });
  });
});

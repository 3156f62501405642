import { describe, expect, it } from "vitest";
import { InputError } from "../src/errors.js";
import type { Tensor } from "../src/tensor.js";
import { toFloat32, toFloat64, toReal } from "../src/tensor-cast.js";

const HALVES: Tensor = {
  dtype: "float16",
  shape: [8],
  // 1, −2, the smallest subnormal, the largest subnormal, the largest number, −∞, −0, NaN.
  data: Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0xfc00, 0x8000, 0x7e00),
};
const HALF_VALUES = [1, -2, 2 ** -24, 1023 * 2 ** -24, 65504, Number.NEGATIVE_INFINITY, -0, Number.NaN];

describe("tensor casts", () => {
  it("widen float16 exactly", () => {
    expect([...toReal(HALVES, "w").data]).toEqual(HALF_VALUES);
    expect([...toFloat64(HALVES, "w").data]).toEqual(HALF_VALUES);
  });

  it("widen bfloat16 exactly", () => {
    const tensor: Tensor = { dtype: "bfloat16", shape: [3], data: Uint16Array.of(0x3f80, 0xc049, 0x0001) };
    expect([...toFloat32(tensor, "w").data]).toEqual([1, -3.140625, 2 ** -133]);
  });

  it("round float64 to float32 once", () => {
    const tensor: Tensor = { dtype: "float64", shape: [2], data: Float64Array.of(0.1, 1e39) };
    expect([...toFloat32(tensor, "w").data]).toEqual([Math.fround(0.1), Number.POSITIVE_INFINITY]);
  });

  it("return a tensor of the wanted type as it stands", () => {
    const tensor: Tensor = { dtype: "float32", shape: [1], data: Float32Array.of(1e-45) };
    expect(toFloat32(tensor, "w")).toBe(tensor);
    expect(toReal(tensor, "w")).toBe(tensor);
  });

  it("refuse integers, naming the tensor", () => {
    const tensor: Tensor = { dtype: "int8", shape: [1], data: Int8Array.of(1) };
    expect(() => toFloat32(tensor, "conv1.conv.weight")).toThrow(InputError);
    expect(() => toFloat32(tensor, "conv1.conv.weight")).toThrow(
      /^conv1\.conv\.weight: found elements of type int8/,
    );
  });
});

import { describe, expect, it } from "vitest";
import { InputError } from "../../src/core/errors.js";
import type { Tensor } from "../../src/core/tensor.js";
import { castFloat, toFloat32, toFloat64, toReal } from "../../src/core/tensor-cast.js";

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

  it("return a tensor of the wanted type unchanged", () => {
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

  describe("to 16 bits", () => {
    const bits = (dtype: "float16" | "bfloat16", ...values: number[]): number[] =>
      [
        ...castFloat(
          { dtype: "float64", shape: [values.length], data: Float64Array.from(values) },
          dtype,
          "w",
        ).data,
      ].map(Number);

    it("round to nearest, ties to even", () => {
      // float16 has a step of 2⁻¹⁰ above 1, bfloat16 one of 2⁻⁷.
      expect(bits("float16", 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -40)).toEqual([
        0x3c00, 0x3c02, 0x3c01,
      ]);
      expect(bits("bfloat16", 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -40)).toEqual([
        0x3f80, 0x3f82, 0x3f81,
      ]);
    });

    it("round once: float32 in between would round these to the tie, and that to even", () => {
      const value = 1 + 2 ** -11 + 2 ** -40;
      expect(bits("float16", value)).not.toEqual(bits("float16", Math.fround(value)));
    });

    it("carry into the next exponent, and to infinity", () => {
      expect(bits("float16", 2 - 2 ** -12, 65519.99, 65520, -65520, 1e300)).toEqual([
        0x4000, 0x7bff, 0x7c00, 0xfc00, 0x7c00,
      ]);
      expect(bits("bfloat16", 3.3895313892515355e38, 3.4e38, -1e39)).toEqual([0x7f7f, 0x7f80, 0xff80]);
    });

    it("keep subnormals, signs of zero, infinities and NaN", () => {
      expect(bits("float16", 2 ** -24, 2 ** -25, 1.5 * 2 ** -25, 1023.5 * 2 ** -24, -0)).toEqual([
        0x0001, 0x0000, 0x0001, 0x0400, 0x8000,
      ]);
      expect(bits("bfloat16", 2 ** -133, 2 ** -134, 5e-324, -5e-324)).toEqual([1, 0, 0, 0x8000]);
      expect(bits("float16", Infinity, -Infinity, Number.NaN)).toEqual([0x7c00, 0xfc00, 0x7e00]);
    });

    it("return every one of the 65536 patterns", () => {
      for (const dtype of ["float16", "bfloat16"] as const) {
        const all: Tensor = {
          dtype,
          shape: [65536],
          data: Uint16Array.from({ length: 65536 }, (_, index) => index),
        };
        const back = castFloat(toFloat64(all, "w"), dtype, "w");
        const values = toFloat64(all, "w").data;
        const wrong = [...all.data].filter(
          (pattern, index) => !Number.isNaN(values[index]) && back.data[index] !== pattern,
        );
        expect(wrong).toEqual([]);
      }
    });
  });
});

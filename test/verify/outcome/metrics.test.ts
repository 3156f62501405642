import { describe, expect, it } from "vitest";
import type { RealTensor } from "../../../src/core/tensor.js";
import { measure, normalizeRows } from "../../../src/verify/outcome/metrics.js";

const float32 = (...values: number[]): RealTensor => ({
  dtype: "float32",
  shape: [values.length],
  data: Float32Array.from(values),
});
const float64 = (...values: number[]): RealTensor => ({
  dtype: "float64",
  shape: [values.length],
  data: Float64Array.from(values),
});

describe("measure", () => {
  it("gives the figures of a hand-computed pair", () => {
    const metrics = measure(float64(3, -4, 0), float64(3, -4.5, 0.25));
    expect(metrics.maxAbs).toBe(0.5);
    expect(metrics.scale).toBe(4);
    expect(metrics.relMax).toBe(0.125);
    expect(metrics.rmse).toBeCloseTo(Math.sqrt((0.25 + 0.0625) / 3), 15);
    expect(metrics.cosine).toBeCloseTo(27 / (5 * Math.sqrt(9 + 20.25 + 0.0625)), 15);
  });

  it("is perfect for equal tensors, of zeros too", () => {
    for (const tensor of [float32(1, -2, 3), float32(0, 0)])
      expect(measure(tensor, tensor)).toMatchObject({ maxAbs: 0, relMax: 0, rmse: 0, cosine: 1, ulp: 0 });
  });

  it("counts float32 values between two numbers, through zero as well", () => {
    const next = (value: number, steps: number): number => {
      const array = Float32Array.of(value);
      const bits = new Int32Array(array.buffer);
      bits[0] = (bits[0] ?? 0) + steps;
      return array[0] ?? 0;
    };
    expect(measure(float32(1), float32(next(1, 3))).ulp).toBe(3);
    expect(measure(float32(-1), float32(next(-1, 2))).ulp).toBe(2);
    expect(measure(float32(1.4e-45), float32(-1.4e-45)).ulp).toBe(2);
    expect(measure(float32(0), float32(-0)).ulp).toBe(0);
  });

  it("never matches NaN, and an infinity only with itself", () => {
    expect(measure(float32(Number.NaN), float32(Number.NaN)).mismatchedNonFinite).toBe(1);
    expect(measure(float32(1), float32(Number.NaN)).mismatchedNonFinite).toBe(1);
    expect(measure(float32(Infinity), float32(Infinity)).mismatchedNonFinite).toBe(0);
    expect(measure(float32(Infinity), float32(-Infinity)).mismatchedNonFinite).toBe(1);
    expect(measure(float32(Infinity), float32(1)).mismatchedNonFinite).toBe(1);
  });

  it("reports an error against zero as infinite, not as none", () => {
    expect(measure(float32(0, 0), float32(0, 1e-30)).relMax).toBe(Infinity);
  });
});

describe("normalizeRows", () => {
  it("divides each row by its length and leaves zeros", () => {
    const tensor: RealTensor = { dtype: "float64", shape: [2, 2], data: Float64Array.of(3, 4, 0, 0) };
    expect([...normalizeRows(tensor).data]).toEqual([0.6, 0.8, 0, 0]);
  });
});

import { describe, expect, it } from "vitest";
import { castStateDict } from "../../../src/convert/export/weights.js";
import { InputError } from "../../../src/core/errors.js";
import type { Tensor } from "../../../src/core/tensor.js";

const float32 = (...values: number[]): Tensor => ({
  dtype: "float32",
  shape: [values.length],
  data: Float32Array.from(values),
});
const COUNTER: Tensor = { dtype: "int64", shape: [], data: BigInt64Array.of(26100n) };

describe("castStateDict", () => {
  it("converts floating point and keeps integers and the order", () => {
    const weights = float32(1, -0.5);
    const source = new Map([
      ["b", weights],
      ["n", COUNTER],
      ["a", weights],
    ]);
    const half = { dtype: "float16", shape: [2], data: Uint16Array.of(0x3c00, 0xb800) };
    expect([...castStateDict(source, "float16", "w.pth")]).toEqual([
      ["b", half],
      ["n", COUNTER],
      ["a", half],
    ]);
    expect(castStateDict(source, "float32", "w.pth").get("a")).toBe(weights);
  });

  it("refuses values beyond the type, listing every tensor", () => {
    const source = new Map([
      ["a", float32(1, 65519.996)],
      ["b", float32(65520, -7e4)],
      ["c", float32(Infinity, -1e6)],
    ]);
    try {
      castStateDict(source, "float16", "w.pth");
      expect.unreachable();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      expect(error.message).toBe(
        "w.pth: found values that overflow float16 in 2 tensors, expected weights within its range; choose bfloat16 or float32.",
      );
      expect(error.details).toEqual(["b: 2 values, the largest -70000", "c: 1 value, the largest -1000000"]);
    }
  });

  it("refuses float64 values beyond float32 and bfloat16", () => {
    const source = new Map<string, Tensor>([
      ["a", { dtype: "float64", shape: [1], data: Float64Array.of(1e39) }],
    ]);
    for (const dtype of ["float32", "bfloat16"] as const)
      expect(() => castStateDict(source, dtype, "w.pth")).toThrow(
        `w.pth: found values that overflow ${dtype} in 1 tensor, expected weights within its range; choose float32 or float64.`,
      );
  });
});

import { describe, expect, it } from "vitest";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { NODE_CASES, type NodeCase, real, resultOf } from "./node-cases.js";
import { REFUSALS, refusalOf } from "./node-refusals.js";

const read = NODE_CASES.filter((test) => !refusalOf(test));
const refused = NODE_CASES.filter(refusalOf);

/** How far float32 arithmetic on numbers of this size, and integers in between, may put a result. */
function toleranceOf({ rounding }: NodeCase, expected: RealTensor): number {
  const sizes = Array.from(expected.data, Math.abs).filter(Number.isFinite);
  return 1e-5 * Math.max(1, ...sizes) + rounding;
}

describe("ONNX's node tests, and chains of its operators", () => {
  it.each(read.map((test) => [test.name, test] as const))("%s", (_, test) => {
    const result = resultOf(test);
    expect(result).toBeTypeOf("object");
    const [found, expected] = [real(result as Tensor), real(test.expected)];
    // What has three axes is computed as one image.
    expect(found.shape).toEqual(
      found.shape.length > expected.shape.length ? [1, ...expected.shape] : expected.shape,
    );
    const tolerance = toleranceOf(test, expected);
    const isRight = (value: number, actual = Number.NaN): boolean =>
      Number.isFinite(value) ? Math.abs(actual - value) < tolerance : Object.is(actual, value);
    const wrong = [...expected.data.entries()].filter(([index, value]) => !isRight(value, found.data[index]));
    expect(wrong).toEqual([]);
  });

  it.each(refused.map((test) => [test.name, refusalOf(test)?.because, test] as const))(
    "%s is nothing of an OSNet: %s",
    (_name, _because, test) => {
      // Bounds of a Clip are named behind it.
      expect(resultOf(test)).toEqual(expect.stringContaining(refusalOf(test)?.found ?? "nothing"));
    },
  );

  it.each(REFUSALS.map((refusal) => [String(refusal.cases), refusal] as const))(
    "%s matches",
    (_, refusal) => {
      expect(refused.filter((test) => refusalOf(test) === refusal)).not.toEqual([]);
    },
  );
});

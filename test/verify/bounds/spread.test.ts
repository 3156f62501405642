import { describe, expect, it } from "vitest";
import type { LayerNode, Op } from "../../../src/arch/index.js";
import type { RealTensor } from "../../../src/core/tensor.js";
import { arithmeticOf, independentTerms } from "../../../src/verify/bounds/bound.js";
import { isOverflow, isRounding, localError } from "../../../src/verify/bounds/local-error.js";
import { BOUNDS } from "../../../src/verify/bounds/recompute.js";
import { evaluateLayer, Workspace } from "../../../src/verify/reference/evaluate-layer.js";

const u = 2 ** -24;

describe("independent terms of a sum", () => {
  it("is one for a constant plane, four for a half constant one, nearly all for random values", () => {
    const random = Array.from({ length: 1024 }, (_, i) => 1 + Math.abs(Math.sin(7919 * i * i)));
    expect(independentTerms(new Array(1024).fill(0.3), u)).toBe(1);
    expect(independentTerms([...random.slice(512), ...new Array(512).fill(0.3)], u)).toBeCloseTo(4, 1);
    expect(independentTerms(random, u)).toBeGreaterThan(600);
  });

  it("counts values as one that differ by less than a sum's last place, and leaves zeros out", () => {
    const nearly = Array.from({ length: 1024 }, (_, i) => Math.fround(0.3 + 1e-7 * Math.sin(i)));
    expect(independentTerms(nearly, u)).toBeLessThan(2);
    expect(independentTerms([...new Array(1000).fill(0), 1, 2, 3], u)).toBeGreaterThan(1003);
    expect(independentTerms([0, 0], u)).toBe(1);
  });
});

/** One image of a layer alone, in float64 and its bound. */
function layerOf(op: Op, data: Float32Array, shape: readonly number[], output: readonly number[]) {
  const node: LayerNode = { name: "layer", op, inputs: ["images"], parameters: {} };
  const input: RealTensor = { dtype: "float32", shape, data };
  const none = (): Float64Array => new Float64Array();
  const recomputed = evaluateLayer(node, [input], none, output, new Workspace());
  const call = {
    node,
    inputs: [input],
    inputErrors: [0],
    output: { ...recomputed, data: recomputed.data.slice() },
    parameters: none,
    arithmetic: arithmeticOf("float32"),
    workspace: new Workspace(),
  };
  const bound = (BOUNDS[op.kind] as (of: typeof call) => ReturnType<typeof BOUNDS.relu>)(call);
  return { recomputed: call.output, bound };
}

/** The mean of 64×128 elements, summed in float32 from first to last. */
function meanOf(
  of: (channel: number, i: number) => number,
  step = Math.fround,
): ReturnType<typeof localError> {
  const size = 64 * 128;
  const data = Float32Array.from({ length: 2 * size }, (_, i) => of(Math.floor(i / size), i % size));
  const { recomputed, bound } = layerOf({ kind: "globalAvgPool" }, data, [1, 2, 64, 128], [1, 2, 1, 1]);
  const means = [0, 1].map((channel) => {
    let sum = 0;
    for (const x of data.subarray(channel * size, (channel + 1) * size)) sum = Math.fround(sum + step(x));
    return Math.fround(sum / size);
  });
  return localError(
    { dtype: "float32", shape: [1, 2, 1, 1], data: Float32Array.from(means) },
    recomputed,
    bound,
  );
}

const noise = (_: number, i: number): number => 1 + Math.sin(7919 * i * i);

describe("the spread of a layer's errors", () => {
  it("fails no mean of constant, two-valued, nearly constant or striped planes", () => {
    const planes: readonly ((channel: number, i: number) => number)[] = [
      () => 0.3,
      (channel, i) => (channel === 0 ? 0.7 : noise(channel, i)),
      (_, i) => (i % 2 === 0 ? 0.3 : 0.9),
      (_, i) => 0.3 + 1e-6 * Math.sin(i),
      (_, i) => (i < 2048 ? 0.37 : noise(0, i)),
      (_, i) => Math.floor(i / 128) / 10,
      () => 1e-30,
      () => 1e-40,
      (_, i) => 1e-38 * noise(0, i),
    ];
    for (const plane of planes) expect(isRounding(meanOf(plane))).toBe(true);
  });

  it("fails what an average in half precision gives of distinct values", () => {
    const half = (x: number): number => Math.round(x * 2 ** 11) / 2 ** 11;
    expect(meanOf(noise).spread).toBeLessThan(1);
    const error = meanOf(noise, half);
    expect(Math.max(error.margin, error.spread)).toBeGreaterThan(0);
    expect(
      meanOf(
        (_, i) => noise(0, i),
        (x) => x * (1 + 2 ** -14),
      ).spread,
    ).toBeGreaterThan(1);
  });
});

describe("values that are not finite", () => {
  const actual = (...data: number[]): RealTensor => ({
    dtype: "float32",
    shape: [1, data.length, 1, 1],
    data: Float32Array.from(data),
  });

  it("are a fault where recomputing gives a number, and judge nothing where it gives none", () => {
    const bound = { elements: Float64Array.of(1, 1, Number.NaN, 1) };
    const error = localError(actual(1, Number.NaN, 3, 4), actual(1, 2, 3, Infinity), bound);
    expect(error).toMatchObject({ nonFinite: 1, unjudged: 2, margin: Infinity, worst: 1 });
    const excused = localError(actual(1, Number.NaN, 3, 4), actual(1, 2, 3, Infinity), bound, () => true);
    expect(excused).toMatchObject({ nonFinite: 0, unjudged: 3, margin: 0 });
  });

  it("are an overflow where all that is off passes through too large a number", () => {
    const { largest } = arithmeticOf("float32");
    const recomputed: RealTensor = { dtype: "float64", shape: [1, 2, 1, 1], data: Float64Array.of(1e40, 2) };
    expect(isOverflow(actual(Infinity, 2), recomputed, { elements: 1e-3 }, largest)).toBe(true);
    expect(isOverflow(actual(Infinity, 3), recomputed, { elements: 1e-3 }, largest)).toBe(false);
    expect(isOverflow(actual(Number.NaN, 2), actual(1, 2), { elements: 1e-3 }, largest)).toBe(false);
  });
});

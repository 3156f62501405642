import { expect, it } from "vitest";
import { mulberry32 } from "../../../src/core/functions.js";
import type { RealTensor } from "../../../src/core/tensor.js";
import { compareRankings, createHistogram } from "../../../src/verify/ranking/compare.js";
import { distanceRows } from "../../../src/verify/ranking/distances.js";
import { DEFAULT_LIMITS, judgeRanking } from "../../../src/verify/ranking/report.js";

const labels = (pids: readonly number[], camid: number) => ({
  pids: Int32Array.from(pids),
  camids: Int32Array.from(pids, () => camid),
});
const LABELS = { queries: labels([1, 2, 3], 0), gallery: labels([1, 2, 3, 1, 2, 3, 0, 0], 1) };

function features(rows: readonly (readonly number[])[]): RealTensor {
  return { dtype: "float64", shape: [rows.length, 2], data: Float64Array.from(rows.flat()) };
}

const QUERIES = features([
  [0, 0],
  [5, 0],
  [0, 5],
]);
const MATCHES = [
  [1, 0],
  [5, 1],
  [1, 5],
  [0, 1],
  [6, 0],
  [0, 6],
];
/** A distractor that is the same picture as a match, so that both are at one distance by every model. */
const TWICE = features([...MATCHES, [1, 0], [9, 9]]);

function judged(candidate: RealTensor) {
  const comparison = compareRankings(
    distanceRows(QUERIES, TWICE, "euclidean"),
    distanceRows(QUERIES, candidate, "euclidean"),
    LABELS,
  );
  const about = {
    party: { name: "candidate", format: "onnx" },
    backend: "onnxruntime",
    nonFinite: 0,
  } as const;
  return judgeRanking(about, comparison, DEFAULT_LIMITS, {
    query: String,
    gallery: (_, image) => ({ picture: String(image) }),
  });
}

it("pictures that are the reference's ties too are no fault of a candidate", () => {
  const { passed, figures, parity } = judged(TWICE);
  expect(figures?.ties.queries).toBe(1);
  expect(figures?.ties.rank1Worst).toBeLessThan(1);
  expect(parity.flips.count).toBe(0);
  expect(passed).toBe(true);
});

it("a candidate whose ties are its own fails, also where its files' order finds every match", () => {
  const { passed, figures } = judged(features(Array.from({ length: 8 }, () => [3, 3])));
  expect(figures?.ties).toMatchObject({ queries: 3, rank1Worst: 0 });
  expect(passed).toBe(false);
});

it("a candidate with infinite distances fails by every figure", () => {
  const { checks } = judged(features(Array.from({ length: 8 }, () => [Number.NaN, 0])));
  expect(checks.map(({ passed }) => passed)).toEqual([true, false, false, false]);
});

it("a histogram loses no value, wherever its range ends", () => {
  const random = mulberry32(3);
  const histogram = createHistogram();
  const values = Array.from({ length: 1000 }, (_, index) => index * random());
  for (const value of [0, ...values, Number.NaN]) histogram.add(value);
  const { range, counts } = histogram.result();
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1001);
  expect(range).toBeGreaterThan(Math.max(...values));
  const half = values.filter((value) => value < range / 2).length + 1;
  expect(counts.slice(0, counts.length / 2).reduce((sum, count) => sum + count, 0)).toBe(half);
});

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { RealTensor } from "../../../src/core/tensor.js";
import { type DistanceRows, distanceRows, rerankedRows } from "../../../src/verify/ranking/distances.js";
import { evaluateRanking, type Labels, singleShotCmc } from "../../../src/verify/ranking/evaluate.js";

interface Case {
  readonly name: string;
  readonly distances: readonly (readonly number[])[];
  readonly qPids: readonly number[];
  readonly gPids: readonly number[];
  readonly qCamids: readonly number[];
  readonly gCamids: readonly number[];
  readonly cmc: readonly number[];
  readonly mAP: number;
}

interface Reranking {
  readonly query: readonly (readonly number[])[];
  readonly gallery: readonly (readonly number[])[];
  readonly runs: readonly {
    readonly k1: number;
    readonly k2: number;
    readonly lambda: number;
    readonly result: readonly (readonly number[])[];
  }[];
}

/** Recorded from torchreid by torchreid_cases.py. */
const { cases, reranking } = JSON.parse(
  gunzipSync(readFileSync(new URL("../../../fixtures/ranking-cases.json.gz", import.meta.url))).toString(),
) as { readonly cases: readonly Case[]; readonly reranking: Reranking };

function rowsOf(matrix: readonly (readonly number[])[]): DistanceRows {
  return {
    queries: matrix.length,
    gallery: matrix[0]?.length ?? 0,
    *rows() {
      for (const row of matrix) yield Float64Array.from(row);
    },
  };
}

function labels(pids: readonly number[], camids: readonly number[]): Labels {
  return { pids: Int32Array.from(pids), camids: Int32Array.from(camids) };
}

function features(rows: readonly (readonly number[])[]): RealTensor {
  return {
    dtype: "float64",
    shape: [rows.length, rows[0]?.length ?? 0],
    data: Float64Array.from(rows.flat()),
  };
}

describe("figures of a ranking", () => {
  it.each(cases)("are torchreid's: $name", ({ distances, qPids, gPids, qCamids, gCamids, cmc, mAP }) => {
    const { figures } = evaluateRanking(rowsOf(distances), labels(qPids, qCamids), labels(gPids, gCamids));
    expect(Math.abs(figures.mAP - mAP)).toBeLessThan(1e-12);
    expect(figures.cmc.length).toBe(cmc.length);
    // torchreid's shares are float32.
    for (const [k, share] of figures.cmc.entries()) expect(Math.fround(share)).toBeCloseTo(cmc[k] ?? -1, 7);
    const { mAPBest, mAPWorst } = figures.ties;
    expect(mAPWorst).toBeLessThanOrEqual(figures.mAP + 1e-15);
    expect(mAPBest).toBeGreaterThanOrEqual(figures.mAP - 1e-15);
  });

  it("of a small example, by hand", () => {
    // Ranking of the query: junk (same identity and camera, removed), other, match, match, other.
    const { figures, queries } = evaluateRanking(
      rowsOf([[0.1, 0.2, 0.3, 0.4, 0.5]]),
      labels([1], [0]),
      labels([1, 2, 1, 1, 0], [0, 0, 1, 2, 1]),
    );
    expect(figures.mAP).toBeCloseTo((1 / 2 + 2 / 3) / 2, 15);
    expect(figures.mINP).toBeCloseTo(2 / 3, 15);
    expect(figures.cmc.slice(0, 3)).toEqual([0, 1, 1]);
    expect(queries[0]).toMatchObject({ firstMatch: 2, nearest: 1, matches: 2 });
  });

  it("of equal distances depend on no order of files", () => {
    const pids = [1, 1, 2, 2, 3, 3];
    const one = evaluateRanking(
      rowsOf([Array<number>(6).fill(7)]),
      labels([1], [9]),
      labels(pids, pids),
    ).figures;
    const reversed = evaluateRanking(
      rowsOf([Array<number>(6).fill(7)]),
      labels([1], [9]),
      labels(pids.toReversed(), pids),
    ).figures;
    expect(one.mAP).toBe(1);
    expect(reversed.mAP).toBeCloseTo((1 / 5 + 2 / 6) / 2, 15);
    expect(one.ties).toEqual(reversed.ties);
    expect(one.ties).toMatchObject({ queries: 1, mAPBest: 1, rank1Worst: 0 });
  });

  it("refuse queries of which none has a match", () => {
    expect(() => evaluateRanking(rowsOf([[1, 2]]), labels([1], [0]), labels([1, 2], [0, 1]))).toThrow(
      expect.objectContaining({ code: "argument" }),
    );
  });
});

describe("one image per identity", () => {
  it("gives the expectation of torchreid's draw", () => {
    // The match at 0.3 is drawn with 1/2, that at 0.1 with 1/2; identity 2 comes before 0.3 with 1/2; identity 3 never.
    const cmc = singleShotCmc(
      0,
      Float64Array.of(0.3, 0.1, 0.2, 0.9, 0.8),
      labels([1], [0]),
      labels([1, 1, 2, 2, 3], [1, 2, 0, 0, 0]),
    );
    expect([...(cmc ?? [])].slice(0, 3)).toEqual([0.75, 1, 1]);
  });
});

describe("distances", () => {
  const query = features([
    [1, 2, 3],
    [0, 0, 0],
  ]);
  const gallery = features([
    [1, 2, 3],
    [2, 4, 6],
    [-1, 0, 1],
    [0, 0, 0],
    [1, 0, 0],
  ]);
  const all = (metric: "euclidean" | "cosine"): number[][] =>
    Array.from(distanceRows(query, gallery, metric).rows(), (distances) => [...distances]);

  it("are squared for euclidean", () => {
    expect(all("euclidean")).toEqual([
      [0, 14, 12, 14, 13],
      [14, 56, 2, 0, 1],
    ]);
  });

  it("are 1 − cosine, where a feature of zeros is at 1 from all", () => {
    const [first, second] = all("cosine");
    expect(first?.[0]).toBeCloseTo(0, 15);
    expect(first?.[1]).toBeCloseTo(0, 15);
    expect(first?.[2]).toBeCloseTo(1 - 2 / Math.sqrt(28), 15);
    expect(first?.[3]).toBe(1);
    expect(second).toEqual([1, 1, 1, 1, 1]);
  });
});

describe("re-ranking", () => {
  it.each(reranking.runs)("is torchreid's: k1 $k1, k2 $k2, λ $lambda", ({ k1, k2, lambda, result }) => {
    const { query, gallery } = reranking;
    const rows = rerankedRows(features(query), features(gallery), "euclidean", { k1, k2, lambda });
    const distances = Array.from(rows.rows(), (row) => [...row]);
    expect(distances.length).toBe(result.length);
    for (const [index, distance] of distances.flat().entries())
      expect(Math.abs(distance - (result.flat()[index] ?? Number.NaN))).toBeLessThan(1e-6);
  });
});

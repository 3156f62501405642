import { mulberry32 } from "../../src/core/functions.js";
import type { RealTensor } from "../../src/core/tensor.js";
import { compareRankings } from "../../src/verify/ranking/compare.js";
import { distanceRows } from "../../src/verify/ranking/distances.js";
import { DEFAULT_LIMITS, judgeRanking, type RankingReport } from "../../src/verify/ranking/report.js";

/** A ranking of random features by two models, in which every name is the given text. */
export function hostileRanking(name: string): RankingReport {
  const random = mulberry32(5);
  const features = (rows: number): RealTensor => ({
    dtype: "float64",
    shape: [rows, 4],
    data: Float64Array.from({ length: 4 * rows }, random),
  });
  const labels = (rows: number, camera: number) => ({
    pids: Int32Array.from({ length: rows }, (_, row) => row % 4),
    camids: Int32Array.from({ length: rows }, () => camera),
  });
  const rows = () => distanceRows(features(12), features(40), "euclidean");
  const comparison = compareRankings(rows(), rows(), { queries: labels(12, 0), gallery: labels(40, 1) });
  const party = { name, format: "onnx" } as const;
  const candidate = judgeRanking(
    { party, backend: "onnxruntime", nonFinite: 2 },
    comparison,
    DEFAULT_LIMITS,
    {
      query: () => name,
      gallery: () => ({ picture: name, isMatch: false }),
    },
  );
  return {
    schema: "osnet-ranking/1",
    passed: false,
    dataset: {
      name,
      layout: "csv",
      queries: 12,
      gallery: 40,
      identities: 4,
      cameras: 2,
      distractors: 10,
      queriesWithoutMatch: 0,
    },
    distance: "euclidean",
    reranked: false,
    limits: DEFAULT_LIMITS,
    broken: [name],
    reference: { party, backend: "recorded", ...comparison.reference },
    candidates: [candidate],
  };
}

import type { Party, Proof } from "../outcome/report.js";
import type { QueryComparison, RankingComparison, RankingParity, RankingSide } from "./compare.js";
import type { DatasetFacts } from "./dataset.js";
import type { DistanceMetric } from "./distances.js";

/**
 * How much worse than the reference a candidate may rank and still pass.
 *
 * A tenth of a point of mAP or rank-1 is the last digit that is reported, and on Market-1501 three queries; one query
 * in a hundred may have another nearest image, since pictures of one track are often at nearly the same distance.
 */
export interface RankingLimits {
  /** Accepted drop of mAP, 0 to 1. Default 0.001. */
  readonly maxMapDrop: number;
  /** Accepted drop of rank-1, 0 to 1. Default 0.001. */
  readonly maxRank1Drop: number;
  /** Share of queries whose nearest image changes, 0 to 1. Default 0.01. */
  readonly maxFlips: number;
}

export const DEFAULT_LIMITS: RankingLimits = { maxMapDrop: 0.001, maxRank1Drop: 0.001, maxFlips: 0.01 };

/** One side of the comparison: the file, its runtime, and its metrics. */
export interface RankedSide extends RankingSide {
  /** The file: name, format, SHA-256. */
  readonly party: Party;
  /** The runtime, or `recorded`. */
  readonly backend: string;
}

/** The side that candidates are compared with. */
interface RankedReference extends RankedSide {
  /** For a checkpoint: the proof from the verification of its ONNX file. */
  readonly proof?: Proof;
}

/** One candidate against the reference. */
export interface RankedCandidate extends RankedSide {
  /** Whether every one of its checks passed. */
  readonly passed: boolean;
  /** Each judged figure, with its limit. */
  readonly checks: readonly RankingCheck[];
  /** Pictures with NaN or infinite features. */
  readonly nonFinite: number;
  /** How much its rankings differ from the reference's. */
  readonly parity: RankingParity;
  /**
   * For each valid query, in the order of the data set, how much worse (below 0) or better it ranks: with labels the
   * change of its average precision, without labels Kendall's τ − 1.
   */
  readonly queryChanges: readonly number[];
  /** The queries that lost most, worst first. */
  readonly worst: readonly WorstQuery[];
}

/** A judged figure: `value` must be at most `limit`. */
export interface RankingCheck {
  /** `finite` counts pictures; all others are fractions, 0 to 1. Drops are absent if the pictures have no labels. */
  readonly figure: "finite" | "map-drop" | "rank1-drop" | "flips";
  /** The measured figure. */
  readonly value: number;
  /** The largest accepted value. */
  readonly limit: number;
  /** Whether `value` is at most `limit`. */
  readonly passed: boolean;
}

/** Whether a figure is at most its limit; false if a report's JSON has null for one of them, as for NaN. */
export function isWithinLimit({ value, limit }: Pick<RankingCheck, "value" | "limit">): boolean {
  return Number.isFinite(value) && Number.isFinite(limit) && value <= limit;
}

/** A query, and the nearest pictures for both models, by their paths. */
export interface WorstQuery {
  /** Path of the query's picture in the data set. */
  readonly picture: string;
  /** Average precision by the reference and by the candidate. */
  readonly before?: number;
  /** Average precision by the candidate; absent without labels. */
  readonly after?: number;
  /** The reference's ranking, nearest first. */
  readonly referenceNearest: readonly NearestPicture[];
  /** The candidate's ranking, nearest first. */
  readonly candidateNearest: readonly NearestPicture[];
}

/** A gallery picture that one of the models ranks first. */
export interface NearestPicture {
  /** Its path in the data set. */
  readonly picture: string;
  /** Whether it shows the query's identity; absent without labels. */
  readonly isMatch?: boolean;
}

/** The document that `schemas/osnet-ranking-1.schema.json` describes. */
export interface RankingReport {
  /** Name and version of the document; the meaning of a version's fields does not change. */
  readonly schema: "osnet-ranking/1";
  /** Whether every candidate passed every check. */
  readonly passed: boolean;
  /** The data set as read. */
  readonly dataset: DatasetFacts & { readonly name: string };
  /** The distance between embeddings: `cosine` (1 − cosine) or `euclidean` (squared, as in torchreid). */
  readonly distance: DistanceMetric;
  /** Whether distances were re-ranked by k-reciprocal neighbours. */
  readonly reranked: boolean;
  /** The limits of the checks. */
  readonly limits: RankingLimits;
  /** Why each skipped picture could not be used. */
  readonly broken: readonly string[];
  /** The reference model. */
  readonly reference: RankedReference;
  /** The models under test, in the given order. */
  readonly candidates: readonly RankedCandidate[];
}

const WORST = 10;

/** Names a picture: a query, or an image of the gallery and whether it shows that query's identity. */
export interface PictureNames {
  readonly query: (query: number) => string;
  readonly gallery: (query: number, image: number) => NearestPicture;
}

/**
 * Judges a comparison by the limits. If images are tied, the worst order of each side is also compared with the
 * other's: a candidate that puts everybody at one distance fails, whatever the order of its files.
 */
export function judgeRanking(
  { party, backend, nonFinite }: Pick<RankedCandidate, "party" | "backend" | "nonFinite">,
  { candidate, reference, parity, queries }: RankingComparison,
  limits: RankingLimits,
  names: PictureNames,
): RankedCandidate {
  const checks: RankingCheck[] = [];
  const check = (figure: RankingCheck["figure"], value: number, limit: number): void =>
    void checks.push({ figure, value, limit, passed: isWithinLimit({ value, limit }) });
  check("finite", nonFinite, 0);
  const [before, after] = [reference.figures, candidate.figures];
  if (before && after) {
    check(
      "map-drop",
      Math.max(before.mAP - after.mAP, before.ties.mAPWorst - after.ties.mAPWorst),
      limits.maxMapDrop,
    );
    check(
      "rank1-drop",
      Math.max((before.cmc[0] ?? 0) - (after.cmc[0] ?? 0), before.ties.rank1Worst - after.ties.rank1Worst),
      limits.maxRank1Drop,
    );
  }
  check("flips", parity.flips.share, limits.maxFlips);
  return {
    party,
    backend,
    passed: checks.every(({ passed }) => passed),
    checks,
    nonFinite,
    ...candidate,
    parity,
    queryChanges: queries.flatMap((query) => (query.reference?.isValid === false ? [] : [-lossOf(query)])),
    worst: worstOf(queries).map((query) => ({
      picture: names.query(query.query),
      ...(query.reference ? { before: query.reference.ap } : {}),
      ...(query.candidate ? { after: query.candidate.ap } : {}),
      referenceNearest: query.referenceNearest.map((image) => names.gallery(query.query, image)),
      candidateNearest: query.candidateNearest.map((image) => names.gallery(query.query, image)),
    })),
  };
}

function lossOf({ reference, candidate, kendallTau }: QueryComparison): number {
  return reference && candidate ? reference.ap - candidate.ap : 1 - kendallTau;
}

/** With labels, the queries whose average precision fell most; without, those whose order changed most. */
function worstOf(queries: readonly QueryComparison[]): readonly QueryComparison[] {
  return queries
    .filter((query) => lossOf(query) > 0)
    .toSorted((a, b) => lossOf(b) - lossOf(a) || a.query - b.query)
    .slice(0, WORST);
}

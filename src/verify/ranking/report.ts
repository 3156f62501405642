import type { Party } from "../report.js";
import type { QueryComparison, RankingComparison, RankingParity } from "./compare.js";
import type { DatasetFacts } from "./dataset.js";
import type { DistanceMetric } from "./distances.js";
import type { RankingFigures } from "./evaluate.js";

/**
 * How much worse than the reference a candidate may rank and pass.
 *
 * A tenth of a point of mAP or rank-1 is a third of what two training runs with other seeds differ by, and on Market-1501 three
 * queries; one query in a hundred may have another nearest image, since pictures of one track are often at nearly one distance.
 */
export interface RankingLimits {
  /** Share of mAP, 0 to 1. Default 0.001. */
  readonly maxMapDrop: number;
  /** Share of rank-1, 0 to 1. Default 0.001. */
  readonly maxRank1Drop: number;
  /** Share of queries whose nearest image is another, 0 to 1. Default 0.01. */
  readonly maxFlips: number;
}

export const DEFAULT_LIMITS: RankingLimits = { maxMapDrop: 0.001, maxRank1Drop: 0.001, maxFlips: 0.01 };

/** One candidate against the reference. */
export interface RankedCandidate {
  readonly candidate: Party;
  readonly backend: string;
  /** Pictures whose features have a value that is NaN or infinite; one is a failure. */
  readonly nonFinite: number;
  readonly passed: boolean;
  /** What is beyond the limits, a sentence each; empty if it passed. */
  readonly failures: readonly string[];
  readonly figures?: RankingFigures;
  readonly parity: RankingParity;
  /** The queries that lost most, worst first. */
  readonly worst: readonly WorstQuery[];
}

/** A query by the paths of its pictures. */
export interface WorstQuery {
  readonly query: string;
  readonly before?: number;
  readonly after?: number;
  readonly referenceNearest: readonly string[];
  readonly candidateNearest: readonly string[];
}

export interface RankingReport {
  readonly schema: "osnet-ranking/1";
  readonly passed: boolean;
  readonly dataset: DatasetFacts & { readonly name: string };
  readonly distance: DistanceMetric;
  readonly reranked: boolean;
  readonly limits: RankingLimits;
  readonly broken: readonly string[];
  readonly reference: {
    readonly party: Party;
    readonly backend: string;
    readonly figures?: RankingFigures;
  };
  readonly candidates: readonly RankedCandidate[];
}

const WORST = 10;

/**
 * Judges a comparison by the limits. Where images are tied, the worst order of each side is compared with the other's too: a
 * candidate that puts everybody at one distance fails, however its files are ordered.
 */
export function judgeRanking(
  { candidate, backend, nonFinite }: Pick<RankedCandidate, "candidate" | "backend" | "nonFinite">,
  { candidate: { figures }, reference, parity, queries }: RankingComparison,
  limits: RankingLimits,
  pathsOf: { readonly query: (index: number) => string; readonly gallery: (index: number) => string },
): RankedCandidate {
  const failures: string[] =
    nonFinite > 0 ? [`the features of ${nonFinite} pictures have a value that is NaN or infinite`] : [];
  const before = reference.figures;
  if (figures && before) {
    const mapDrop = Math.max(before.mAP - figures.mAP, before.ties.mAPWorst - figures.ties.mAPWorst);
    if (mapDrop > limits.maxMapDrop)
      failures.push(`mAP drops by ${points(mapDrop)}, more than ${points(limits.maxMapDrop)}`);
    const rank1Drop = Math.max(
      (before.cmc[0] ?? 0) - (figures.cmc[0] ?? 0),
      before.ties.rank1Worst - figures.ties.rank1Worst,
    );
    if (rank1Drop > limits.maxRank1Drop)
      failures.push(`rank-1 drops by ${points(rank1Drop)}, more than ${points(limits.maxRank1Drop)}`);
  }
  if (parity.flips.share > limits.maxFlips)
    failures.push(
      `${percent(parity.flips.share)} of queries have another nearest image, more than ${percent(limits.maxFlips)}`,
    );
  return {
    candidate,
    backend,
    nonFinite,
    passed: failures.length === 0,
    failures,
    ...(figures ? { figures } : {}),
    parity,
    worst: worstOf(queries).map((query) => ({
      query: pathsOf.query(query.query),
      ...(query.reference ? { before: query.reference.ap } : {}),
      ...(query.candidate ? { after: query.candidate.ap } : {}),
      referenceNearest: query.referenceNearest.map(pathsOf.gallery),
      candidateNearest: query.candidateNearest.map(pathsOf.gallery),
    })),
  };
}

/** With labels, the queries whose average precision fell most; without, those whose order changed most. */
function worstOf(queries: readonly QueryComparison[]): readonly QueryComparison[] {
  const loss = ({ reference, candidate, kendallTau }: QueryComparison): number =>
    reference && candidate ? reference.ap - candidate.ap : 1 - kendallTau;
  return queries
    .filter((query) => loss(query) > 0)
    .toSorted((a, b) => loss(b) - loss(a) || a.query - b.query)
    .slice(0, WORST);
}

/** A share as percentage points, such as `0.12 points`. */
export function points(share: number): string {
  return `${(100 * share).toFixed(2)} points`;
}

/** A share as a percentage, such as `94.2 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

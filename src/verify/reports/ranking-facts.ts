import { plural } from "../../core/text.js";
import type { Change } from "../ranking/compare.js";
import type { RankingFigures } from "../ranking/evaluate.js";
import type { RankedCandidate, RankedSide, RankingCheck, RankingReport } from "../ranking/report.js";
import type { EntryRanking } from "../suite/report.js";
import { provenFor } from "./facts.js";

/** Wording that ranking reports share. */

/** The ranks of a CMC curve that tables show. */
const RANKS = [1, 5, 10, 20] as const;

export const FIGURE_NAMES: readonly string[] = ["mAP", ...RANKS.map((rank) => `rank-${rank}`), "mINP"];

/** A model's shares, in the order of `FIGURE_NAMES`. */
export function sharesOf({ mAP, cmc, mINP }: RankingFigures): readonly number[] {
  return [mAP, ...RANKS.map((rank) => cmc[rank - 1] ?? cmc.at(-1) ?? 0), mINP];
}

/** The reference, then the candidates. */
export function sidesOf({ reference, candidates }: RankingReport): readonly RankedSide[] {
  return [reference, ...candidates];
}

/** A share as percentage points, such as `0.12 points`. */
function points(share: number): string {
  return `${(100 * share).toFixed(2)} points`;
}

/** A share as a percentage, such as `94.2 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** A change of a share, and its interval. */
export function changeText({ value, low, high }: Change): string {
  return `${value > 0 ? "+" : ""}${points(value)} (95 % interval ${(100 * low).toFixed(2)} to ${(100 * high).toFixed(2)})`;
}

export function datasetText({ dataset, distance, reranked }: RankingReport): string {
  const { layout, queries, gallery, identities, cameras, distractors, queriesWithoutMatch } = dataset;
  return [
    `${layout} layout`,
    plural(queries, "query", "queries"),
    plural(gallery, "gallery image"),
    ...(identities > 0
      ? [plural(identities, "identity", "identities")]
      : ["no labels: the order of neighbours is compared"]),
    ...(cameras > 0 ? [plural(cameras, "camera")] : []),
    ...(distractors > 0 ? [plural(distractors, "distractor")] : []),
    ...(queriesWithoutMatch > 0
      ? [`${plural(queriesWithoutMatch, "query", "queries")} without a match, skipped`]
      : []),
    `${distance} distance${reranked ? ", re-ranked" : ""}`,
  ].join(", ");
}

/** How the reference itself was verified; empty if it is not a checkpoint. */
export function referenceText({ reference: { party, proof } }: RankingReport): string {
  if (!proof) return "";
  return proof.status === "proven"
    ? `${party.name} is run as an ONNX file that is proven to compute the network for ${provenFor(proof)}, and was verified on ${plural(proof.images, "image")}`
    : `${party.name} is run as an ONNX file that was verified on ${plural(proof.images, "image")}`;
}

/** An entry's ranking in a suite: the figures, and the limits that are exceeded. */
export function entryRankingText({ dataset, mAP, rank1, checks }: EntryRanking): string {
  const figure = (name: string, [before, after]: readonly [number, number]): string =>
    `${name} ${percent(before)} to ${percent(after)}`;
  return [
    `ranking on ${dataset.name}`,
    ...(mAP ? [figure("mAP", mAP)] : []),
    ...(rank1 ? [figure("rank-1", rank1)] : []),
    ...checks.filter(({ passed }) => !passed).map(checkText),
  ].join(", ");
}

/** The result of a check, in one clause. */
export function checkText({ figure, value, limit, passed }: RankingCheck): string {
  switch (figure) {
    case "finite":
      return passed
        ? "all features are finite"
        : `the features of ${plural(value, "picture")} have NaN or infinite values`;
    case "flips":
      return `the nearest image changes for ${percent(value)} of queries (limit: ${percent(limit)})`;
    default: {
      const name = figure === "map-drop" ? "mAP" : "rank-1";
      const moved = value > 0 ? `drops by ${points(value)}` : "does not drop";
      return `${name} ${moved} (limit: ${points(limit)})`;
    }
  }
}

/** The limits that were exceeded, in one clause; empty if there are none. */
export function failureText({ checks }: RankedCandidate): string {
  return checks
    .filter(({ passed }) => !passed)
    .map(checkText)
    .join("; ");
}

export function verdictText({ passed, candidates }: RankingReport): string {
  const failing = candidates.filter((candidate) => !candidate.passed).length;
  const all = candidates.length === 1 ? "the candidate ranks" : `${candidates.length} candidates rank`;
  return passed
    ? `${all} as the reference does, within the limits`
    : candidates.length === 1
      ? "the candidate does not rank as the reference does"
      : `${failing} of ${candidates.length} candidates do not rank as the reference does`;
}

/** How the nearest images and their order changed, one clause each. */
export function orderTexts({ parity, figures }: RankedCandidate): readonly string[] {
  const { flips, overlap, kendallTau, drift } = parity;
  const directions =
    flips.toWrong === undefined ? "" : ` (${flips.toWrong} to a wrong one, ${flips.toRight} to a right one)`;
  return [
    `nearest image: changed for ${plural(flips.count, "query", "queries")}, ${percent(flips.share)}${directions}`,
    `overlap: ${overlap.map(({ k, value }) => `${percent(value)} of the nearest ${k}`).join(", ")}`,
    `Kendall's τ of the nearest 100: ${kendallTau.toFixed(4)}; distances differ by up to ${drift.max.toExponential(1)} of the largest`,
    ...(figures && figures.ties.queries > 0
      ? [
          `ties: at ${plural(figures.ties.queries, "query", "queries")}; by their order, mAP is between ${percent(figures.ties.mAPWorst)} and ${percent(figures.ties.mAPBest)}`,
        ]
      : []),
  ];
}

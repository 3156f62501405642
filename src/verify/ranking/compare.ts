import { mulberry32 } from "../../core/functions.js";
import type { DistanceRows } from "./distances.js";
import {
  evaluateQuery,
  type Labels,
  type QueryResult,
  type RankingFigures,
  singleShotCmc,
  summarise,
} from "./evaluate.js";

/** A histogram: the number of values in bins of equal width, from 0 to `range`. */
export interface Histogram {
  /** Upper end of the last bin, in the unit of the values. */
  readonly range: number;
  /** The number of values in each bin, from 0 up. */
  readonly counts: readonly number[];
}

interface HistogramBuilder {
  add(value: number): void;
  result(): Histogram;
}

/** Even, as bins are joined two by two. */
const BINS = 64;

/**
 * A histogram of values whose range is not known in advance: if a value is beyond the last bin, pairs of bins are
 * merged until it fits, so no values are stored. Negative values, which result from rounding 0, count as 0; non-finite
 * values do not count.
 */
export function createHistogram(): HistogramBuilder {
  const counts = new Float64Array(BINS);
  let width = 0;
  return {
    add(value) {
      if (!Number.isFinite(value)) return;
      if (width === 0 && value > 0) width = (2 * value) / BINS;
      while (value >= width * BINS && width > 0) {
        for (let bin = 0; bin < BINS; bin++)
          counts[bin] = bin < BINS / 2 ? (counts[2 * bin] as number) + (counts[2 * bin + 1] as number) : 0;
        width *= 2;
      }
      const bin = width === 0 ? 0 : Math.max(0, Math.floor(value / width));
      counts[bin] = (counts[bin] as number) + 1;
    },
    result: () => ({ range: width * BINS, counts: [...counts] }),
  };
}

/** Two models on the same queries and gallery. */
export interface RankingComparison {
  /** Figures of the reference model. */
  readonly reference: RankingSide;
  /** Figures of the model under test. */
  readonly candidate: RankingSide;
  /** The change from one to the other. */
  readonly parity: RankingParity;
  /** Per query, in the order of the data set. */
  readonly queries: readonly QueryComparison[];
}

/** One model on the queries and the gallery. */
export interface RankingSide {
  /** Absent if the pictures have no labels. */
  readonly figures?: RankingFigures;
  /** Distances of queries from images of their identity under other cameras, and from all others. Absent without labels. */
  readonly spread?: Spread;
  /** CMC with one image of each identity in the gallery, if requested. */
  readonly singleShot?: readonly number[];
}

/** How well the distances of matches and of other images are separated. */
interface Spread {
  /** Distances between a query and images of its identity under other cameras. */
  readonly same: Histogram;
  /** Distances between a query and images of other identities. */
  readonly different: Histogram;
}

/**
 * A change and its 95 % bootstrap interval, over queries drawn with replacement, with the same draw for both models.
 */
export interface Change {
  /** Candidate minus reference, from −1 to 1. */
  readonly value: number;
  /** Lower end of the interval. */
  readonly low: number;
  /** Upper end of the interval. */
  readonly high: number;
}

/** How much the candidate's rankings differ from the reference's, over all queries. */
export interface RankingParity {
  /** Candidate minus reference; absent without labels. */
  readonly mAP?: Change;
  /** Change of the share of queries whose nearest image is a match; absent without labels. */
  readonly rank1?: Change;
  /** Queries whose nearest gallery image changes, or becomes tied with the next. */
  readonly flips: {
    readonly count: number;
    readonly share: number;
    /** From another identity to the query's; the reverse; neither or both. Absent without labels. */
    readonly toRight?: number;
    readonly toWrong?: number;
    readonly other?: number;
  };
  /** Mean share of the reference's k nearest that are also among the candidate's. */
  readonly overlap: readonly { readonly k: number; readonly value: number }[];
  /** Mean Kendall τ-b of the two orders of the reference's 100 nearest. */
  readonly kendallTau: number;
  /** |candidate − reference| of distances, relative to the reference's largest. */
  readonly drift: { readonly max: number; readonly mean: number };
}

/** Optional results of a comparison. */
export interface CompareOptions {
  /** Whether CMC is also computed with one image of each gallery identity. */
  readonly singleShot?: boolean;
}

/** One query by both models. */
export interface QueryComparison {
  /** Position in the list of queries, from 0. */
  readonly query: number;
  /** Its ranking by the reference; absent without labels. */
  readonly reference?: QueryResult;
  /** Its ranking by the candidate; absent without labels. */
  readonly candidate?: QueryResult;
  /** Gallery positions of the ten nearest. */
  readonly referenceNearest: readonly number[];
  /** Likewise for the candidate, nearest first. */
  readonly candidateNearest: readonly number[];
  /** Whether the nearest gallery image changes, or becomes tied with the next. */
  readonly isFlipped: boolean;
  /** Kendall τ-b of the two orders of the reference's 100 nearest: 1 for the same order, −1 for its reverse. */
  readonly kendallTau: number;
}

/** Labels of both sets; without them, each picture is a query among all others. */
export interface RankingLabels {
  /** One identity and camera for each query. */
  readonly queries: Labels;
  /** One identity and camera for each gallery image. */
  readonly gallery: Labels;
}

const OVERLAPS = [1, 5, 10, 20] as const;
/** The number of nearest images for Kendall's τ: as many as a person would page through. */
const ORDERED = 100;
const SHOWN = 10;
const RESAMPLES = 2000;

/**
 * Compares two rankings, query by query, so that only a few rows of distances are in memory.
 *
 * @param labels absent: queries and gallery are the same pictures, and a picture is not compared with itself
 * @throws InputError (`argument`) if no query has a match
 */
export function compareRankings(
  reference: DistanceRows,
  candidate: DistanceRows,
  labels: RankingLabels | undefined,
  { singleShot = false }: CompareOptions = {},
): RankingComparison {
  const queries: QueryComparison[] = [];
  const sides = [sideSums(labels, singleShot), sideSums(labels, singleShot)] as const;
  const overlaps = new Float64Array(OVERLAPS.length);
  let largest = 0;
  let farthestApart = 0;
  let sumApart = 0;
  const others = candidate.rows()[Symbol.iterator]();
  for (const expected of reference.rows()) {
    const query = queries.length;
    const { value: found } = others.next();
    if (!found) throw new Error("both rankings have the same queries");
    for (let g = 0; g < expected.length; g++) {
      const apart = Math.abs((found[g] as number) - (expected[g] as number));
      // There is no distance from non-finite features; they are counted separately.
      if (apart < Number.POSITIVE_INFINITY) {
        if (apart > farthestApart) farthestApart = apart;
        sumApart += apart;
      }
      if ((expected[g] as number) > largest) largest = expected[g] as number;
    }
    const kept = keptFor(query, labels);
    sides[0].add(query, expected, kept);
    sides[1].add(query, found, kept);
    const before = nearestOf(expected, kept, ORDERED);
    const after = nearestOf(found, kept, Math.max(...OVERLAPS));
    for (const [index, k] of OVERLAPS.entries()) {
      const set = new Set(after.slice(0, k));
      const top = before.slice(0, k);
      const shared = top.filter((g) => set.has(g)).length;
      overlaps[index] = (overlaps[index] as number) + (top.length === 0 ? 1 : shared / top.length);
    }
    queries.push({
      query,
      ...(labels
        ? {
            reference: evaluateQuery(query, expected, labels.queries, labels.gallery),
            candidate: evaluateQuery(query, found, labels.queries, labels.gallery),
          }
        : {}),
      referenceNearest: before.slice(0, SHOWN),
      candidateNearest: after.slice(0, SHOWN),
      isFlipped: before[0] !== after[0] || (isTied(after, found) && !isTied(before, expected)),
      kendallTau: kendallTau(before, expected, found),
    });
  }
  const count = Math.max(1, queries.length);
  const results = (side: "reference" | "candidate"): readonly QueryResult[] =>
    queries.flatMap((query) => query[side] ?? []);
  return {
    reference: labels
      ? { figures: summarise(results("reference"), reference.gallery), ...sides[0].result() }
      : {},
    candidate: labels
      ? { figures: summarise(results("candidate"), candidate.gallery), ...sides[1].result() }
      : {},
    parity: {
      ...(labels ? changesOf(results("reference"), results("candidate")) : {}),
      flips: flipsOf(queries, labels),
      overlap: OVERLAPS.map((k, index) => ({ k, value: (overlaps[index] as number) / count })),
      kendallTau: queries.reduce((sum, query) => sum + query.kendallTau, 0) / count,
      drift: {
        max: ratio(farthestApart, largest),
        mean: ratio(sumApart / Math.max(1, count * reference.gallery), largest),
      },
    },
    queries,
  };
}

/** Sums over the queries of one side. */
interface SideSums {
  add(query: number, distances: Float64Array, kept: (g: number) => boolean): void;
  result(): Omit<RankingSide, "figures">;
}

function sideSums(labels: RankingLabels | undefined, singleShot: boolean): SideSums {
  if (!labels) return { add() {}, result: () => ({}) };
  const { queries, gallery } = labels;
  const [same, different]: readonly HistogramBuilder[] = [createHistogram(), createHistogram()];
  if (!same || !different) throw new Error("two histograms");
  const shots: Float64Array[] = [];
  return {
    add(query, distances, kept) {
      const pid = queries.pids[query];
      for (let g = 0; g < distances.length; g++)
        if (kept(g)) (gallery.pids[g] === pid ? same : different).add(distances[g] as number);
      const cmc = singleShot ? singleShotCmc(query, distances, queries, gallery) : undefined;
      if (cmc) shots.push(cmc);
    },
    result: () => ({
      spread: { same: same.result(), different: different.result() },
      ...(singleShot ? { singleShot: meanOf(shots) } : {}),
    }),
  };
}

function meanOf(curves: readonly Float64Array[]): readonly number[] {
  return Array.from(
    curves[0] ?? [],
    (_, k) => curves.reduce((sum, curve) => sum + (curve[k] as number), 0) / curves.length,
  );
}

/** Whether the two nearest have the same distance, so that the order of files decides which comes first. */
function isTied([first, second]: readonly number[], distances: Float64Array): boolean {
  return first !== undefined && second !== undefined && distances[first] === distances[second];
}

function ratio(value: number, whole: number): number {
  return value === 0 ? 0 : value / whole;
}

/** Which gallery images are part of a query's ranking. */
function keptFor(query: number, labels: RankingLabels | undefined): (g: number) => boolean {
  if (!labels) return (g) => g !== query;
  const { pids, camids } = labels.gallery;
  const pid = labels.queries.pids[query];
  const camid = labels.queries.camids[query];
  return (g) => pids[g] !== pid || camids[g] !== camid;
}

/** The `count` nearest, nearest first, equal ones in gallery order. */
function nearestOf(distances: Float64Array, kept: (g: number) => boolean, count: number): readonly number[] {
  const nearest: number[] = [];
  const comesBefore = (a: number, b: number): boolean => (distances[a] as number) < (distances[b] as number);
  for (let g = 0; g < distances.length; g++) {
    if (!kept(g)) continue;
    const last = nearest[nearest.length - 1];
    if (nearest.length === count && last !== undefined && !comesBefore(g, last)) continue;
    let place = nearest.length;
    while (place > 0 && comesBefore(g, nearest[place - 1] as number)) place--;
    nearest.splice(place, 0, g);
    if (nearest.length > count) nearest.pop();
  }
  return nearest;
}

/** Kendall's τ-b of two orders of some images; 1 if both are equal, also if all distances are equal in both. */
function kendallTau(images: readonly number[], first: Float64Array, second: Float64Array): number {
  let balance = 0;
  let [firstPairs, secondPairs] = [0, 0];
  for (const [index, a] of images.entries())
    for (const b of images.slice(index + 1)) {
      const one = Math.sign((first[a] as number) - (first[b] as number));
      const two = Math.sign((second[a] as number) - (second[b] as number));
      balance += one * two;
      firstPairs += one * one;
      secondPairs += two * two;
    }
  if (firstPairs === 0 && secondPairs === 0) return 1;
  return firstPairs === 0 || secondPairs === 0 ? 0 : balance / Math.sqrt(firstPairs * secondPairs);
}

function flipsOf(
  queries: readonly QueryComparison[],
  labels: RankingLabels | undefined,
): RankingParity["flips"] {
  const flipped = queries.filter(({ isFlipped }) => isFlipped);
  const base = { count: flipped.length, share: ratio(flipped.length, queries.length) };
  if (!labels) return base;
  const isRight = (query: number, nearest: readonly number[]): boolean =>
    labels.gallery.pids[nearest[0] ?? -1] === labels.queries.pids[query];
  let [toRight, toWrong] = [0, 0];
  for (const { query, referenceNearest, candidateNearest } of flipped) {
    const before = isRight(query, referenceNearest);
    const after = isRight(query, candidateNearest);
    if (after && !before) toRight++;
    if (before && !after) toWrong++;
  }
  return { ...base, toRight, toWrong, other: flipped.length - toRight - toWrong };
}

function changesOf(
  reference: readonly QueryResult[],
  candidate: readonly QueryResult[],
): { readonly mAP: Change; readonly rank1: Change } {
  const valid = reference.flatMap((result, index) => {
    const other = candidate[index];
    return result.isValid && other ? [[result, other] as const] : [];
  });
  return {
    mAP: bootstrap(valid.map(([before, after]) => after.ap - before.ap)),
    rank1: bootstrap(valid.map(([before, after]) => hit(after) - hit(before))),
  };
}

function hit({ firstMatch }: QueryResult): number {
  return firstMatch === 1 ? 1 : 0;
}

/** The mean of the queries' differences, and the 2.5 and 97.5 percentiles of means of as many drawn with replacement. */
function bootstrap(differences: readonly number[]): Change {
  const random = mulberry32(0);
  const count = differences.length;
  const value = differences.reduce((sum, difference) => sum + difference, 0) / count;
  const means = new Float64Array(RESAMPLES);
  for (let resample = 0; resample < RESAMPLES; resample++) {
    let sum = 0;
    for (let draw = 0; draw < count; draw++) sum += differences[Math.floor(random() * count)] as number;
    means[resample] = sum / count;
  }
  means.sort();
  return {
    value,
    low: means[Math.floor(0.025 * RESAMPLES)] as number,
    high: means[Math.ceil(0.975 * RESAMPLES) - 1] as number,
  };
}

import { InputError } from "../../core/errors.js";
import type { DistanceRows } from "./distances.js";

/**
 * Re-identification figures, by the rules of torchreid (`torchreid/metrics/rank.py`, `eval_market1501`):
 *
 * - gallery images of the query's identity *and* camera are removed before its ranking;
 * - a query with no other image of its identity in the gallery is skipped;
 * - distractors (identity 0) stay in the gallery and match no one; images of identity −1 are dropped by whoever reads the
 *   data set;
 * - average precision is the mean, over a query's matches, of (matches up to here) / (rank).
 *
 * Where a match and another image are at the same distance, the order is that of the gallery, as after
 * `numpy.argsort(kind="stable")`. That order means nothing, so the figures of the best and the worst order stand beside it: a
 * model that gives every image the same feature must not score by the order of files.
 *
 * Ranks are counted, not sorted: a rank is one more than the number of images that come before.
 */

/** Identity and camera of each image, whole numbers. */
export interface Labels {
  readonly pids: Int32Array;
  readonly camids: Int32Array;
}

/** What one query's ranking is worth. */
export interface QueryResult {
  /** Position in the list of queries, from 0. */
  readonly query: number;
  /** Whether its identity is in the gallery under another camera; if not, all else is 0. */
  readonly isValid: boolean;
  /** Rank of the first match, from 1. */
  readonly firstMatch: number;
  /** Average precision, 0 to 1, with ties in gallery order. */
  readonly ap: number;
  /** The same if images at a match's distance come after it, and before it. */
  readonly apBest: number;
  readonly apWorst: number;
  /** Rank of the first match if images at its distance come before it. */
  readonly firstMatchWorst: number;
  /** Inverse negative penalty: number of matches / rank of the last one (Ye et al., TPAMI 2021). */
  readonly inp: number;
  /** Gallery position of the nearest image that was not removed; −1 if there was none. */
  readonly nearest: number;
  readonly matches: number;
}

/** Figures over all valid queries, 0 to 1. */
export interface RankingFigures {
  /** Queries that count. */
  readonly queries: number;
  /** Queries of which no other camera has an image. */
  readonly skipped: number;
  readonly mAP: number;
  /** Mean inverse negative penalty. */
  readonly mINP: number;
  /** `cmc[k − 1]`: the share of queries with a match among the first k. */
  readonly cmc: readonly number[];
  /** Queries at which a match and another image are at the same distance, and the figures of the best and worst order. */
  readonly ties: {
    readonly queries: number;
    readonly mAPBest: number;
    readonly mAPWorst: number;
    readonly rank1Worst: number;
  };
}

/** torchreid's `max_rank`. */
const MAX_RANK = 50;

/** One query's result. */
export function evaluateQuery(
  query: number,
  distances: Float64Array,
  queryLabels: Labels,
  galleryLabels: Labels,
): QueryResult {
  const pid = queryLabels.pids[query] as number;
  const camid = queryLabels.camids[query] as number;
  const { pids, camids } = galleryLabels;
  const matches: number[] = [];
  let nearest = -1;
  for (let g = 0; g < distances.length; g++) {
    if (pids[g] === pid) {
      if (camids[g] === camid) continue;
      matches.push(g);
    }
    if (nearest < 0 || (distances[g] as number) < (distances[nearest] as number)) nearest = g;
  }
  const count = matches.length;
  if (count === 0) return { ...NO_MATCH, query, nearest };
  matches.sort((a, b) => (distances[a] as number) - (distances[b] as number) || a - b);
  const places = Float64Array.from(matches, (g) => distances[g] as number);
  const farthest = places[count - 1] as number;
  // before[p]: images, matches aside, that come before the match at place p and after the one before it.
  const before = new Uint32Array(count + 1);
  const beforeBest = new Uint32Array(count + 1);
  const beforeWorst = new Uint32Array(count + 1);
  for (let g = 0; g < distances.length; g++) {
    const distance = distances[g] as number;
    if (distance > farthest || pids[g] === pid) continue;
    const worst = lowerBound(places, distance);
    let stable = worst;
    let best = worst;
    while (best < count && places[best] === distance) {
      if ((matches[best] as number) < g) stable = best + 1;
      best++;
    }
    before[stable] = (before[stable] as number) + 1;
    beforeWorst[worst] = (beforeWorst[worst] as number) + 1;
    beforeBest[best] = (beforeBest[best] as number) + 1;
  }
  const stable = precisionOf(before, count);
  return {
    query,
    isValid: true,
    firstMatch: stable.first,
    ap: stable.ap,
    apBest: precisionOf(beforeBest, count).ap,
    apWorst: precisionOf(beforeWorst, count).ap,
    firstMatchWorst: 1 + (beforeWorst[0] as number),
    inp: count / stable.last,
    nearest,
    matches: count,
  };
}

const NO_MATCH = {
  isValid: false,
  firstMatch: 0,
  ap: 0,
  apBest: 0,
  apWorst: 0,
  firstMatchWorst: 0,
  inp: 0,
  matches: 0,
} as const;

/** The first place whose distance is at least this. */
function lowerBound(places: Float64Array, distance: number): number {
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((places[middle] as number) < distance) low = middle + 1;
    else high = middle;
  }
  return low;
}

function precisionOf(
  before: Uint32Array,
  matches: number,
): { readonly ap: number; readonly first: number; readonly last: number } {
  let others = 0;
  let sum = 0;
  let first = 0;
  let last = 0;
  for (let place = 0; place < matches; place++) {
    others += before[place] as number;
    last = others + place + 1;
    if (place === 0) first = last;
    sum += (place + 1) / last;
  }
  return { ap: sum / matches, first, last };
}

/**
 * Figures of many queries.
 *
 * @throws InputError (`argument`) if no query's identity is in the gallery under another camera
 */
export function summarise(results: readonly QueryResult[], gallery: number): RankingFigures {
  const valid = results.filter(({ isValid }) => isValid);
  const count = valid.length;
  if (count === 0)
    throw new InputError({
      code: "argument",
      subject: "queries",
      found: `${results.length} without a match in the gallery`,
      expected: "an identity that the gallery shows under another camera",
      remedy: "check the identities and cameras of both sets",
    });
  const hits = new Uint32Array(Math.min(MAX_RANK, gallery));
  for (const { firstMatch } of valid)
    if (firstMatch <= hits.length) hits[firstMatch - 1] = (hits[firstMatch - 1] as number) + 1;
  let reached = 0;
  const cmc = Array.from(hits, (hit) => {
    reached += hit;
    return reached / count;
  });
  const mean = (value: (result: QueryResult) => number): number =>
    valid.reduce((sum, result) => sum + value(result), 0) / count;
  return {
    queries: count,
    skipped: results.length - count,
    mAP: mean(({ ap }) => ap),
    mINP: mean(({ inp }) => inp),
    cmc,
    ties: {
      queries: valid.filter(({ apBest, apWorst }) => apBest !== apWorst).length,
      mAPBest: mean(({ apBest }) => apBest),
      mAPWorst: mean(({ apWorst }) => apWorst),
      rank1Worst: mean(({ firstMatchWorst }) => (firstMatchWorst === 1 ? 1 : 0)),
    },
  };
}

/** Evaluates all queries; see above for the rules. */
export function evaluateRanking(
  rows: DistanceRows,
  queryLabels: Labels,
  galleryLabels: Labels,
): { readonly figures: RankingFigures; readonly queries: readonly QueryResult[] } {
  const queries: QueryResult[] = [];
  for (const distances of rows.rows())
    queries.push(evaluateQuery(queries.length, distances, queryLabels, galleryLabels));
  return { figures: summarise(queries, rows.gallery), queries };
}

/**
 * CMC by the rules of CUHK03's classic split (`eval_cuhk03`): one image of each gallery identity takes part. torchreid
 * draws ten times and averages; this is the expectation of that draw, so that it is the same every time.
 *
 * For each image that may be drawn of the query's identity, every other identity comes before it with the share of its images
 * that are nearer, independently: the number that do follows a Poisson-binomial distribution, whose first terms are added up.
 *
 * @returns `cmc[k − 1]` for one query, or undefined if it has no match
 */
export function singleShotCmc(
  query: number,
  distances: Float64Array,
  queryLabels: Labels,
  { pids, camids }: Labels,
  maxRank: number = MAX_RANK,
): Float64Array | undefined {
  const pid = queryLabels.pids[query] as number;
  const camid = queryLabels.camids[query] as number;
  const matches: number[] = [];
  const identities = new Map<number, number[]>();
  for (let g = 0; g < distances.length; g++) {
    const own = pids[g] as number;
    if (own === pid) {
      if (camids[g] !== camid) matches.push(g);
      continue;
    }
    const images = identities.get(own);
    if (images) images.push(g);
    else identities.set(own, [g]);
  }
  if (matches.length === 0) return undefined;
  const cmc = new Float64Array(Math.min(maxRank, distances.length));
  for (const match of matches) {
    const distance = distances[match] as number;
    // chance[k]: that k identities come before the match.
    const chance = new Float64Array(cmc.length);
    chance[0] = 1;
    for (const images of identities.values()) {
      const nearer = images.filter(
        (g) => (distances[g] as number) < distance || (distances[g] === distance && g < match),
      ).length;
      if (nearer === 0) continue;
      const share = nearer / images.length;
      for (let k = chance.length - 1; k >= 0; k--)
        chance[k] = (chance[k] as number) * (1 - share) + (k > 0 ? (chance[k - 1] as number) * share : 0);
    }
    let reached = 0;
    for (let k = 0; k < cmc.length; k++) {
      reached += chance[k] as number;
      cmc[k] = (cmc[k] as number) + reached / matches.length;
    }
  }
  return cmc;
}

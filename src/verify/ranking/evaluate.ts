import { InputError } from "../../core/errors.js";
import type { DistanceRows } from "./distances.js";

/**
 * Re-identification metrics, by the rules of torchreid (`torchreid/metrics/rank.py`, `eval_market1501`):
 *
 * - gallery images of the query's identity *and* camera are removed before its ranking;
 * - a query with no other image of its identity in the gallery is skipped;
 * - distractors (identity 0) stay in the gallery and match no one; images of identity −1 are dropped when a data set is
 *   read;
 * - average precision is the mean, over a query's matches, of (matches up to here) / (rank).
 *
 * If a match and another image are at the same distance, the order is that of the gallery, as after
 * `numpy.argsort(kind="stable")`. That order is arbitrary, so the metrics of the best and the worst order are reported
 * too: a model that gives every image the same feature must not score by the order of files.
 *
 * Ranks are counted, not sorted: a rank is one more than the number of images that come before.
 */

/** Identity and camera of each image, integers. */
export interface Labels {
  /** Identity of each image: the same number for the same person; 0 is a distractor. */
  readonly pids: Int32Array;
  /** Camera of each image: images of the query's identity from its own camera do not count. */
  readonly camids: Int32Array;
}

/** The metrics of one query's ranking. */
export interface QueryResult {
  /** Position in the list of queries, from 0. */
  readonly query: number;
  /** Whether its identity is in the gallery under another camera; if not, all other fields are 0. */
  readonly isValid: boolean;
  /** Rank of the first match, from 1. */
  readonly firstMatch: number;
  /** Average precision, 0 to 1, with ties in gallery order. */
  readonly ap: number;
  /** The same if images at a match's distance come after it, and before it. */
  readonly apBest: number;
  /** The least that the average precision can be under ties. */
  readonly apWorst: number;
  /** Rank of the first match if images at its distance come before it. */
  readonly firstMatchWorst: number;
  /** Inverse negative penalty: number of matches / rank of the last one (Ye et al., TPAMI 2021). */
  readonly inp: number;
  /** Gallery position of the nearest image that was not removed; −1 if there is none. */
  readonly nearest: number;
  /** Gallery images of its identity under other cameras. */
  readonly matches: number;
}

/** Metrics over all valid queries, 0 to 1. */
export interface RankingFigures {
  /** Queries that count. */
  readonly queries: number;
  /** Queries without an image from another camera. */
  readonly skipped: number;
  /** Mean average precision. */
  readonly mAP: number;
  /** Mean inverse negative penalty. */
  readonly mINP: number;
  /** `cmc[k − 1]`: the fraction of queries with a match among the first k. */
  readonly cmc: readonly number[];
  /** Queries with a match and another image at the same distance, and the metrics of the best and worst order. */
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
  const matches = imagesOf(pid, galleryLabels)
    .filter((g) => camids[g] !== camid)
    .sort((a, b) => (distances[a] as number) - (distances[b] as number) || a - b);
  const count = matches.length;
  const places = Float64Array.from(matches, (g) => distances[g] as number);
  const [first = Number.NEGATIVE_INFINITY, farthest = first] = [places[0], places[count - 1]];
  const { starts, scale } = startsOf(places);
  // before[p]: images of others that are nearer than the match at place p, and not than the one before it.
  const before = new Uint32Array(count + 1);
  const tied: number[] = [];
  let nearest = -1;
  let least = Number.POSITIVE_INFINITY;
  for (let g = 0; g < distances.length; g++) {
    const distance = distances[g] as number;
    if (pids[g] === pid) continue;
    if (distance < least || nearest < 0) {
      least = distance;
      nearest = g;
    }
    if (distance > farthest) continue;
    let place = distance > first ? (starts[((distance - first) * scale) | 0] as number) : 0;
    while ((places[place] as number) < distance) place++;
    if (places[place] === distance) tied.push(g);
    else before[place] = (before[place] as number) + 1;
  }
  const [match = -1] = matches;
  if (match >= 0 && (nearest < 0 || first < least || (first === least && match < nearest))) nearest = match;
  if (count === 0) return { ...NO_MATCH, query, nearest };
  const [best, worst] = [before.slice(), before.slice()];
  for (const g of tied) {
    const distance = distances[g] as number;
    let place = lowerBound(places, distance);
    worst[place] = (worst[place] as number) + 1;
    let stable = place;
    for (; places[place] === distance; place++) if ((matches[place] as number) < g) stable = place + 1;
    before[stable] = (before[stable] as number) + 1;
    best[place] = (best[place] as number) + 1;
  }
  const stable = precisionOf(before, count);
  return {
    query,
    isValid: true,
    firstMatch: stable.first,
    ap: stable.ap,
    apBest: tied.length === 0 ? stable.ap : precisionOf(best, count).ap,
    apWorst: tied.length === 0 ? stable.ap : precisionOf(worst, count).ap,
    firstMatchWorst: 1 + (worst[0] as number),
    inp: count / stable.last,
    nearest,
    matches: count,
  };
}

/** Gallery positions of each identity, found once for a gallery. */
const positions = new WeakMap<Labels, ReadonlyMap<number, readonly number[]>>();

function imagesOf(pid: number, labels: Labels): readonly number[] {
  let known = positions.get(labels);
  if (!known) {
    const found = new Map<number, number[]>();
    for (const [g, own] of labels.pids.entries()) {
      const images = found.get(own);
      if (images) images.push(g);
      else found.set(own, [g]);
    }
    known = found;
    positions.set(labels, known);
  }
  return known.get(pid) ?? [];
}

const BUCKETS = 512;

/**
 * The start of a distance's position among the matches, which saves a binary search: the distances from the first to
 * the last match are divided into buckets, and `starts[b]` is the number of matches in earlier ones, all of which are
 * nearer than anything in bucket b, as a bucket's number grows with the distance.
 */
function startsOf(places: Float64Array): { readonly starts: Uint32Array; readonly scale: number } {
  const first = places[0] ?? 0;
  const range = (places[places.length - 1] ?? 0) - first;
  const scale = range > 0 && range < Number.POSITIVE_INFINITY ? (BUCKETS - 1) / range : 0;
  const starts = new Uint32Array(BUCKETS + 1);
  // A range so small that its scale is infinite has its buckets in no order: then all search starts at the first.
  if (!Number.isFinite(scale)) return { starts, scale: 0 };
  for (const place of places) {
    const bucket = ((place - first) * scale) | 0;
    starts[bucket + 1] = (starts[bucket + 1] as number) + 1;
  }
  for (let bucket = 1; bucket <= BUCKETS; bucket++)
    starts[bucket] = (starts[bucket] as number) + (starts[bucket - 1] as number);
  return { starts, scale };
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

/** The first position whose distance is at least this. */
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
 * Metrics of many queries.
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
      expected: "an identity with gallery images from another camera",
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

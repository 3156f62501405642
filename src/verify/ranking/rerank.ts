import { InputError } from "../../core/errors.js";
import type { RealTensor } from "../../core/tensor.js";
import { type DistanceMetric, type DistanceRows, distanceRows } from "./distances.js";

/**
 * Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), as `torchreid.utils.re_ranking` computes it: the distance
 * is a mix of the first distance and the Jaccard distance between sets of k-reciprocal neighbours.
 *
 * All is float32 and the order of equal distances is that of the images, queries first.
 */
export interface RerankOptions {
  /** Neighbours that are asked whether they are mutual. Default 20. */
  readonly k1?: number;
  /** Neighbours over which the encoding is averaged. Default 6. */
  readonly k2?: number;
  /** Share of the first distance. Default 0.3. */
  readonly lambda?: number;
}

/** The distances between all images are kept, as float32: 10,000 images take 400 MB. */
const MAX_IMAGES = 10_000;

/**
 * Distances after k-reciprocal re-ranking (Zhong et al., CVPR 2017), as `torchreid.utils.re_ranking` computes them. Default:
 * k1 20, k2 6, lambda 0.3.
 *
 * @param queries [Q, D]
 * @param gallery [G, D]
 * @throws InputError (`argument`) if there are more images than a matrix of all their distances may have
 */
export function rerankedRows(
  queries: RealTensor,
  gallery: RealTensor,
  metric: DistanceMetric,
  { k1 = 20, k2 = 6, lambda = 0.3 }: RerankOptions = {},
): DistanceRows {
  const queryCount = queries.shape[0] ?? 0;
  const galleryCount = gallery.shape[0] ?? 0;
  const all = queryCount + galleryCount;
  if (all > MAX_IMAGES)
    throw new InputError({
      code: "argument",
      subject: "--rerank",
      found: `${all} images`,
      expected: `at most ${MAX_IMAGES}, since all distances between them are kept in memory`,
      remedy: "omit --rerank, or rank a smaller gallery",
    });
  const first = normalisedDistances(stack(queries, gallery), metric);
  const nearest = neighbours(first, all, Math.min(all, Math.max(k1 + 1, k2)));
  const encoding = averaged(encodingsOf(first, nearest, all, k1), nearest, k2);
  const holders = new Map<number, { readonly image: number; readonly weight: number }[]>();
  for (const [image, weights] of encoding.entries())
    for (const [neighbour, weight] of weights) {
      const known = holders.get(neighbour);
      if (known) known.push({ image, weight });
      else holders.set(neighbour, [{ image, weight }]);
    }
  return {
    queries: queryCount,
    gallery: galleryCount,
    *rows() {
      const distances = new Float64Array(galleryCount);
      for (let query = 0; query < queryCount; query++) {
        const shared = new Float32Array(all);
        for (const [neighbour, weight] of encoding[query] ?? [])
          for (const other of holders.get(neighbour) ?? [])
            shared[other.image] = (shared[other.image] as number) + Math.min(weight, other.weight);
        for (let g = 0; g < galleryCount; g++) {
          const common = shared[queryCount + g] as number;
          const jaccard = Math.fround(1 - common / (2 - common));
          distances[g] = Math.fround(
            jaccard * (1 - lambda) + (first[query * all + queryCount + g] as number) * lambda,
          );
        }
        yield distances;
      }
    },
  };
}

function stack(queries: RealTensor, gallery: RealTensor): RealTensor {
  const depth = queries.shape[1] ?? 0;
  const data = new Float64Array(queries.data.length + gallery.data.length);
  data.set(queries.data);
  data.set(gallery.data, queries.data.length);
  return { dtype: "float64", shape: [(queries.shape[0] ?? 0) + (gallery.shape[0] ?? 0), depth], data };
}

/** Squared distances over the largest of each image's column: [all, all], row by row. */
function normalisedDistances(features: RealTensor, metric: DistanceMetric): Float32Array {
  const rows = distanceRows(features, features, metric);
  const all = rows.queries;
  const result = new Float32Array(all * all);
  // The matrix is symmetric, so that the largest of a column is the largest of a row.
  let image = 0;
  for (const distances of rows.rows()) {
    const squares = Float32Array.from(distances, (distance) => distance * distance);
    let largest = 0;
    for (const square of squares) if (square > largest && square < Infinity) largest = square;
    for (let other = 0; other < all; other++)
      result[image * all + other] = largest === 0 ? 0 : Math.min(1, (squares[other] as number) / largest);
    image++;
  }
  return result;
}

/** Each image's `count` nearest, itself among them. */
function neighbours(distances: Float32Array, all: number, count: number): readonly Uint32Array[] {
  return Array.from({ length: all }, (_, image) => {
    const row = distances.subarray(image * all, (image + 1) * all);
    const order = Uint32Array.from(row.keys());
    order.sort((a, b) => (row[a] as number) - (row[b] as number) || a - b);
    return order.slice(0, count);
  });
}

const NONE = new Uint32Array();

type Encoding = ReadonlyMap<number, number>;

function encodingsOf(
  distances: Float32Array,
  nearest: readonly Uint32Array[],
  all: number,
  k1: number,
): readonly Encoding[] {
  // numpy.around takes halves to the even neighbour.
  const half = k1 % 4 === 1 ? Math.floor(k1 / 2) : Math.round(k1 / 2);
  const mutual = (image: number, k: number): readonly number[] =>
    [...(nearest[image] ?? NONE).subarray(0, k + 1)].filter((other) =>
      (nearest[other] ?? NONE).subarray(0, k + 1).includes(image),
    );
  const narrow = Array.from({ length: all }, (_, image) => mutual(image, half));
  return Array.from({ length: all }, (_, image) => {
    const own = mutual(image, k1);
    const ownSet = new Set(own);
    const expanded = new Set(own);
    for (const candidate of own) {
      const theirs = narrow[candidate] ?? [];
      const shared = theirs.filter((other) => ownSet.has(other)).length;
      if (shared > (2 / 3) * theirs.length) for (const other of theirs) expanded.add(other);
    }
    const members = [...expanded].sort((a, b) => a - b);
    const weights = Float32Array.from(members, (other) =>
      Math.exp(-(distances[image * all + other] as number)),
    );
    const sum = weights.reduce((total, weight) => Math.fround(total + weight), 0);
    return new Map(members.map((other, index) => [other, Math.fround((weights[index] as number) / sum)]));
  });
}

/** Each encoding becomes the mean over its image's nearest. */
function averaged(
  encodings: readonly Encoding[],
  nearest: readonly Uint32Array[],
  k2: number,
): readonly Encoding[] {
  if (k2 === 1) return encodings;
  return encodings.map((_, image) => {
    const sums = new Map<number, number>();
    const group = (nearest[image] ?? NONE).subarray(0, k2);
    for (const other of group)
      for (const [neighbour, weight] of encodings[other] ?? [])
        sums.set(neighbour, Math.fround((sums.get(neighbour) ?? 0) + weight));
    return new Map([...sums].map(([neighbour, sum]) => [neighbour, Math.fround(sum / group.length)]));
  });
}

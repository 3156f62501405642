import { InputError } from "../../core/errors.js";
import { formatShape, type RealTensor } from "../../core/tensor.js";
import { STRIP_ROWS, TILE_COLUMNS } from "../reference/engine.js";
import { vectorEngine } from "../reference/vector-engine.js";

/**
 * How far two features are apart, as `torchreid.metrics.compute_distance_matrix` measures it: `euclidean` is the *squared*
 * Euclidean distance, `cosine` is 1 − the cosine of the angle.
 */
export type DistanceMetric = "euclidean" | "cosine";

export const DISTANCE_METRICS: readonly DistanceMetric[] = ["euclidean", "cosine"];

/** `torch.nn.functional.normalize` divides by no less than this. */
const SMALLEST_NORM = 1e-12;

/** Strips of queries that are multiplied with a block of the gallery while it is in the processor's cache. */
const STRIPS = 16;

/** Elements of such a block: 128 KB, which fits in any processor's second-level cache together with the queries. */
const BLOCK_ELEMENTS = 1 << 14;

/**
 * The distances of queries from a gallery, a few rows at a time, in float64: a matrix of 3,368 × 19,281 would take 520 MB.
 */
export interface DistanceRows {
  /** Number of rows. */
  readonly queries: number;
  /** Length of each row. */
  readonly gallery: number;
  /** For each query in turn its distances from all gallery features, [gallery] float64, valid until the next is taken. */
  rows(): Iterable<Float64Array>;
}

/**
 * Features, checked: [N, D].
 *
 * @throws InputError (`tensor`) if the features are not a matrix
 */
export function expectFeatures(features: RealTensor, subject: string): RealTensor {
  const { shape } = features;
  if (shape.length !== 2 || (shape[1] ?? 0) < 1)
    throw new InputError({
      code: "tensor",
      subject,
      found: `features of shape ${formatShape(shape)}`,
      expected: "a matrix [images, width]",
      remedy: "save one row per image",
    });
  return features;
}

/**
 * Distances between two sets of features.
 *
 * Each is computed in float64 from the features as they are, added in one order for every pair, so that equal features have
 * equal distances. Memory: 8 bytes for each element of the gallery, plus 64 rows of distances.
 *
 * @param queries [Q, D]
 * @param gallery [G, D]
 * @throws InputError (`tensor`) if the two differ in width
 */
export function distanceRows(queries: RealTensor, gallery: RealTensor, metric: DistanceMetric): DistanceRows {
  const [queryCount = 0, depth = 0] = queries.shape;
  const [galleryCount = 0, galleryDepth = 0] = gallery.shape;
  if (depth !== galleryDepth)
    throw new InputError({
      code: "tensor",
      subject: "features",
      found: `${depth} elements for a query and ${galleryDepth} for a gallery image`,
      expected: "features of one width",
      remedy: "compute both with the same model",
    });
  const tiles = Math.ceil(galleryCount / TILE_COLUMNS);
  const strip = STRIP_ROWS * depth;
  const columns = STRIPS * strip;
  const bias = columns + tiles * TILE_COLUMNS * depth;
  const output = bias + STRIP_ROWS;
  const outputStride = tiles * TILE_COLUMNS;
  const blockTiles = Math.max(1, Math.floor(BLOCK_ELEMENTS / (TILE_COLUMNS * depth)));
  const engine = vectorEngine(output + STRIPS * STRIP_ROWS * outputStride);
  const { memory } = engine;
  const gallerySquares = new Float64Array(galleryCount);
  const scaleOf = (squares: number): number =>
    metric === "cosine" ? 1 / Math.max(Math.sqrt(squares), SMALLEST_NORM) : 1;
  for (let row = 0; row < galleryCount; row++) {
    const squares = sumOfSquares(gallery.data, row * depth, depth);
    gallerySquares[row] = squares;
    const scale = scaleOf(squares);
    const target = columns + (row >> 2) * TILE_COLUMNS * depth + (row & 3);
    for (let k = 0; k < depth; k++)
      memory[target + k * TILE_COLUMNS] = (gallery.data[row * depth + k] as number) * scale;
  }
  return {
    queries: queryCount,
    gallery: galleryCount,
    *rows() {
      const distances = new Float64Array(galleryCount);
      for (let first = 0; first < queryCount; first += STRIPS * STRIP_ROWS) {
        const rows = Math.min(STRIPS * STRIP_ROWS, queryCount - first);
        const squares = new Float64Array(rows);
        memory.fill(0, 0, columns);
        for (let row = 0; row < rows; row++) {
          const start = (first + row) * depth;
          squares[row] = sumOfSquares(queries.data, start, depth);
          const scale = scaleOf(squares[row] as number);
          const target = Math.floor(row / STRIP_ROWS) * strip + (row % STRIP_ROWS);
          for (let k = 0; k < depth; k++)
            memory[target + k * STRIP_ROWS] = (queries.data[start + k] as number) * scale;
        }
        for (let tile = 0; tile < tiles; tile += blockTiles)
          for (let from = 0; from < rows; from += STRIP_ROWS)
            engine.multiply({
              rows: from * depth,
              columns: columns + tile * TILE_COLUMNS * depth,
              bias,
              output: output + from * outputStride + tile * TILE_COLUMNS,
              outputStride,
              depth,
              tiles: Math.min(blockTiles, tiles - tile),
            });
        for (let row = 0; row < rows; row++) {
          const from = output + row * outputStride;
          const own = squares[row] as number;
          if (metric === "cosine")
            for (let g = 0; g < galleryCount; g++) distances[g] = 1 - (memory[from + g] as number);
          else
            for (let g = 0; g < galleryCount; g++)
              distances[g] = own + (gallerySquares[g] as number) - 2 * (memory[from + g] as number);
          // A non-finite feature is infinitely far from all: after every match, and never before one.
          for (let g = 0; g < galleryCount; g++)
            if (!Number.isFinite(distances[g])) distances[g] = Number.POSITIVE_INFINITY;
          yield distances;
        }
      }
    },
  };
}

function sumOfSquares(data: RealTensor["data"], start: number, length: number): number {
  let sum = 0;
  for (let k = start; k < start + length; k++) sum += (data[k] as number) * (data[k] as number);
  return sum;
}

/**
 * Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), as `torchreid.utils.re_ranking` computes it: the distance
 * is a mix of the first distance and the Jaccard distance between sets of k-reciprocal neighbours.
 *
 * All is float32 and the order of equal distances is that of the images, queries first.
 */
export interface RerankOptions {
  /** Neighbours that are tested for being mutual. Default 20. */
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

/** Each image's `count` nearest, including itself. */
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
      const reciprocal = narrow[candidate] ?? [];
      const shared = reciprocal.filter((other) => ownSet.has(other)).length;
      if (shared > (2 / 3) * reciprocal.length) for (const other of reciprocal) expanded.add(other);
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

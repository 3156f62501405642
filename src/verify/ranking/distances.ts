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

/** Elements of such a block: 128 KB, which the second cache of any processor holds beside the queries. */
const BLOCK_ELEMENTS = 1 << 14;

/**
 * The distances of queries from a gallery, a few rows at a time, in float64: a matrix of 3,368 × 19,281 would take 520 MB.
 */
export interface DistanceRows {
  /** How many rows there are. */
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
          // A feature that is not finite is infinitely far from all: behind every match, and never before one.
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

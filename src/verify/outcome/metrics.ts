import type { RealTensor } from "../../core/tensor.js";
import { type Elements, MAX_SUMMED, type Run, SUMS } from "../reference/elements.js";
import { loopsOverNumbers } from "../reference/vector-engine.js";

/** The distance of an actual tensor from the expected one. Computed in float64, over elements finite on both sides. */
export interface TensorMetrics {
  /** Elements that are NaN or infinite on either side and not the same infinity on both: they never match. */
  readonly mismatchedNonFinite: number;
  /** max |actual − expected| */
  readonly maxAbs: number;
  /** max |expected| */
  readonly scale: number;
  /** maxAbs / scale; 0 if both are 0, Infinity if only the scale is. */
  readonly relMax: number;
  /** √ mean (actual − expected)² */
  readonly rmse: number;
  /** Cosine of the angle between the tensors as vectors; 1 if both are 0, 0 if one is. */
  readonly cosine: number;
  /**
   * The largest distance in units in the last place: the number of float32 values between an actual element and the
   * expected one rounded to float32. Large if a value cancels to near 0, however small the error.
   */
  readonly ulp: number;
}

/**
 * Compares two tensors of the same shape, element by element.
 *
 * @param loops preferably the ones whose memory contains one of them, which is then not copied
 */
export function measure(
  expected: RealTensor,
  actual: RealTensor,
  loops: Elements = loopsOverNumbers(),
): TensorMetrics {
  const total = expected.data.length;
  const sums = new Float64Array(2 * SUMS);
  const sum = (which: number): number => (sums[2 * which] as number) + (sums[2 * which + 1] as number);
  const most = (which: number): number => Math.max(sums[2 * which] as number, sums[2 * which + 1] as number);
  let mismatchedNonFinite = 0;
  let [maxAbs, scale, squaredError, dot, expectedSquared, actualSquared, ulp] = [0, 0, 0, 0, 0, 0, 0];
  for (let start = 0; start < total; start += MAX_SUMMED) {
    const run = { start, count: Math.min(MAX_SUMMED, total - start) };
    loops.sums(actual.data, expected.data, run, sums);
    if (!Number.isFinite(sum(2) + sum(4))) {
      const finite = finitePairs(expected.data, actual.data, run);
      mismatchedNonFinite += finite.mismatched;
      loops.sums(finite.actual, finite.expected, { start: 0, count: run.count }, sums);
    }
    maxAbs = Math.max(maxAbs, most(0));
    scale = Math.max(scale, most(1));
    squaredError += sum(2);
    dot += sum(3);
    expectedSquared += sum(4);
    actualSquared += sum(5);
    ulp = Math.max(ulp, most(6));
  }
  return {
    mismatchedNonFinite,
    maxAbs,
    scale,
    relMax: maxAbs === 0 ? 0 : maxAbs / scale,
    rmse: total === 0 ? 0 : Math.sqrt(squaredError / total),
    cosine: cosineOf(dot, expectedSquared, actualSquared),
    ulp,
  };
}

interface FinitePairs {
  readonly expected: Float64Array;
  readonly actual: Float64Array;
  /** The number of non-finite pairs that do not match: NaN never does. */
  readonly mismatched: number;
}

/** The same numbers, with 0 for both elements of a non-finite pair. */
function finitePairs(e: RealTensor["data"], a: RealTensor["data"], { start, count }: Run): FinitePairs {
  const expected = new Float64Array(e.subarray(start, start + count));
  const actual = new Float64Array(a.subarray(start, start + count));
  let mismatched = 0;
  for (let index = 0; index < count; index++) {
    if (Number.isFinite(expected[index]) && Number.isFinite(actual[index])) continue;
    if (expected[index] !== actual[index]) mismatched++;
    expected[index] = 0;
    actual[index] = 0;
  }
  return { expected, actual, mismatched };
}

function cosineOf(dot: number, aSquared: number, bSquared: number): number {
  if (aSquared === 0 && bSquared === 0) return 1;
  if (aSquared === 0 || bSquared === 0) return 0;
  return dot / (Math.sqrt(aSquared) * Math.sqrt(bSquared));
}

/**
 * L2-normalises each row of [batch, ...], as re-identification does before comparing embeddings; a row of zeros is
 * unchanged.
 */
export function normalizeRows(tensor: RealTensor): RealTensor {
  const batch = tensor.shape[0] ?? 1;
  const width = tensor.data.length / Math.max(1, batch);
  const data = new Float64Array(tensor.data);
  for (let row = 0; row < batch; row++) {
    const values = data.subarray(row * width, (row + 1) * width);
    const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    if (norm > 0)
      for (let index = 0; index < width; index++) values[index] = (values[index] as number) / norm;
  }
  return { dtype: "float64", shape: tensor.shape, data };
}

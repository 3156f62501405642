import type { RealTensor } from "../tensor.js";

/** How far an actual tensor is from the expected one. Computed in float64, over elements finite on both sides. */
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
   * The largest distance in units in the last place: how many float32 values lie between an actual element and the
   * expected one rounded to float32. Large where a value cancels to near 0, however small the error is.
   */
  readonly ulp: number;
}

/** Compares tensors of one shape, element by element. */
export function measure(expected: RealTensor, actual: RealTensor): TensorMetrics {
  const e = expected.data;
  const a = actual.data;
  const ulps = ulpDistance(expected, actual);
  let mismatchedNonFinite = 0;
  let maxAbs = 0;
  let scale = 0;
  let squaredError = 0;
  let dot = 0;
  let expectedSquared = 0;
  let actualSquared = 0;
  for (let index = 0; index < e.length; index++) {
    const x = e[index] as number;
    const y = a[index] as number;
    const difference = Math.abs(y - x);
    // NaN or infinity on either side makes the difference so; a comparison with it is false.
    if (!(difference < Infinity)) {
      if (x !== y) mismatchedNonFinite++;
      continue;
    }
    if (difference > maxAbs) maxAbs = difference;
    const magnitude = Math.abs(x);
    if (magnitude > scale) scale = magnitude;
    squaredError += difference * difference;
    dot += x * y;
    expectedSquared += x * x;
    actualSquared += y * y;
  }
  return {
    mismatchedNonFinite,
    maxAbs,
    scale,
    relMax: maxAbs === 0 ? 0 : maxAbs / scale,
    rmse: e.length === 0 ? 0 : Math.sqrt(squaredError / e.length),
    cosine: cosineOf(dot, expectedSquared, actualSquared),
    ulp: ulps,
  };
}

function cosineOf(dot: number, aSquared: number, bSquared: number): number {
  if (aSquared === 0 && bSquared === 0) return 1;
  if (aSquared === 0 || bSquared === 0) return 0;
  return dot / (Math.sqrt(aSquared) * Math.sqrt(bSquared));
}

/** Elements converted at a time: small enough to stay in cache, large enough for the typed-array conversion to pay. */
const CHUNK = 4096;

function ulpDistance(expected: RealTensor, actual: RealTensor): number {
  const x = new Float32Array(CHUNK);
  const y = new Float32Array(CHUNK);
  const xBits = new Int32Array(x.buffer);
  const yBits = new Int32Array(y.buffer);
  let largest = 0;
  for (let start = 0; start < expected.data.length; start += CHUNK) {
    const end = Math.min(start + CHUNK, expected.data.length);
    x.set(expected.data.subarray(start, end));
    y.set(actual.data.subarray(start, end));
    for (let index = 0; index < end - start; index++) {
      const distance = Math.abs(ordinal(xBits[index] as number) - ordinal(yBits[index] as number));
      if (distance > largest && Number.isFinite(x[index]) && Number.isFinite(y[index])) largest = distance;
    }
  }
  return largest;
}

/** Maps float32 bits to integers in the order of the numbers, both zeros to 0 (IEEE 754: sign and magnitude). */
function ordinal(bits: number): number {
  return bits >= 0 ? bits : -(bits & 0x7fffffff);
}

/**
 * L2-normalises each row of [batch, ...] as re-identification does before it compares embeddings; a row of zeros stays.
 */
export function normalizeRows(tensor: RealTensor): RealTensor {
  const batch = tensor.shape[0] ?? 1;
  const width = tensor.data.length / Math.max(1, batch);
  const data = Float64Array.from(tensor.data);
  for (let row = 0; row < batch; row++) {
    const values = data.subarray(row * width, (row + 1) * width);
    const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    if (norm > 0)
      for (let index = 0; index < width; index++) values[index] = (values[index] as number) / norm;
  }
  return { dtype: "float64", shape: tensor.shape, data };
}

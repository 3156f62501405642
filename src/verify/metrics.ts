import type { RealTensor } from "../core/tensor.js";

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

/** Elements compared at a time: small enough to stay in cache, large enough for typed-array conversion to pay. */
const CHUNK = 4096;

/** Compares tensors of one shape, element by element. */
export function measure(expected: RealTensor, actual: RealTensor): TensorMetrics {
  const total = expected.data.length;
  const e = new Float64Array(CHUNK);
  const a = new Float64Array(CHUNK);
  let mismatchedNonFinite = 0;
  let sums = NOTHING;
  let ulp = 0;
  for (let start = 0; start < total; start += CHUNK) {
    const length = Math.min(CHUNK, total - start);
    // Copied into arrays of one type, whatever the tensors are: the loops below then compile to one tight form.
    e.set(expected.data.subarray(start, start + length));
    a.set(actual.data.subarray(start, start + length));
    let chunk = sumUp(e, a, length);
    if (!Number.isFinite(chunk.squaredError + chunk.expectedSquared)) {
      mismatchedNonFinite += setAsideNonFinite(e, a, length);
      chunk = sumUp(e, a, length);
    }
    sums = {
      maxAbs: Math.max(sums.maxAbs, chunk.maxAbs),
      scale: Math.max(sums.scale, chunk.scale),
      squaredError: sums.squaredError + chunk.squaredError,
      dot: sums.dot + chunk.dot,
      expectedSquared: sums.expectedSquared + chunk.expectedSquared,
      actualSquared: sums.actualSquared + chunk.actualSquared,
    };
    ulp = Math.max(ulp, ulpDistance(e, a, length));
  }
  const { maxAbs, scale, squaredError, dot, expectedSquared, actualSquared } = sums;
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

interface Sums {
  readonly maxAbs: number;
  readonly scale: number;
  readonly squaredError: number;
  readonly dot: number;
  readonly expectedSquared: number;
  readonly actualSquared: number;
}

const NOTHING: Sums = {
  maxAbs: 0,
  scale: 0,
  squaredError: 0,
  dot: 0,
  expectedSquared: 0,
  actualSquared: 0,
};

/** The inner loop, over finite elements. */
function sumUp(e: Float64Array, a: Float64Array, length: number): Sums {
  let [maxAbs, scale, squaredError, dot, expectedSquared, actualSquared] = [0, 0, 0, 0, 0, 0];
  for (let index = 0; index < length; index++) {
    const x = e[index] as number;
    const y = a[index] as number;
    const difference = y - x;
    maxAbs = Math.max(maxAbs, Math.abs(difference));
    scale = Math.max(scale, Math.abs(x));
    squaredError += difference * difference;
    dot += x * y;
    expectedSquared += x * x;
    actualSquared += y * y;
  }
  return { maxAbs, scale, squaredError, dot, expectedSquared, actualSquared };
}

/** Sets pairs that are not finite to 0, and counts those that do not match: NaN never does. */
function setAsideNonFinite(e: Float64Array, a: Float64Array, length: number): number {
  let mismatched = 0;
  for (let index = 0; index < length; index++) {
    if (Number.isFinite(e[index]) && Number.isFinite(a[index])) continue;
    if (e[index] !== a[index]) mismatched++;
    e[index] = 0;
    a[index] = 0;
  }
  return mismatched;
}

function cosineOf(dot: number, aSquared: number, bSquared: number): number {
  if (aSquared === 0 && bSquared === 0) return 1;
  if (aSquared === 0 || bSquared === 0) return 0;
  return dot / (Math.sqrt(aSquared) * Math.sqrt(bSquared));
}

const ROUNDED_E = new Float32Array(CHUNK);
const ROUNDED_A = new Float32Array(CHUNK);
const BITS_E = new Int32Array(ROUNDED_E.buffer);
const BITS_A = new Int32Array(ROUNDED_A.buffer);

/** The largest distance of two chunks in float32 steps. */
function ulpDistance(e: Float64Array, a: Float64Array, length: number): number {
  ROUNDED_E.set(e);
  ROUNDED_A.set(a);
  let largest = 0;
  for (let index = 0; index < length; index++) {
    const distance = Math.abs(ordinal(BITS_E[index] as number) - ordinal(BITS_A[index] as number));
    if (distance > largest) largest = distance;
  }
  return largest;
}

/** Maps float32 bits (sign and magnitude) to integers in the order of the numbers, both zeros to 0. */
function ordinal(bits: number): number {
  const sign = bits >> 31;
  return ((bits & 0x7fffffff) ^ sign) - sign;
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

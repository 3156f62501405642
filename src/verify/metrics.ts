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
  const sums = new Float64Array(CHUNK_SUMS);
  let mismatchedNonFinite = 0;
  let [maxAbs, scale, squaredError, dot, expectedSquared, actualSquared, ulp] = [0, 0, 0, 0, 0, 0, 0];
  for (let start = 0; start < total; start += CHUNK) {
    const length = Math.min(CHUNK, total - start);
    // Copied into arrays of one type, whatever the tensors are: the loop below then compiles to one tight form. Rounded besides,
    // so that their bits are there.
    const e = expected.data.subarray(start, start + length);
    const a = actual.data.subarray(start, start + length);
    E.set(e);
    A.set(a);
    ROUNDED_E.set(e);
    ROUNDED_A.set(a);
    sumUp(length, sums);
    if (!Number.isFinite((sums[2] as number) + (sums[4] as number))) {
      mismatchedNonFinite += setAsideNonFinite(length);
      sumUp(length, sums);
    }
    maxAbs = Math.max(maxAbs, sums[0] as number);
    scale = Math.max(scale, sums[1] as number);
    squaredError += sums[2] as number;
    dot += sums[3] as number;
    expectedSquared += sums[4] as number;
    actualSquared += sums[5] as number;
    ulp = Math.max(ulp, sums[6] as number);
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

const E = new Float64Array(CHUNK);
const A = new Float64Array(CHUNK);
const ROUNDED_E = new Float32Array(CHUNK);
const ROUNDED_A = new Float32Array(CHUNK);
const BITS_E = new Int32Array(ROUNDED_E.buffer);
const BITS_A = new Int32Array(ROUNDED_A.buffer);

/** What `sumUp` writes: maxAbs, scale, squaredError, dot, expectedSquared, actualSquared, ulp. */
const CHUNK_SUMS = 7;

/** The inner loop over a chunk, of finite elements: one pass for all that is measured. */
function sumUp(length: number, sums: Float64Array): void {
  let maxAbs = 0;
  let scale = 0;
  let squaredError = 0;
  let dot = 0;
  let expectedSquared = 0;
  let actualSquared = 0;
  let ulp = 0;
  for (let index = 0; index < length; index++) {
    const x = E[index] as number;
    const y = A[index] as number;
    const difference = y - x;
    maxAbs = Math.max(maxAbs, Math.abs(difference));
    scale = Math.max(scale, Math.abs(x));
    squaredError += difference * difference;
    dot += x * y;
    expectedSquared += x * x;
    actualSquared += y * y;
    // Float32 steps: up to 2^32 of them, which are beyond an int32.
    ulp = Math.max(ulp, Math.abs(ordinal(BITS_E[index] as number) - ordinal(BITS_A[index] as number)));
  }
  sums[0] = maxAbs;
  sums[1] = scale;
  sums[2] = squaredError;
  sums[3] = dot;
  sums[4] = expectedSquared;
  sums[5] = actualSquared;
  sums[6] = ulp;
}

/** Sets pairs that are not finite to 0, and counts those that do not match: NaN never does. */
function setAsideNonFinite(length: number): number {
  let mismatched = 0;
  for (let index = 0; index < length; index++) {
    if (Number.isFinite(E[index]) && Number.isFinite(A[index])) continue;
    if (E[index] !== A[index]) mismatched++;
    for (const values of [E, A, ROUNDED_E, ROUNDED_A]) values[index] = 0;
  }
  return mismatched;
}

function cosineOf(dot: number, aSquared: number, bSquared: number): number {
  if (aSquared === 0 && bSquared === 0) return 1;
  if (aSquared === 0 || bSquared === 0) return 0;
  return dot / (Math.sqrt(aSquared) * Math.sqrt(bSquared));
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

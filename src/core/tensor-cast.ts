import { InputError } from "./errors.js";
import { filled } from "./functions.js";
import type { DType, RealTensor, Tensor } from "./tensor.js";

/**
 * Conversions between element types. Widening is exact; narrowing rounds once, directly from the stored value, to
 * nearest even, as in IEEE 754 and PyTorch's `.to(dtype)`. Values out of range become infinite. Integers and booleans
 * are refused, since no weight of a network has these types.
 */

/** The element types of floating point, widest first. */
export const FLOAT_DTYPES = ["float64", "float32", "float16", "bfloat16"] as const;

/** The name of a floating-point element type. */
export type FloatDType = (typeof FLOAT_DTYPES)[number];

/** The largest relative error of rounding to float32. */
export const UNIT_ROUNDOFF: number = 2 ** -24;

/** The smallest positive float32 of full precision: processors may flush smaller ones to zero. */
export const MIN_NORMAL: number = 2 ** -126;

/** Significant bits below the leading one, and exponent bias, of IEEE binary16. */
const HALF_FRACTION = 2 ** 10;
const HALF_BIAS = 15;

/**
 * The value of every bit pattern of float16, computed on first use: a lookup takes a twentieth of the time of computing
 * the value.
 */
let halfValues: Float32Array | undefined;

/** Converts each element type to one for arithmetic; float32 and float64 are returned unchanged. */
const WIDEN: { readonly [D in DType]?: (tensor: Tensor<D>) => RealTensor } = {
  float64: (tensor) => tensor,
  float32: (tensor) => tensor,
  float16: ({ shape, data }) => {
    halfValues ??= filled(new Float32Array(2 ** 16), halfToNumber);
    const wide = new Float32Array(data.length);
    for (let index = 0; index < wide.length; index++)
      wide[index] = halfValues[data[index] as number] as number;
    return { dtype: "float32", shape, data: wide };
  },
  // The upper half of a float32: the same sign, exponent and leading fraction bits.
  bfloat16: ({ shape, data }) => ({
    dtype: "float32",
    shape,
    data: new Float32Array(
      filled(new Int32Array(data.length), (index) => (data[index] as number) << 16).buffer,
    ),
  }),
};

/**
 * The same numbers in float32 or float64, exactly.
 *
 * @throws InputError (`tensor`) if the elements are not floating point; `subject` names the tensor.
 */
export function toReal(tensor: Tensor, subject: string): RealTensor {
  const widen = WIDEN[tensor.dtype] as ((tensor: Tensor) => RealTensor) | undefined;
  if (!widen)
    throw new InputError({
      code: "tensor",
      subject,
      found: `elements of type ${tensor.dtype}`,
      expected: "floating-point weights",
      remedy: "check that the checkpoint is an unquantised network",
    });
  return widen(tensor);
}

/** The same numbers in float32, each rounded once; a float32 tensor is returned unchanged. Throws as `toReal`. */
export function toFloat32(tensor: Tensor, subject: string): Tensor<"float32"> {
  const real = toReal(tensor, subject);
  return isDType(real, "float32")
    ? real
    : { dtype: "float32", shape: real.shape, data: new Float32Array(real.data) };
}

/** The same numbers in float64, exactly; a float64 tensor is returned unchanged. Throws as `toReal`. */
export function toFloat64(tensor: Tensor, subject: string): Tensor<"float64"> {
  const real = toReal(tensor, subject);
  return isDType(real, "float64")
    ? real
    : { dtype: "float64", shape: real.shape, data: new Float64Array(real.data) };
}

/** Converts any tensor to each floating-point type. */
const CAST: { readonly [D in FloatDType]: (tensor: Tensor, subject: string) => Tensor<D> } = {
  float64: toFloat64,
  float32: toFloat32,
  float16: (tensor, subject) => narrow(tensor, "float16", subject),
  bfloat16: (tensor, subject) => narrow(tensor, "bfloat16", subject),
};

/** The same numbers in another floating-point type, each rounded at most once. Throws as `toReal`. */
export function castFloat(tensor: Tensor, dtype: FloatDType, subject: string): Tensor<FloatDType> {
  return isDType(tensor, dtype) ? tensor : CAST[dtype](tensor, subject);
}

function narrow<D extends keyof typeof NARROW_BITS>(tensor: Tensor, dtype: D, subject: string): Tensor<D> {
  const { shape, data } = toReal(tensor, subject);
  const { fraction, bias } = NARROW_BITS[dtype];
  const bits = new Uint16Array(data.length);
  for (let index = 0; index < bits.length; index++)
    bits[index] = roundToBits(data[index] ?? 0, fraction, bias);
  return { dtype, shape, data: bits };
}

/** Whether a tensor has a dtype, as a type guard: `Tensor<D>` is not a discriminated union by itself. */
export function isDType<D extends DType>(tensor: Tensor, dtype: D): tensor is Tensor<D> {
  return tensor.dtype === dtype;
}

/** The value of an IEEE binary16 bit pattern: 1 sign bit, 5 exponent bits, 10 fraction bits. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / HALF_FRACTION;
  if (exponent === 0) return sign * fraction * 2 ** (1 - HALF_BIAS);
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction) * 2 ** (exponent - HALF_BIAS);
}

/** Fraction bits and exponent bias of the 16-bit types; the remaining bits are the sign and the exponent. */
const NARROW_BITS = {
  float16: { fraction: 10, bias: 15 },
  bfloat16: { fraction: 7, bias: 127 },
} as const;

/** One float64 and its halves, low word first: JavaScript engines only run on little-endian machines. */
const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer);

/** Fraction bits and exponent bias of float64. */
const DOUBLE_FRACTION = 52;
const DOUBLE_BIAS = 1023;

/**
 * The 16-bit pattern nearest to a value, ties to even. `ulp` is the value's last place in the narrow type. Adding
 * 2⁵²·ulp keeps just the bits from there on in float64, so that the processor's addition does the rounding, and the low
 * word of the sum is the significand in units of `ulp`.
 */
function roundToBits(value: number, fraction: number, bias: number): number {
  DOUBLE[0] = value;
  const high = WORDS[1] ?? 0;
  const sign = (high >>> 16) & 0x8000;
  const infinity = (2 * bias + 1) << fraction;
  if (Number.isNaN(value)) return sign | infinity | (1 << (fraction - 1));
  const size = Math.abs(value);
  if (size >= 2 ** (bias + 1)) return sign | infinity;
  const least = 1 - bias;
  // Below the smallest exponent the numbers are subnormal: their last place is constant.
  const exponent = Math.max(((high >>> 20) & 0x7ff) - DOUBLE_BIAS, least);
  WORDS[0] = 0;
  WORDS[1] = (exponent - fraction + DOUBLE_FRACTION + DOUBLE_BIAS) << 20;
  DOUBLE[0] = size + (DOUBLE[0] ?? 0);
  // The leading one adds to the exponent's field, as does a carry, up to infinity.
  return sign | (((exponent - least) << fraction) + (WORDS[0] ?? 0));
}

/** The types of 16 bits, in which networks are said to be in half precision. */
export type HalfDType = "float16" | "bfloat16";

/** Whether a type is one of them. */
export function isHalf(dtype: FloatDType | undefined): dtype is HalfDType {
  return dtype === "float16" || dtype === "bfloat16";
}

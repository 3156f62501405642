import { InputError } from "./errors.js";
import type { DType, RealTensor, Tensor } from "./tensor.js";

/**
 * Conversions between element types. Widening is exact; narrowing to float32 rounds once, to nearest even, as
 * IEEE 754 and PyTorch's `.float()` do. Integers and booleans are refused: no weight of a network is one.
 */

/** Significant bits below the leading one, and exponent bias, of IEEE binary16. */
const HALF_FRACTION = 2 ** 10;
const HALF_BIAS = 15;

/** How each element type becomes one that arithmetic can run on; float32 and float64 are returned as they stand. */
const WIDEN: { readonly [D in DType]?: (tensor: Tensor<D>) => RealTensor } = {
  float64: (tensor) => tensor,
  float32: (tensor) => tensor,
  float16: ({ shape, data }) => ({ dtype: "float32", shape, data: Float32Array.from(data, halfToNumber) }),
  // The upper half of a float32: the same sign, exponent and leading fraction bits.
  bfloat16: ({ shape, data }) => ({
    dtype: "float32",
    shape,
    data: new Float32Array(Uint32Array.from(data, (bits) => bits << 16).buffer),
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

/** The same numbers in float32, each rounded once; a float32 tensor is returned as it stands. Throws as `toReal`. */
export function toFloat32(tensor: Tensor, subject: string): Tensor<"float32"> {
  const real = toReal(tensor, subject);
  return isDType(real, "float32")
    ? real
    : { dtype: "float32", shape: real.shape, data: Float32Array.from(real.data) };
}

/** The same numbers in float64, exactly; a float64 tensor is returned as it stands. Throws as `toReal`. */
export function toFloat64(tensor: Tensor, subject: string): Tensor<"float64"> {
  const real = toReal(tensor, subject);
  return isDType(real, "float64")
    ? real
    : { dtype: "float64", shape: real.shape, data: Float64Array.from(real.data) };
}

/** Whether a tensor has a dtype, as a type guard: a `Tensor<D>` is no discriminated union by itself. */
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

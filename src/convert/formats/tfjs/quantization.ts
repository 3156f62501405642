/**
 * Weights stored in fewer bits, as tensorflowjs's `write_weights.py` and `quantization.py` define it: binary16, or per
 * tensor `value = stored · scale + min` in 8 or 16 bits. Zero is stored exactly where the range contains it.
 */
import { elementCount, type Tensor } from "../../../tensor.js";
import { castFloat, isDType, toFloat32 } from "../../../tensor-cast.js";
import type { QuantizedDType, TfjsDType, TfjsQuantization } from "./model.js";

export const QUANTIZED_BYTES: Readonly<Record<QuantizedDType, number>> = { float16: 2, uint16: 2, uint8: 1 };

/** The affine map that takes a tensor's range to all stored values of a type. */
export function chooseQuantization(tensor: Tensor<"float32">, dtype: QuantizedDType): TfjsQuantization {
  if (dtype === "float16") return { dtype };
  let [min, max] = [Infinity, -Infinity];
  for (const value of tensor.data) {
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  if (tensor.data.length === 0 || min === max) return { dtype, min: tensor.data[0] ?? 0, scale: 1 };
  const scale = (max - min) / (2 ** (8 * QUANTIZED_BYTES[dtype]) - 1);
  // Moves the range by less than half a step, so that one of the steps is zero.
  return { dtype, scale, min: min <= 0 && max >= 0 ? -Math.round(-min / scale) * scale : min };
}

/** The stored bytes of a tensor. */
export function quantize(tensor: Tensor<"float32">, stored: TfjsQuantization): Uint8Array {
  if (stored.dtype === "float16") return bytesOf(castFloat(tensor, "float16", "weight").data);
  const { min, scale, dtype } = stored;
  const largest = 2 ** (8 * QUANTIZED_BYTES[dtype]) - 1;
  const target = new (dtype === "uint8" ? Uint8Array : Uint16Array)(tensor.data.length);
  for (let index = 0; index < target.length; index++)
    target[index] = Math.min(largest, Math.max(0, Math.round(((tensor.data[index] ?? 0) - min) / scale)));
  return bytesOf(target);
}

/** The tensor that stored bytes stand for: in float64, rounded once, as tfjs computes it. */
export function dequantize(
  bytes: Uint8Array,
  shape: readonly number[],
  dtype: TfjsDType,
  stored: TfjsQuantization,
): Tensor<TfjsDType> {
  const length = elementCount(shape);
  if (stored.dtype === "float16") {
    const data = halfWords(bytes, length);
    return toFloat32({ dtype: "float16", shape, data }, "weight");
  }
  const { min, scale } = stored;
  const values = stored.dtype === "uint8" ? bytes : halfWords(bytes, length);
  if (dtype === "int32")
    return { dtype, shape, data: Int32Array.from(values, (value) => Math.round(value * scale + min)) };
  return { dtype: "float32", shape, data: Float32Array.from(values, (value) => value * scale + min) };
}

/** Copied, because a tensor may begin at any byte; not by slice(), which of a Node Buffer shares memory. */
function halfWords(bytes: Uint8Array, length: number): Uint16Array {
  return new Uint16Array(new Uint8Array(bytes).buffer, 0, length);
}

/** The tensor as a file stores it: the numbers that come back out of it. */
export function roundToStored(tensor: Tensor<"float32">, stored: TfjsQuantization): Tensor<"float32"> {
  return dequantize(quantize(tensor, stored), tensor.shape, "float32", stored) as Tensor<"float32">;
}

/** Whether a tensor can be stored in fewer bits: tfjs quantises float32 only, and so do we. */
export function isQuantizable(tensor: Tensor): tensor is Tensor<"float32"> {
  return isDType(tensor, "float32");
}

/** The bytes of a typed array, little-endian as every machine that runs JavaScript is. */
export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
}

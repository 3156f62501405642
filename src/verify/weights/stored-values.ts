import {
  chooseQuantization,
  roundToStored,
  type StoredTensor,
  type TfjsQuantization,
} from "../../convert/formats/tfjs/index.js";
import type { DType, Tensor } from "../../tensor.js";
import { castFloat, toFloat32 } from "../../tensor-cast.js";

/** One unit in the last place, relative to a value: what two roundings to a 16-bit type may be apart. */
export const HALF_PRECISION: Readonly<Partial<Record<DType, number>>> = {
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
};

/** Whether a constant is in fewer bits than it takes to hold these values. */
export function isRounded(constant: StoredTensor, values: Float32Array, layer: string): boolean {
  if (!constant.stored && HALF_PRECISION[constant.dtype] === undefined) return false;
  const { data } = toFloat32(constant, layer);
  return values.some((value, index) => value !== data[index]);
}

/** A file in half precision, or one of quantised weights, holds the checkpoint's values rounded once. */
export function inPrecisionOf(
  { dtype, shape, stored }: StoredTensor,
  values: Float32Array,
  layer: string,
): Float32Array | undefined {
  if (stored) return asStored({ dtype: "float32", shape, data: values }, stored)?.data;
  if (dtype !== "float16" && dtype !== "bfloat16") return values;
  const rounded = castFloat({ dtype: "float32", shape, data: values }, dtype, layer);
  return toFloat32(rounded, layer).data;
}

/** How much wider a step may be than the range of the values asks for: other writers round it to float32. */
const STORED_SLACK = 1 + 2 ** -20;

/** The values on the file's own steps, if these are as fine as the storage type allows. */
function asStored(tensor: Tensor<"float32">, stored: TfjsQuantization): Tensor<"float32"> | undefined {
  const best = chooseQuantization(tensor, stored.dtype);
  const coarse =
    stored.dtype !== "float16" && best.dtype !== "float16" && stored.scale > best.scale * STORED_SLACK;
  return coarse ? undefined : roundToStored(tensor, stored);
}

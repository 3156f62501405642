import { DTYPES, elementCount, type Shape, type Tensor } from "../../../tensor.js";
import { FLOAT_DTYPES, toReal } from "../../../tensor-cast.js";
import { permute } from "../../../tensor-permute.js";
import type { OnnxNode } from "../../formats/onnx/index.js";
import type { Form } from "../foreign.js";

/** Arithmetic on constants, as far as exporters leave it in their graphs. */

/** The tensor of a `Constant` node; undefined for strings and sparse tensors. */
export function constantOf({ attributes }: OnnxNode): Tensor | undefined {
  for (const { type, value } of attributes.values()) {
    if (type === "tensor") return value;
    if (type === "float") return { dtype: "float32", shape: [], data: Float32Array.of(value) };
    if (type === "floats") return { dtype: "float32", shape: [value.length], data: Float32Array.from(value) };
    if (type === "int") return { dtype: "int64", shape: [], data: BigInt64Array.of(BigInt(value)) };
    if (type === "ints")
      return { dtype: "int64", shape: [value.length], data: BigInt64Array.from(value, BigInt) };
  }
  return undefined;
}

/** The same elements in another shape; undefined if they do not fill it. */
export function reshaped(tensor: Tensor, shape: Shape): Tensor | undefined {
  return elementCount(shape) === tensor.data.length ? { ...tensor, shape } : undefined;
}

/** The shape that `Reshape` asks for: 0 keeps a dimension, one −1 takes what is left. */
export function resolveShape(target: readonly number[], from: Shape): Shape {
  const kept = target.map((size, axis) => (size === 0 ? (from[axis] ?? 0) : size));
  const known = kept.reduce((product, size) => (size < 0 ? product : product * size), 1);
  return kept.map((size) => (size < 0 ? Math.floor(elementCount(from) / Math.max(1, known)) : size));
}

/** Shape with dimensions of 1 put in at these axes of the result. */
export function unsqueezedShape(shape: Shape, axes: readonly number[]): Shape {
  const rank = shape.length + axes.length;
  const at = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)));
  const rest = [...shape];
  return Array.from({ length: rank }, (_, axis) => (at.has(axis) ? 1 : (rest.shift() ?? 1)));
}

/** A tensor with its axes in another order; the reverse order if none is given, as `Transpose` has it. */
export function transposed(tensor: Tensor, order?: readonly number[]): Tensor {
  return permute(tensor, order ?? tensor.shape.map((_, axis) => tensor.shape.length - 1 - axis));
}

/** The elements of a tensor at some places along one axis, as `Gather` and `Slice` take them. */
export function taken(tensor: Tensor, axis: number, places: readonly number[]): Tensor | undefined {
  const { shape, data } = tensor;
  const size = shape[axis] ?? 0;
  if (places.some((place) => place < 0 || place >= size) || places.length > MAX_CHANNELS) return undefined;
  const inner = elementCount(shape.slice(axis + 1));
  const outer = elementCount(shape.slice(0, axis));
  const resultShape = shape.with(axis, places.length);
  if (outer * places.length * inner > data.length) return undefined;
  const Data = DTYPES[tensor.dtype];
  const elements = new Data(outer * places.length * inner);
  let target = 0;
  for (let row = 0; row < outer; row++)
    for (const place of places)
      for (let index = 0; index < inner; index++)
        // One array type on both sides.
        (elements as Float32Array)[target++] = (data as Float32Array)[
          (row * size + place) * inner + index
        ] as number;
  return { ...tensor, shape: resultShape, data: elements };
}

/** Far above any OSNet's: a file may declare any number without holding as much. */
const MAX_CHANNELS = 1 << 20;

/** A constant that has one value per channel of a value, or a single one, as a vector of the channels. */
export function perChannel(tensor: Tensor, { rank, channels }: Form): Tensor<"float32"> | undefined {
  const dimensions = rank === "flat" ? 2 : 4;
  const { shape } = tensor;
  if (channels === undefined || channels > MAX_CHANNELS || shape.length > dimensions || !isFloat(tensor))
    return undefined;
  const channelAxis = shape.length - (dimensions - 1);
  const alongChannels = shape.every((size, axis) => size === 1 || axis === channelAxis);
  const { length } = tensor.data;
  if (!alongChannels || (length !== 1 && length !== channels)) return undefined;
  const values = toReal(tensor, "constant").data;
  const data = Float32Array.from({ length: channels }, (_, index) => values[length === 1 ? 0 : index] ?? 0);
  return { ...tensor, dtype: "float32", shape: [channels], data };
}

/** The single value of a constant that has one, or the one value that all its elements have. */
export function uniform(tensor: Tensor): number | undefined {
  if (!isFloat(tensor) || tensor.data.length === 0) return undefined;
  const { data } = toReal(tensor, "constant");
  return data.every((value) => value === data[0]) ? data[0] : undefined;
}

export function isFloat({ dtype }: Tensor): boolean {
  return FLOAT_DTYPES.some((float) => float === dtype);
}

import { DTYPES, type DType, elementCount, permute, type Shape, type Tensor } from "../../../core/tensor.js";
import { FLOAT_DTYPES, toReal } from "../../../core/tensor-cast.js";
import { dtypeToCode, type OnnxNode } from "../../formats/onnx/index.js";
import { type Form, isKind, type Value } from "../foreign.js";
import { wholeNumbers } from "../products.js";
import { asNode, asTensor, int, MAX_LIST, numbers, type OperatorReader } from "./site.js";

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

/** Whole numbers that graphs compute: of shapes, and of what depends on them. */

const FLOATS: readonly DType[] = ["float16", "bfloat16", "float32", "float64"];

/** A constant's own bits stay; casts to floating-point types only say how to compute. */
export const readCast: OperatorReader = ({ node, inputs: [input] }) => {
  const tensor = asTensor(input);
  const isRounded = FLOATS.every((dtype) => dtypeToCode(dtype) !== int(node, "to", dtypeToCode("float32")));
  if (asNode(input) && isRounded) return undefined;
  return tensor && !FLOATS.includes(tensor.dtype) ? integers(input) : input;
};

/** Shapes are whole numbers in a line; other concatenations have no place in an OSNet. */
export const readConcat: OperatorReader = ({ inputs }) => {
  const parts = inputs.map(numbers);
  const values = parts.flatMap((part) => part ?? []);
  if (!values.every(Number.isInteger) || parts.includes(undefined)) return undefined;
  if (inputs.some((input) => (asTensor(input)?.shape.length ?? 2) > 1)) return undefined;
  return { kind: "constant", tensor: wholeNumbers(values) };
};

/** The shape of a constant, or of an activation how many sizes it has: how large these are, a run decides. */
export const readShape: OperatorReader = ({ node, inputs: [input] }) => {
  const sizes = asTensor(input)?.shape;
  const length = sizes?.length ?? rankOf(input);
  if (length === undefined) return undefined;
  const [start, end] = [int(node, "start", 0), int(node, "end", length)];
  if (sizes) return { kind: "constant", tensor: wholeNumbers(sizes.slice(start, end)) };
  return { kind: "shape", length: Array(length).slice(start, end).length };
};

/** How many elements a constant has, or a list of sizes: the rank of what they are the sizes of. */
export const readSize: OperatorReader = ({ inputs: [input] }) => {
  const count = asTensor(input)?.data.length ?? (input?.kind === "shape" ? input.length : undefined);
  return count === undefined ? undefined : { kind: "constant", tensor: wholeNumbers([count], []) };
};

function rankOf(value: Value | undefined): number | undefined {
  const node = asNode(value);
  // What an operator without a meaning here makes of its input's axes is not known.
  if (!node || isKind(node, "other")) return undefined;
  return node.form.rank === "flat" || node.reading?.isFlat ? 2 : 4;
}

/** Whether single whole numbers are equal: exporters compare ranks, and choose by that in an `If`. */
export const readEqual: OperatorReader = ({ inputs }) => {
  const [left, right] = inputs.map(numbers);
  if (left?.length !== 1 || right?.length !== 1) return undefined;
  return { kind: "constant", tensor: truth(left[0] === right[0]) };
};

export const readNot: OperatorReader = ({ inputs: [input] }) => {
  const values = numbers(input);
  return values?.length === 1 ? { kind: "constant", tensor: truth(values[0] === 0) } : undefined;
};

/** One number put into every element of a shape, such as a bias of zeros, or a vector that has its length already. */
export const readExpand: OperatorReader = ({ inputs }) => {
  const [tensor, target] = [asTensor(inputs[0]), numbers(inputs[1])];
  if (tensor?.shape.length === 1 && (String(target) === "1" || String(target) === String(tensor.shape)))
    return inputs[0];
  if (tensor?.data.length !== 1 || !target?.every((size) => size >= 0)) return undefined;
  const count = elementCount(target);
  if (count > MAX_EXPANDED) return undefined;
  const data = new DTYPES[tensor.dtype](count);
  // One array type on both sides.
  (data as Float32Array).fill(tensor.data[0] as number);
  return { kind: "constant", tensor: { ...tensor, shape: target, data } };
};

/** A vector several times, one after the other. */
export const readTile: OperatorReader = ({ inputs }) => {
  const [tensor, repeats] = [asTensor(inputs[0]), numbers(inputs[1])];
  const [times = 0] = repeats ?? [];
  if (tensor?.shape.length !== 1 || repeats?.length !== 1 || times < 0) return undefined;
  const { length } = tensor.data;
  if (times * length > MAX_EXPANDED) return undefined;
  const data = new DTYPES[tensor.dtype](times * length);
  for (let time = 0; time < times; time++)
    (data as Float32Array).set(tensor.data as Float32Array, time * length);
  return { kind: "constant", tensor: { ...tensor, shape: [times * length], data } };
};

/** More channels than an OSNet has for a batch; a file may declare any number. */
const MAX_EXPANDED = 1 << 16;

/** As many zeros as a constant shape says, or of another value; only lists of a few whole numbers have a use. */
export const readConstantOfShape: OperatorReader = ({ node, inputs }) => {
  const shape = numbers(inputs[0]);
  const [length = 0, ...rest] = shape ?? [];
  const value = node.attributes.get("value");
  const fill = value?.type === "tensor" ? Number(value.value.data[0]) : 0;
  if (!shape || rest.length > 0 || length > MAX_LIST || length < 0 || !Number.isInteger(fill))
    return undefined;
  return { kind: "constant", tensor: wholeNumbers(Array<number>(length).fill(fill)) };
};

function integers(value: Value | undefined): Value | undefined {
  const tensor = asTensor(value);
  if (!tensor) return undefined;
  const values = Array.from(tensor.data as ArrayLike<number | bigint>, Number);
  if (!values.every(Number.isInteger)) return undefined;
  return { kind: "constant", tensor: wholeNumbers(values, tensor.shape) };
}

function truth(value: boolean): Tensor {
  return { dtype: "bool", shape: [], data: Uint8Array.of(Number(value)) };
}

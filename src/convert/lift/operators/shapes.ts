import { DTYPES, type DType, elementCount, type Tensor } from "../../../tensor.js";
import { dtypeToCode } from "../../formats/onnx/index.js";
import { isKind, type Value } from "../foreign.js";
import { wholeNumbers } from "../whole-numbers.js";
import { asNode, asTensor, int, MAX_LIST, numbers, type OperatorReader } from "./site.js";

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

import type { OnnxAttribute, OnnxNode } from "../../convert/formats/onnx/model.js";

/** The operators that the proof supports in an ONNX file, each with the inputs and attributes that it may have: an allow-list. */

type Check = (attribute: OnnxAttribute) => boolean;

const isInt =
  (...allowed: readonly number[]): Check =>
  ({ type, value }) =>
    type === "int" && (allowed.length === 0 || allowed.includes(value));
const isInts: Check = ({ type }) => type === "ints";
const isFloat: Check = ({ type }) => type === "float";
const equals =
  (wanted: number): Check =>
  ({ type, value }) =>
    type === "float" && value === wanted;
const all =
  (wanted: number): Check =>
  ({ type, value }) =>
    type === "ints" && value.every((size) => size === wanted);
/** `auto_pad` in any other form depends on the size of the image. */
const unpadded: Check = ({ type, value }) => type === "string" && value === "NOTSET";

interface Signature {
  /** The number of inputs that it may have. */
  readonly inputs: readonly [least: number, most: number];
  /**
   * Every attribute that it may have, with its possible values. Other values are checked where they are read.
   */
  readonly attributes?: Readonly<Record<string, Check>>;
}

const WINDOW = { auto_pad: unpadded, kernel_shape: isInts, pads: isInts, strides: isInts, dilations: all(1) };
const POOL = { ...WINDOW, ceil_mode: isInt(0) };
const REDUCTION = { axes: isInts, keepdims: isInt(0, 1), noop_with_empty_axes: isInt(0, 1) };
const SHAPED: Signature = { inputs: [1, 2], attributes: { axes: isInts } };

/** The operators of the standard domain that the proof supports. */
const SIGNATURES: ReadonlyMap<string, Signature> = new Map<string, Signature>([
  ["Conv", { inputs: [2, 3], attributes: { ...WINDOW, group: isInt() } }],
  [
    "Gemm",
    {
      inputs: [2, 3],
      attributes: { alpha: equals(1), beta: equals(1), transA: isInt(0), transB: isInt(0, 1) },
    },
  ],
  ["MatMul", { inputs: [2, 2] }],
  [
    "BatchNormalization",
    {
      inputs: [5, 5],
      attributes: { epsilon: isFloat, momentum: isFloat, spatial: isInt(1), training_mode: isInt(0) },
    },
  ],
  ["InstanceNormalization", { inputs: [3, 3], attributes: { epsilon: isFloat } }],
  [
    "GroupNormalization",
    { inputs: [3, 3], attributes: { epsilon: isFloat, num_groups: isInt(), stash_type: isInt(1) } },
  ],
  [
    "LayerNormalization",
    { inputs: [3, 3], attributes: { epsilon: isFloat, axis: isInt(), stash_type: isInt(1) } },
  ],
  ["Relu", { inputs: [1, 1] }],
  ["Sigmoid", { inputs: [1, 1] }],
  ["MaxPool", { inputs: [1, 1], attributes: { ...POOL, storage_order: isInt(0, 1) } }],
  ["AveragePool", { inputs: [1, 1], attributes: { ...POOL, count_include_pad: isInt(0, 1) } }],
  ["GlobalAveragePool", { inputs: [1, 1] }],
  ["GlobalMaxPool", { inputs: [1, 1] }],
  ["ReduceMean", { inputs: [1, 2], attributes: REDUCTION }],
  ["ReduceMax", { inputs: [1, 2], attributes: REDUCTION }],
  ["ReduceL2", { inputs: [1, 2], attributes: REDUCTION }],
  ["LpNormalization", { inputs: [1, 1], attributes: { axis: isInt(1, -1), p: isInt(2) } }],
  ["Softmax", { inputs: [1, 1], attributes: { axis: isInt(1, -1) } }],
  ["Add", { inputs: [2, 2] }],
  ["Sum", { inputs: [1, 64] }],
  ["Sub", { inputs: [2, 2] }],
  ["Mul", { inputs: [2, 2] }],
  ["Div", { inputs: [2, 2] }],
  ["Pow", { inputs: [2, 2] }],
  ["Sqrt", { inputs: [1, 1] }],
  ["Clip", { inputs: [1, 3], attributes: { min: isFloat, max: isFloat } }],
  ["Flatten", { inputs: [1, 1], attributes: { axis: isInt(1) } }],
  ["Reshape", { inputs: [2, 2], attributes: { allowzero: isInt(0, 1) } }],
  ["Squeeze", SHAPED],
  ["Unsqueeze", SHAPED],
  ["Identity", { inputs: [1, 1] }],
  ["Cast", { inputs: [1, 1], attributes: { to: isInt(1), saturate: isInt(1) } }],
  [
    "Pad",
    { inputs: [1, 3], attributes: { mode: ({ type }) => type === "string", pads: all(0), value: isFloat } },
  ],
  // The whole shape, or the number of images alone.
  ["Shape", { inputs: [1, 1], attributes: { start: isInt(0), end: isInt(1) } }],
  ["Expand", { inputs: [2, 2] }],
  ["Gather", { inputs: [2, 2], attributes: { axis: isInt(0, 1) } }],
  ["Concat", { inputs: [1, 64], attributes: { axis: isInt(0) } }],
  ["Constant", { inputs: [0, 0], attributes: { value: ({ type }) => type === "tensor" } }],
]);

/** What the proof does not support in a node; undefined if it supports it completely. */
export function problemOf({ domain, opType, inputs, outputs, attributes }: OnnxNode): string | undefined {
  const signature = domain === "" ? SIGNATURES.get(opType) : undefined;
  if (!signature) return `${domain ? `${domain}.` : ""}${opType} is not an operator that the proof covers`;
  const [least, most] = signature.inputs;
  // torch omits the last input of a Clip by an empty name.
  const given = opType === "Clip" && inputs.at(-1) === "" ? inputs.slice(0, -1) : inputs;
  if (given.length < least || given.length > most || given.includes("")) return `${inputs.length} inputs`;
  if (outputs.length !== 1) return `${outputs.length} outputs`;
  for (const [name, attribute] of attributes) {
    const check = Object.hasOwn(signature.attributes ?? {}, name) ? signature.attributes?.[name] : undefined;
    if (!check?.(attribute)) return `attribute ${name} = ${shown(attribute)}`;
  }
  return undefined;
}

function shown({ type, value }: OnnxAttribute): string {
  return type === "tensor" || type === "graph" ? type : JSON.stringify(value).slice(0, 60);
}

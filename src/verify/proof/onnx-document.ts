import type { OnnxAttribute, OnnxModel, OnnxNode } from "../../convert/formats/onnx/model.js";
import type { Tensor } from "../../core/tensor.js";
import { isDType } from "../../core/tensor-cast.js";

/**
 * An ONNX file as the proof reads it: which operators it knows, with which attributes, and which values are constants.
 * What is not in the list is not known, and no value that it computes is anything.
 *
 * Source: https://onnx.ai/onnx/operators/, for the operator sets of `OPSETS`. Between these the operators listed differ in
 * types that they take, in attributes that have become inputs (`axes`; a runtime refuses the form of another set) and in
 * defaults, which are read by set below.
 */

/** Before 7, binary operators broadcast by attributes. */
const OPSETS: readonly [first: number, last: number] = [7, 26];

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
  /** How many inputs it may have. */
  readonly inputs: readonly [least: number, most: number];
  /** Every attribute that it may have, with what it may be; what else an attribute says is read where it matters. */
  readonly attributes?: Readonly<Record<string, Check>>;
}

const WINDOW = { auto_pad: unpadded, kernel_shape: isInts, pads: isInts, strides: isInts, dilations: all(1) };
const POOL = { ...WINDOW, ceil_mode: isInt(0) };
const REDUCTION = { axes: isInts, keepdims: isInt(0, 1), noop_with_empty_axes: isInt(0, 1) };
const SHAPED: Signature = { inputs: [1, 2], attributes: { axes: isInts } };

/** The operators of the standard domain that the proof knows. */
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
  ["Shape", { inputs: [1, 1] }],
  ["Expand", { inputs: [2, 2] }],
  ["Gather", { inputs: [2, 2], attributes: { axis: isInt(0, 1) } }],
  ["Concat", { inputs: [1, 64], attributes: { axis: isInt(0) } }],
  ["Constant", { inputs: [0, 0], attributes: { value: ({ type }) => type === "tensor" } }],
]);

export interface OnnxDocument {
  readonly opset: number;
  readonly input: string;
  /** Images in a batch, where the file fixes them. */
  readonly batch: number | undefined;
  /** The value behind operators that hand it on as it is. */
  readonly origin: (value: string) => string;
  /** The known operator whose only output a value is. */
  readonly node: (value: string) => OnnxNode | undefined;
  /** A constant, which no caller can replace. */
  readonly constant: (value: string | undefined) => Tensor | undefined;
  /** Whole numbers of a constant int64 tensor. */
  readonly integers: (value: string | undefined) => readonly number[] | undefined;
  /** A node's attribute or input of that name: `axes`. */
  readonly axes: (node: OnnxNode, rank: number) => readonly number[] | undefined;
  /** Why a value is computed by nothing that is known, in words. */
  readonly describe: (value: string) => string;
}

/** What makes a file none that the proof reads at all; undefined if nothing does. */
export function unreadable({ graph, opset, inlined = 0, missing = [] }: OnnxModel): string | undefined {
  const [first, last] = OPSETS;
  if (opset < first || opset > last)
    return `the proof knows operator sets ${first} to ${last}, and this is ${opset}`;
  if (inlined > 0) return `${inlined} operators are calls of the file's own functions`;
  if (missing.length > 0) return `weights are missing: ${missing.join(", ")}`;
  const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  const [input] = inputs;
  if (inputs.length !== 1 || input?.dtype !== "float32")
    return `${inputs.length} inputs, or not of float32, where a network has its images`;
  const names = [
    ...graph.inputs.map(({ name }) => name),
    ...graph.nodes.flatMap(({ outputs }) => outputs.filter((name) => name !== "")),
    ...[...graph.initializers.keys()].filter((name) => !graph.inputs.some((input) => input.name === name)),
  ];
  if (new Set(names).size < names.length) return "a name stands for two values";
  return undefined;
}

/** @param model one that is not `unreadable` */
export function openDocument({ graph, opset, irVersion }: OnnxModel): OnnxDocument {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  // Before version 4 of the format every initializer is an input too, and none can be replaced.
  const replaced = graph.inputs.filter(({ name }) => irVersion >= 4 || !graph.initializers.has(name));
  const declared = new Set(replaced.map(({ name }) => name));
  const input = graph.inputs.find(({ name }) => !graph.initializers.has(name));
  const [batch] = input?.shape ?? [];

  const node = (value: string): OnnxNode | undefined => {
    const found = producers.get(value);
    return found && problemOf(found) === undefined ? found : undefined;
  };

  const origin = (value: string): string => {
    let name = value;
    for (let steps = 0; steps < graph.nodes.length; steps++) {
      const found = node(name);
      if (!found || !handsOn(found)) break;
      name = found.inputs[0] ?? "";
    }
    return name;
  };

  /** Behind a `Cast` to float32 a value is what it was before, if that was a float32, as every layer's is. */
  const handsOn = ({ opType, inputs, attributes }: OnnxNode): boolean => {
    if (opType !== "Pad") return opType === "Identity" || opType === "Cast";
    return inputs.length > 1
      ? integers(inputs[1])?.every((size) => size === 0) === true
      : attributes.has("pads");
  };

  const constant = (value: string | undefined): Tensor | undefined => {
    let name = value ?? "";
    for (let steps = 0; steps < graph.nodes.length; steps++) {
      if (declared.has(name)) return undefined;
      const tensor = graph.initializers.get(name);
      if (tensor) return tensor;
      const found = node(name);
      if (found?.opType === "Identity") name = found.inputs[0] ?? "";
      else {
        const attribute = found?.opType === "Constant" ? found.attributes.get("value") : undefined;
        return attribute?.type === "tensor" ? attribute.value : undefined;
      }
    }
    return undefined;
  };

  const integers = (value: string | undefined): readonly number[] | undefined => {
    const tensor = constant(value);
    return tensor && isDType(tensor, "int64") ? Array.from(tensor.data, Number) : undefined;
  };

  const describe = (value: string): string => {
    if (declared.has(value)) return `the input ${JSON.stringify(value)}`;
    if (constant(value)) return `the constant ${JSON.stringify(value)}`;
    const found = producers.get(value);
    if (!found) return `${JSON.stringify(value)}, which nothing computes`;
    const problem = problemOf(found);
    return `node ${JSON.stringify(found.name || value)} (${found.opType})${problem === undefined ? "" : `: ${problem}`}`;
  };

  return {
    opset,
    input: input?.name ?? "",
    batch: typeof batch === "number" ? batch : undefined,
    origin,
    node,
    constant,
    integers,
    describe,
    axes({ inputs, attributes }, rank) {
      const attribute = attributes.get("axes");
      const listed = attribute?.type === "ints" ? attribute.value : integers(inputs[1]);
      // Without axes, or with none, operators differ in what they do.
      if (!listed || listed.length === 0 || (attribute && inputs.length > 1)) return undefined;
      return listed.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
    },
  };
}

/** What of a node the proof does not know; undefined if it knows it. */
function problemOf({ domain, opType, inputs, outputs, attributes }: OnnxNode): string | undefined {
  const signature = domain === "" ? SIGNATURES.get(opType) : undefined;
  if (!signature)
    return `${domain ? `${domain}.` : ""}${opType} is not among the operators that the proof knows`;
  const [least, most] = signature.inputs;
  if (inputs.length < least || inputs.length > most || inputs.includes("")) return `${inputs.length} inputs`;
  if (outputs.length !== 1) return `${outputs.length} outputs`;
  for (const [name, attribute] of attributes) {
    const check = signature.attributes?.[name];
    if (!check?.(attribute)) return `attribute ${name} = ${shown(attribute)}`;
  }
  return undefined;
}

function shown({ type, value }: OnnxAttribute): string {
  return type === "tensor" || type === "graph" ? type : JSON.stringify(value).slice(0, 60);
}

/** The value of an attribute of whole numbers, or what it is where there is none. */
export function intsOf(
  { attributes }: OnnxNode,
  name: string,
  otherwise: readonly number[],
): readonly number[] {
  const attribute = attributes.get(name);
  return attribute?.type === "ints" ? attribute.value : otherwise;
}

export function intOf({ attributes }: OnnxNode, name: string, otherwise: number): number {
  const attribute = attributes.get(name);
  return attribute?.type === "int" ? attribute.value : otherwise;
}

export function floatOf({ attributes }: OnnxNode, name: string, otherwise: number): number {
  const attribute = attributes.get(name);
  return attribute?.type === "float" ? attribute.value : otherwise;
}

/** A size of a shape that a document computes: a number, or the number of images. */
type Size = number | "batch";

/** Whether a node makes [N, C] of [N, C, 1, 1], for every number of images that the document takes. */
export function flattens(node: OnnxNode, document: OnnxDocument, channels: number): boolean {
  const { opType, inputs } = node;
  const [value = "", target = ""] = inputs;
  // An axis of 1 is all that the proof knows: [N, C · 1 · 1].
  if (opType === "Flatten") return true;
  if (opType === "Squeeze") {
    const axes = document.axes(node, 4) ?? [];
    return axes.length === 2 && axes[0] === 2 && axes[1] === 3;
  }
  if (opType !== "Reshape") return false;
  const sizes = sizesOf(target, document, document.origin(value));
  const [rows, columns] = sizes ?? [];
  if (sizes?.length !== 2) return false;
  // 0 copies the size, unless the operator is asked to take it as it is.
  const copies = rows === 0 && intOf(node, "allowzero", 0) === 0;
  const isFixed = rows !== undefined && rows === document.batch;
  if (rows === "batch" || copies || isFixed) return columns === channels || columns === -1;
  return rows === -1 && columns === channels;
}

/** The sizes in a shape, of which the first of `image`'s is the number of images. */
function sizesOf(shape: string, document: OnnxDocument, image: string): readonly Size[] | undefined {
  const { integers, node: nodeOf, constant, origin } = document;
  const known = integers(shape);
  if (known) return constant(shape)?.shape.length === 1 ? known : undefined;
  const node = nodeOf(shape);
  if (node?.opType === "Concat") {
    const parts = node.inputs.map((part) => sizeOf(part));
    return parts.every((part) => part !== undefined) ? parts : undefined;
  }
  return undefined;

  /** A vector of one size. */
  function sizeOf(part: string): Size | undefined {
    const vector = integers(part);
    if (vector) return constant(part)?.shape.length === 1 && vector.length === 1 ? vector[0] : undefined;
    const unsqueeze = nodeOf(part);
    const axes = unsqueeze?.opType === "Unsqueeze" ? document.axes(unsqueeze, 1) : undefined;
    if (!unsqueeze || axes?.length !== 1 || axes[0] !== 0) return undefined;
    const [scalar = ""] = unsqueeze.inputs;
    const number = integers(scalar);
    if (number) return constant(scalar)?.shape.length === 0 ? number[0] : undefined;
    const gather = nodeOf(scalar);
    if (gather?.opType !== "Gather" || intOf(gather, "axis", 0) !== 0) return undefined;
    const [source = "", index = ""] = gather.inputs;
    const sizes = nodeOf(source);
    const isFirst = constant(index)?.shape.length === 0 && integers(index)?.[0] === 0;
    return isFirst && sizes?.opType === "Shape" && origin(sizes.inputs[0] ?? "") === image
      ? "batch"
      : undefined;
  }
}

/** What may stand behind a result [N, D]: an operation that is named in the report, exactly. */
export interface Tail {
  /** What the operation is of. */
  readonly value: string;
  readonly tail: string;
}

/** A norm's least value is there against a division by zero, and is no norm's value. */
const LARGEST_EPSILON = 1e-6;

/** What an output may be a function of. */
export function tailsOf(document: OnnxDocument, output: string): readonly Tail[] {
  const { node: nodeOf, origin, axes, constant, opset } = document;
  const node = nodeOf(origin(output));
  const [value = ""] = node?.inputs ?? [];
  if (!node) return [];
  if (node.opType === "LpNormalization") return [{ value, tail: "L2-normalised" }];
  // Of two axes, the last one is the default of every operator set.
  if (node.opType === "Softmax") return [{ value, tail: "through a softmax" }];
  if (node.opType === "Sigmoid") return [{ value, tail: "through a sigmoid" }];
  if (node.opType !== "Div") return [];
  // torch.nn.functional.normalize: x / max(‖x‖, ε), the norm repeated over the features.
  let norm = nodeOf(origin(node.inputs[1] ?? ""));
  if (norm?.opType === "Expand") {
    const shape = nodeOf(norm.inputs[1] ?? "");
    if (shape?.opType !== "Shape" || origin(shape.inputs[0] ?? "") !== origin(value)) return [];
    norm = nodeOf(origin(norm.inputs[0] ?? ""));
  }
  let epsilon: number | undefined;
  if (norm?.opType === "Clip") {
    const least = norm.attributes.get("min");
    const tensor = opset < 11 ? undefined : constant(norm.inputs[1]);
    epsilon = opset < 11 && least?.type === "float" ? least.value : Number(tensor?.data[0] ?? Number.NaN);
    if (norm.attributes.has("max") || norm.inputs.length > 2 || !(epsilon > 0 && epsilon <= LARGEST_EPSILON))
      return [];
    norm = nodeOf(origin(norm.inputs[0] ?? ""));
  }
  const isNorm =
    norm?.opType === "ReduceL2" && intOf(norm, "keepdims", 1) === 1 && String(axes(norm, 2)) === "1";
  if (!norm || !isNorm || origin(norm.inputs[0] ?? "") !== origin(value)) return [];
  return [
    { value, tail: `L2-normalised${epsilon === undefined ? "" : `, by at least ${epsilon.toPrecision(2)}`}` },
  ];
}

import type { Size2d } from "../../arch/index.js";
import { fedInputs, type OnnxModel, type OnnxNode } from "../../convert/formats/onnx/model.js";
import { permute, sameShape, type Tensor } from "../../core/tensor.js";
import { isDType } from "../../core/tensor-cast.js";
import { problemOf } from "./onnx-operators.js";
import { type Call, type Operation, type ProofDocument, type Tail, unknown } from "./operations.js";

/**
 * An ONNX file as the proof reads it: which operators it supports, with which attributes, and which values are
 * constants. Everything else is unknown.
 *
 * Source: https://onnx.ai/onnx/operators/, for the opsets of `OPSETS`. Between these, the listed operators differ in
 * supported types, in attributes that have become inputs (`axes`; a runtime refuses the form of another opset) and in
 * defaults, which are read by opset below.
 */

/** Before 7, binary operators broadcast by attributes. */
const OPSETS: readonly [first: number, last: number] = [7, 26];

/** A file's nodes and constants that the proof supports. */
interface OnnxValues {
  readonly opset: number;
  /** The images. */
  readonly input: string;
  /** The batch size, if the file fixes it. */
  readonly batch: number | undefined;
  /** The value before operators that pass it on unchanged. */
  readonly origin: (value: string) => string;
  /** The known operator whose only output a value is. */
  readonly node: (value: string) => OnnxNode | undefined;
  /** A constant that callers cannot replace. */
  readonly constant: (value: string | undefined) => Tensor | undefined;
  /** Whole numbers of a constant int64 tensor. */
  readonly integers: (value: string | undefined) => readonly number[] | undefined;
  /** A node's attribute or input of that name: `axes`, ascending. */
  readonly axes: (node: OnnxNode, rank: number) => readonly number[] | undefined;
}

/** @returns the file's values, or why the proof cannot read it */
export function readOnnx(model: OnnxModel): ProofDocument | string {
  const problem = unreadable(model);
  if (problem !== undefined) return problem;
  const { graph, opset, irVersion } = model;
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  // Before IR version 4 every initializer is an input too, but callers cannot replace it.
  const replaced = graph.inputs.filter(({ name }) => irVersion >= 4 || !graph.initializers.has(name));
  const declared = new Set(replaced.map(({ name }) => name));
  const [input] = fedInputs(graph);
  const [batch, channels, height, width] = input?.shape ?? [];

  const node = (value: string): OnnxNode | undefined => {
    const found = producers.get(value);
    return found && problemOf(found) === undefined ? found : undefined;
  };
  const origin = (value: string): string => {
    let name = value;
    for (let steps = 0; steps < graph.nodes.length; steps++) {
      const found = node(name);
      if (!found || !passesOn(found, values)) break;
      name = found.inputs[0] ?? "";
    }
    return name;
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
  const values: OnnxValues = {
    opset,
    input: input?.name ?? "",
    batch: typeof batch === "number" ? batch : undefined,
    origin,
    node,
    constant,
    integers,
    axes({ inputs, attributes }, rank) {
      const attribute = attributes.get("axes");
      const listed = attribute?.type === "ints" ? attribute.value : integers(inputs[1]);
      // Operators differ in the meaning of missing or empty axes.
      if (!listed || listed.length === 0 || (attribute && inputs.length > 1)) return undefined;
      return listed.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
    },
  };
  return {
    input: input?.name ?? "",
    // Nothing is proven about images in another layout.
    size:
      channels === 3 && typeof height === "number" && typeof width === "number" ? [height, width] : undefined,
    outputs: graph.outputs.map(({ name }) => ({ name, value: name })),
    operation(value) {
      const found = producers.get(value);
      if (!found || declared.has(value)) return unknown();
      const unread = problemOf(found);
      return unread === undefined ? read(found, values) : unknown(unread);
    },
    number: (value) => numberIn(constant(value)),
    channels(value, rank) {
      const tensor = constant(value);
      if (!tensor) return undefined;
      const count = tensor.data.length;
      const shape = rank === 4 ? [count, 1, 1] : [count];
      const isBroadcast = [shape, [1, ...shape]].some((expected) => sameShape(tensor.shape, expected));
      return isBroadcast ? { ...tensor, shape: [count] } : undefined;
    },
    tails: (output) => tailsOf(values, output),
    describe(value) {
      if (declared.has(value)) return `the input ${JSON.stringify(value)}`;
      if (constant(value)) return `the constant ${JSON.stringify(value)}`;
      const found = producers.get(value);
      if (!found) return `${JSON.stringify(value)}, which nothing computes`;
      return `node ${JSON.stringify(found.name || value)} (${found.opType})`;
    },
  };
}

/** The reason why the proof cannot read a file; undefined if it can. */
function unreadable({ graph, opset, inlined = 0, missing = [] }: OnnxModel): string | undefined {
  const [first, last] = OPSETS;
  if (opset < first || opset > last)
    return `the proof covers operator sets ${first} to ${last}, and this file has ${opset}`;
  if (inlined > 0) return `${inlined} operators are calls to local functions`;
  if (missing.length > 0) return `weights are missing: ${missing.join(", ")}`;
  const inputs = fedInputs(graph);
  const [input] = inputs;
  if (inputs.length !== 1 || input?.dtype !== "float32")
    return `the file has ${inputs.length} inputs, or one that is not float32, instead of float32 images`;
  const names = [
    ...graph.inputs.map(({ name }) => name),
    ...graph.nodes.flatMap(({ outputs }) => outputs.filter((name) => name !== "")),
    ...[...graph.initializers.keys()].filter((name) => !graph.inputs.some((input) => input.name === name)),
  ];
  if (new Set(names).size < names.length) return "two values have the same name";
  return undefined;
}

/** A `Cast` to float32 has no effect on a float32, as every layer's value is. */
function passesOn({ opType, inputs, attributes }: OnnxNode, { integers }: OnnxValues): boolean {
  if (opType !== "Pad") return opType === "Identity" || opType === "Cast";
  return inputs.length > 1
    ? integers(inputs[1])?.every((size) => size === 0) === true
    : attributes.has("pads");
}

/** Operators with only one meaning. */
const CALLS: Readonly<Record<string, Call>> = {
  Add: "add",
  Sum: "add",
  Sub: "subtract",
  Mul: "multiply",
  Div: "divide",
  Sqrt: "sqrt",
  Relu: "relu",
  Sigmoid: "sigmoid",
};

/** The operation of a supported node. */
function read(node: OnnxNode, values: OnnxValues): Operation {
  const { opType, inputs } = node;
  const { constant, integers, axes } = values;
  const [x = "", second] = inputs;
  const name = CALLS[opType];
  if (name) return { kind: "call", name, inputs };
  if (passesOn(node, values)) return { kind: "call", name: "identity", inputs: [x] };
  const constants = inputs.slice(1).flatMap((input) => constant(input) ?? []);
  const [weight, bias] = constants;
  const areConstant = constants.length === inputs.length - 1;
  switch (opType) {
    case "Conv": {
      if (!areConstant || !weight) return unknown("weights that are not constants");
      const window = windowOf(node, weight.shape.slice(2));
      if (!window || weight.shape.length !== 4 || !sameShape(window.kernel, weight.shape.slice(2)))
        return unknown("another window or padding");
      const { stride, padding } = window;
      return { kind: "conv", x, weight, bias, groups: intOf(node, "group", 1), stride, padding };
    }
    case "Gemm":
    case "MatMul": {
      if (!areConstant || weight?.shape.length !== 2) return unknown("weights that are not constants");
      const isRow = bias?.shape.length === 2 && bias.shape[0] === 1;
      return {
        kind: "linear",
        x,
        weight: intOf(node, "transB", 0) === 0 ? permute(weight, [1, 0]) : weight,
        bias: isRow ? { ...bias, shape: bias.shape.slice(1) } : bias,
      };
    }
    case "BatchNormalization":
      return areConstant
        ? { kind: "batchNorm", x, constants, epsilon: floatOf(node, "epsilon", 1e-5) }
        : unknown("parameters that are not constants");
    case "GroupNormalization":
    case "InstanceNormalization":
    case "LayerNormalization": {
      const over = opType === "LayerNormalization" ? [1, 2, 3] : [2, 3];
      if (!areConstant) return unknown("parameters that are not constants");
      // One weight to a group and, as steps compare, one to a channel.
      if (opType === "GroupNormalization" && weight?.data.length !== intOf(node, "num_groups", 0))
        return unknown("groups of several channels");
      if (over.length === 3 && ![1, -3].includes(intOf(node, "axis", -1))) return unknown("another axis");
      const epsilon = floatOf(node, "epsilon", 1e-5);
      return { kind: "normalise", x, axes: over, epsilon, gamma: weight, beta: bias };
    }
    case "MaxPool":
    case "AveragePool": {
      const window = windowOf(node, []);
      const type = opType === "MaxPool" ? "max" : "mean";
      if (!window || (type === "mean" && window.padding.some((size) => size !== 0)))
        return unknown("another window or padding");
      return { kind: "pool", type, x, window: window.kernel, stride: window.stride, padding: window.padding };
    }
    case "GlobalAveragePool":
    case "GlobalMaxPool":
      return {
        kind: "reduce",
        type: opType === "GlobalMaxPool" ? "max" : "mean",
        x,
        axes: [2, 3],
        keeps: true,
      };
    case "ReduceMean":
    case "ReduceMax": {
      const over = axes(node, 4);
      const type = opType === "ReduceMax" ? "max" : "mean";
      const keeps = intOf(node, "keepdims", 1) === 1;
      return over ? { kind: "reduce", type, x, axes: over, keeps } : unknown("no axes");
    }
    case "Pow":
      return numberIn(constant(second)) === 2 ? { kind: "call", name: "square", inputs: [x] } : unknown();
    case "Gather": {
      const isSwap = intOf(node, "axis", 0) === 1 && sameShape(integers(second) ?? [], [2, 1, 0]);
      return isSwap ? { kind: "reverse", x } : unknown();
    }
    case "Flatten":
      // The proof supports only an axis of 1: [N, C · 1 · 1].
      return { kind: "flatten", x };
    case "Squeeze":
      return sameShape(axes(node, 4) ?? [], [2, 3]) ? { kind: "flatten", x } : unknown();
    case "Reshape":
      return reshape(node, values);
    default:
      return unknown();
  }
}

function numberIn(tensor: Tensor | undefined): number | undefined {
  const isNumber = tensor?.dtype === "float32" && tensor.data.length === 1 && tensor.shape.length <= 1;
  return isNumber ? Number(tensor.data[0]) : undefined;
}

/** The window of a convolution or pool, with as many rows and columns of padding at either end. */
function windowOf(
  node: OnnxNode,
  usual: readonly number[],
): { readonly kernel: Size2d; readonly stride: Size2d; readonly padding: Size2d } | undefined {
  const [height, width, ...deep] = intsOf(node, "kernel_shape", usual);
  const [down, right, ...along] = intsOf(node, "strides", [1, 1]);
  const [top, left, bottom, end, ...more] = intsOf(node, "pads", [0, 0, 0, 0]);
  if ([height, width, down, right, top, left].includes(undefined)) return undefined;
  if (top !== bottom || left !== end || [...deep, ...along, ...more].length > 0) return undefined;
  return {
    kernel: [height ?? 0, width ?? 0],
    stride: [down ?? 0, right ?? 0],
    padding: [top ?? 0, left ?? 0],
  };
}

function intsOf({ attributes }: OnnxNode, name: string, otherwise: readonly number[]): readonly number[] {
  const attribute = attributes.get(name);
  return attribute?.type === "ints" ? attribute.value : otherwise;
}

function intOf({ attributes }: OnnxNode, name: string, otherwise: number): number {
  const attribute = attributes.get(name);
  return attribute?.type === "int" ? attribute.value : otherwise;
}

function floatOf({ attributes }: OnnxNode, name: string, otherwise: number): number {
  const attribute = attributes.get(name);
  return attribute?.type === "float" ? attribute.value : otherwise;
}

/** A size of a shape that a document computes: a number, or the number of images. */
type Size = number | "batch";

/** A reshape to [N, C], for every number of images that the document takes. */
function reshape(node: OnnxNode, values: OnnxValues): Operation {
  const [x = "", target = ""] = node.inputs;
  const sizes = sizesOf(target, values, values.origin(x));
  const [rows, columns] = sizes ?? [];
  if (sizes?.length !== 2 || typeof columns !== "number" || columns === 0) return unknown("another shape");
  // 0 copies the size unless `allowzero` gives it its literal meaning.
  const copies = rows === 0 && intOf(node, "allowzero", 0) === 0;
  const isFixed = rows !== undefined && rows === values.batch;
  if (rows === "batch" || copies || isFixed)
    return { kind: "flatten", x, width: columns === -1 ? undefined : columns };
  return rows === -1 && columns > 0 ? { kind: "flatten", x, width: columns } : unknown("another shape");
}

/**
 * The sizes in a shape, of which the first size of `image` or of the file's images, which every layer has too, is the number of
 * images.
 */
function sizesOf(shape: string, values: OnnxValues, image: string): readonly Size[] | undefined {
  const { integers, node: nodeOf, constant, origin, input } = values;
  const isImage = (value = ""): boolean => [image, input].includes(origin(value));
  const known = integers(shape);
  if (known) return constant(shape)?.shape.length === 1 ? known : undefined;
  const node = nodeOf(shape);
  if (node?.opType === "Concat") {
    const parts = node.inputs.map((part) => sizeOf(part));
    return parts.every((part) => part !== undefined) ? parts : undefined;
  }
  return undefined;

  /** A size as a shape vector of one element. */
  function sizeOf(part: string): Size | undefined {
    const vector = integers(part);
    if (vector) return constant(part)?.shape.length === 1 && vector.length === 1 ? vector[0] : undefined;
    const unsqueeze = nodeOf(part);
    if (unsqueeze?.opType === "Shape" && unsqueeze.attributes.has("end") && isImage(unsqueeze.inputs[0]))
      return "batch";
    const axes = unsqueeze?.opType === "Unsqueeze" ? values.axes(unsqueeze, 1) : undefined;
    if (!unsqueeze || axes?.length !== 1 || axes[0] !== 0) return undefined;
    const [scalar = ""] = unsqueeze.inputs;
    const number = integers(scalar);
    if (number) return constant(scalar)?.shape.length === 0 ? number[0] : undefined;
    const gather = nodeOf(scalar);
    if (gather?.opType !== "Gather" || intOf(gather, "axis", 0) !== 0) return undefined;
    const [source = "", index = ""] = gather.inputs;
    const sizes = nodeOf(source);
    const isFirst = constant(index)?.shape.length === 0 && integers(index)?.[0] === 0;
    return isFirst && sizes?.opType === "Shape" && isImage(sizes.inputs[0]) ? "batch" : undefined;
  }
}

/** Largest floor of a norm: it prevents a division by zero, and must be below any real norm. */
const LARGEST_EPSILON = 1e-6;

/**
 * Whether a shape is that of a result [N, C]: its own, or as many rows as there are images, and a number of columns, which is
 * C if the file runs at all.
 */
function isShapeOf(shape: string, value: string, values: OnnxValues): boolean {
  const { node, origin, batch } = values;
  const own = node(shape);
  if (own?.opType === "Shape")
    return own.attributes.size === 0 && origin(own.inputs[0] ?? "") === origin(value);
  const [rows, columns, ...others] = sizesOf(shape, values, origin(value)) ?? [];
  const isEach = rows === "batch" || (rows !== undefined && rows === batch);
  return isEach && typeof columns === "number" && columns > 0 && others.length === 0;
}

function tailsOf(values: OnnxValues, output: string): readonly Tail[] {
  const { node: nodeOf, origin, axes, constant, opset } = values;
  const node = nodeOf(origin(output));
  const [value = ""] = node?.inputs ?? [];
  if (!node) return [];
  if (node.opType === "LpNormalization") return [{ value, tail: "L2-normalised" }];
  // For two axes, every operator set's default is the last one.
  if (node.opType === "Softmax") return [{ value, tail: "through a softmax" }];
  if (node.opType === "Sigmoid") return [{ value, tail: "through a sigmoid" }];
  if (node.opType !== "Div") return [];
  // torch.nn.functional.normalize: x / max(‖x‖, ε), the norm repeated over the features.
  let norm = nodeOf(origin(node.inputs[1] ?? ""));
  if (norm?.opType === "Expand") {
    if (!isShapeOf(norm.inputs[1] ?? "", value, values)) return [];
    norm = nodeOf(origin(norm.inputs[0] ?? ""));
  }
  let epsilon: number | undefined;
  if (norm?.opType === "Clip") {
    const least = norm.attributes.get("min");
    const tensor = opset < 11 ? undefined : constant(norm.inputs[1]);
    epsilon = opset < 11 && least?.type === "float" ? least.value : Number(tensor?.data[0] ?? Number.NaN);
    if (
      norm.attributes.has("max") ||
      norm.inputs.slice(2).some((name) => name !== "") ||
      !(epsilon > 0 && epsilon <= LARGEST_EPSILON)
    )
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

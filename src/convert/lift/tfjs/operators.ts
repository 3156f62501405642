import type {
  TfjsAttribute,
  TfjsAttributeType,
  TfjsAttributeValues,
  TfjsNode,
} from "../../formats/tfjs/index.js";
import { batchNormOf, numbersOf, padsOf, shapeOf } from "./constants.js";
import {
  add,
  addBias,
  addConstant,
  type Draft,
  depthwiseOihw,
  domainOf,
  float,
  int,
  ints,
  oihw,
  wholeNumbers,
} from "./draft.js";
import { windowAttributes } from "./windows.js";

/** TensorFlow's operators in ONNX's words (https://www.tensorflow.org/api_docs/cc). */

/** One node of a TensorFlow graph, to be written into the draft. */
interface Site {
  readonly draft: Draft;
  readonly node: TfjsNode;
  /** Names of the values that it reads. */
  readonly inputs: readonly string[];
  readonly output: string;
}

/** Writes what a node computes under its name; false if it is used in a way that has no meaning here. */
type Translation = (site: Site) => boolean;

/** Writes a node; one that no translation knows keeps its own operator's name. */
export function translateNode(draft: Draft, node: TfjsNode, laterOutputs: number): void {
  const { name, op } = node;
  const inputs = node.inputs.filter((input) => !input.startsWith("^")).map(valueName);
  const translate = Object.hasOwn(TRANSLATIONS, op) ? TRANSLATIONS[op] : undefined;
  if (op !== "NoOp" && !translate?.({ draft, node, inputs, output: name }))
    add(draft, op, inputs, name, {}, UNKNOWN_DOMAIN);
  for (let index = 1; index <= laterOutputs; index++)
    add(draft, `output ${index} of ${op}`, inputs, `${name}:${index}`, {}, UNKNOWN_DOMAIN);
}

/** No operator of this domain is known. */
const UNKNOWN_DOMAIN = "tensorflow";

/** The value that an input or a signature's entry names: `NAME:1` is a node's second output, `NAME:0` the first. */
export function valueName(reference: string): string {
  return reference.replace(/:0$/, "");
}

/** An operator that ONNX has too, on the same inputs. */
function same(opType: string): Translation {
  return ({ draft, inputs, output }) => add(draft, opType, inputs, output) !== "";
}

function attribute<T extends TfjsAttributeType>(
  { attributes }: TfjsNode,
  name: string,
  type: T,
): TfjsAttributeValues[T] | undefined {
  const found: TfjsAttribute | undefined = attributes.get(name);
  return found?.type === type ? (found.value as TfjsAttributeValues[T]) : undefined;
}

const isChannelsFirst = (node: TfjsNode): boolean => attribute(node, "data_format", "string") === "NCHW";

/** A convolution, with what is fused into it: a bias, a batch norm, an activation, in this order. */
function convolution(isDepthwise: boolean): Translation {
  return ({ draft, node, inputs, output }) => {
    const [x = "", weight = "", ...operands] = inputs;
    const channelsFirst = isChannelsFirst(node);
    const window = {
      strides: attribute(node, "strides", "ints"),
      dilations: attribute(node, "dilations", "ints"),
      padding: attribute(node, "padding", "string") ?? "",
      explicit: attribute(node, "explicit_paddings", "ints"),
    };
    const steps = attribute(node, "fused_ops", "strings") ?? [];
    const turned = isDepthwise ? depthwiseOihw(draft, weight) : oihw(draft, weight);
    const attributes = windowAttributes(window, channelsFirst);
    const product = steps.length > 0 ? `${output}#product` : output;
    add(draft, "Conv", [x, turned], product, attributes, domainOf(channelsFirst));
    addSteps({ draft, node, inputs: operands, output }, product, steps, channelsFirst);
    return true;
  };
}

/** x·W, with what is fused into it. */
const matrixProduct: Translation = ({ draft, node, inputs, output }) => {
  const [x = "", weight = "", ...operands] = inputs;
  const steps = attribute(node, "fused_ops", "strings") ?? [];
  const product = steps.length > 0 ? `${output}#product` : output;
  const transposed = (name: string): number => (attribute(node, name, "bool") ? 1 : 0);
  add(draft, "Gemm", [x, weight], product, {
    transA: int(transposed("transpose_a")),
    transB: int(transposed("transpose_b")),
  });
  addSteps({ draft, node, inputs: operands, output }, product, steps, false);
  return true;
};

/** What a fused operator does to its product, one step after the other; the last has the node's name. */
function addSteps(
  { draft, node, inputs, output }: Site,
  product: string,
  steps: readonly string[],
  channelsFirst: boolean,
): void {
  const operands = [...inputs];
  let value = product;
  steps.forEach((step, index) => {
    const result = index === steps.length - 1 ? output : `${output}#step-${index}`;
    if (step === "BiasAdd") value = addBias(draft, value, operands.shift() ?? "", result, channelsFirst);
    else if (step === "FusedBatchNorm")
      value = add(
        draft,
        "BatchNormalization",
        [value, ...operands.splice(0, 4)],
        result,
        { epsilon: float(attribute(node, "epsilon", "float") ?? 0) },
        domainOf(channelsFirst),
      );
    else value = add(draft, step, [value, ...operands.splice(0)], result);
  });
}

const batchNorm: Translation = ({ draft, node, inputs, output }) => {
  const attributes = {
    epsilon: float(attribute(node, "epsilon", "float") ?? DEFAULT_EPSILON),
    training_mode: int(attribute(node, "is_training", "bool") === false ? 0 : 1),
  };
  add(draft, "BatchNormalization", inputs, output, attributes, domainOf(isChannelsFirst(node)));
  return true;
};

/** FusedBatchNorm's, where a file leaves it out. */
const DEFAULT_EPSILON = 1e-4;

function pool(opType: string): Translation {
  return ({ draft, node, inputs, output }) => {
    const window = {
      kernel: attribute(node, "ksize", "ints") ?? [],
      strides: attribute(node, "strides", "ints"),
      padding: attribute(node, "padding", "string") ?? "",
      explicit: attribute(node, "explicit_paddings", "ints"),
    };
    const channelsFirst = isChannelsFirst(node);
    const attributes = windowAttributes(window, channelsFirst);
    return add(draft, opType, inputs, output, attributes, domainOf(channelsFirst)) !== "";
  };
}

function reduction(opType: string): Translation {
  return ({ draft, node, inputs, output }) => {
    const keepdims = int(attribute(node, "keep_dims", "bool") ? 1 : 0);
    return add(draft, opType, inputs, output, { keepdims }) !== "";
  };
}

/** A sum; or a batch norm written in parts, whose parameters are still there. */
const sum: Translation = ({ draft, inputs, output }) => {
  const [a = "", b = ""] = inputs;
  const norm = batchNormOf(draft, a, b);
  if (!norm) add(draft, "Add", inputs, output);
  else
    add(draft, "BatchNormalization", norm.inputs, output, { epsilon: float(norm.epsilon) }, domainOf(false));
  return true;
};

const pad: Translation = ({ draft, inputs: [x = "", paddings, value], output }) => {
  const pads = padsOf(draft, paddings);
  if (!pads) return false;
  const inputs = value === undefined ? [x] : [x, "", value];
  return add(draft, "Pad", inputs, output, { pads: ints(...pads) }) !== "";
};

const transpose: Translation = ({ draft, inputs: [x = "", perm], output }) => {
  const order = numbersOf(draft, perm);
  return order !== undefined && add(draft, "Transpose", [x], output, { perm: ints(...order) }) !== "";
};

const squeeze: Translation = ({ draft, node, inputs, output }) => {
  const axes = attribute(node, "squeeze_dims", "ints") ?? attribute(node, "axis", "ints") ?? [];
  return add(draft, "Squeeze", inputs, output, axes.length > 0 ? { axes: ints(...axes) } : {}) !== "";
};

const gather: Translation = ({ draft, inputs: [x = "", places = "", axis], output }) => {
  const [along = 0] = numbersOf(draft, axis) ?? [];
  return add(draft, "Gather", [x, places], output, { axis: int(along) }) !== "";
};

/** Beyond any axis: how a slice says "to the end". */
const END = 2 ** 31;

/** x[…, ::-1] along some axes. */
const reverse: Translation = ({ draft, inputs: [x = "", axes], output }) => {
  const along = numbersOf(draft, axes);
  return (
    along !== undefined &&
    slice(
      draft,
      x,
      output,
      along.map((axis) => [axis, -1, -END, -1]),
    )
  );
};

/** [axis, start, end, step] of each axis that is cut. */
function slice(
  draft: Draft,
  x: string,
  output: string,
  cuts: readonly (readonly [axis: number, start: number, end: number, step: number])[],
): boolean {
  const list = (name: string, at: 0 | 1 | 2 | 3): string =>
    addConstant(draft, `${output}#${name}`, wholeNumbers(...cuts.map((cut) => cut[at])));
  const inputs = [x, list("starts", 1), list("ends", 2), list("axes", 0), list("steps", 3)];
  return add(draft, "Slice", inputs, output) !== "";
}

/** x[a:b:c, …] with masks of bits: an end that is left out, an ellipsis at the front; anything else is not read. */
const stridedSlice: Translation = ({ draft, node, inputs: [x = "", ...lists], output }) => {
  const [begin, end, strides] = lists.map((name) => numbersOf(draft, name));
  const bits = (name: string): number => attribute(node, name, "int") ?? 0;
  const [ellipsis, others] = [bits("ellipsis_mask"), bits("new_axis_mask") | bits("shrink_axis_mask")];
  if (!begin || !end || !strides || others !== 0 || ellipsis > 1) return false;
  const isLeftOut = (mask: string, at: number): boolean => ((bits(mask) >> at) & 1) === 1;
  const cuts = strides.flatMap((step, at) => {
    if (ellipsis === 1 && at === 0) return [];
    const axis = ellipsis === 1 ? at - strides.length : at;
    const start = isLeftOut("begin_mask", at) ? (step < 0 ? -1 : 0) : (begin[at] ?? 0);
    const stop = isLeftOut("end_mask", at) ? (step < 0 ? -END : END) : (end[at] ?? 0);
    return [[axis, start, stop, step] as const];
  });
  return slice(draft, x, output, cuts);
};

/** x·x, and (x − y)². */
const square: Translation = ({ draft, inputs: [x = ""], output }) => add(draft, "Mul", [x, x], output) !== "";
const squaredDifference: Translation = ({ draft, inputs, output }) => {
  const difference = add(draft, "Sub", inputs, `${output}#difference`);
  return add(draft, "Mul", [difference, difference], output) !== "";
};

const inverseRoot: Translation = ({ draft, inputs, output }) =>
  add(draft, "Reciprocal", [add(draft, "Sqrt", inputs, `${output}#root`)], output) !== "";

const TRANSLATIONS: Readonly<Record<string, Translation>> = {
  Add: sum,
  AddN: same("Sum"),
  AddV2: sum,
  AvgPool: pool("AveragePool"),
  BiasAdd: ({ draft, node, inputs: [x = "", b = ""], output }) =>
    addBias(draft, x, b, output, isChannelsFirst(node)) !== "",
  Cast: same("Cast"),
  ConcatV2: ({ draft, inputs, output }) => shapeOf(draft, inputs.slice(0, -1), output) !== undefined,
  Conv2D: convolution(false),
  DepthwiseConv2dNative: convolution(true),
  Div: same("Div"),
  EnsureShape: same("Identity"),
  ExpandDims: same("Unsqueeze"),
  FusedBatchNorm: batchNorm,
  FusedBatchNormV2: batchNorm,
  FusedBatchNormV3: batchNorm,
  FusedDepthwiseConv2dNative: convolution(true),
  Gather: gather,
  GatherV2: gather,
  Identity: same("Identity"),
  Inv: same("Reciprocal"),
  MatMul: matrixProduct,
  Max: reduction("ReduceMax"),
  MaxPool: pool("MaxPool"),
  Maximum: same("Max"),
  Mean: reduction("ReduceMean"),
  Minimum: same("Min"),
  Mul: same("Mul"),
  Pack: ({ draft, inputs, output }) => shapeOf(draft, inputs, output) !== undefined,
  Pad: pad,
  PadV2: pad,
  Pow: same("Pow"),
  PreventGradient: same("Identity"),
  RealDiv: same("Div"),
  Reciprocal: same("Reciprocal"),
  Relu: same("Relu"),
  Reshape: same("Reshape"),
  ReverseV2: reverse,
  Rsqrt: inverseRoot,
  Shape: same("Shape"),
  Sigmoid: same("Sigmoid"),
  Snapshot: same("Identity"),
  Sqrt: same("Sqrt"),
  Square: square,
  SquaredDifference: squaredDifference,
  Squeeze: squeeze,
  StopGradient: same("Identity"),
  StridedSlice: stridedSlice,
  Sub: same("Sub"),
  Sum: reduction("ReduceSum"),
  Transpose: transpose,
  _FusedConv2D: convolution(false),
  _FusedMatMul: matrixProduct,
};

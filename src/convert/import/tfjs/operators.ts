import { dtypeToCode, float, int, ints, wholeNumbers } from "../../formats/onnx/model.js";
import type {
  TfjsAttribute,
  TfjsAttributeType,
  TfjsAttributeValues,
  TfjsNode,
} from "../../formats/tfjs/model.js";
import {
  add,
  addBatchNorm,
  addBias,
  addConstant,
  addConvolution,
  addPool,
  batchNormOf,
  type Draft,
  numbersOf,
  padsOf,
  type Site,
  same,
  stepOf,
  type TfWindow,
  type Translation,
  translate,
} from "./draft.js";

/** One node of a TensorFlow graph, to be written into the draft. */
interface NodeSite extends Site {
  readonly node: TfjsNode;
}

type NodeTranslation = Translation<NodeSite>;

/** An attribute's value, if it exists and has the requested type. */
function attribute<T extends TfjsAttributeType>(
  { attributes }: TfjsNode,
  name: string,
  type: T,
): TfjsAttributeValues[T] | undefined {
  const found: TfjsAttribute | undefined = attributes.get(name);
  return found?.type === type ? (found.value as TfjsAttributeValues[T]) : undefined;
}

function isChannelsFirst(node: TfjsNode): boolean {
  return attribute(node, "data_format", "string") === "NCHW";
}

/** The window of a convolution or pool. */
function windowOf(node: TfjsNode): TfWindow {
  return {
    kernel: attribute(node, "ksize", "ints"),
    strides: attribute(node, "strides", "ints"),
    dilations: attribute(node, "dilations", "ints"),
    padding: attribute(node, "padding", "string") ?? "",
    explicit: attribute(node, "explicit_paddings", "ints"),
    channelsFirst: isChannelsFirst(node),
  };
}

/** Operators that move elements without computing. */

const pad: NodeTranslation = ({ draft, inputs: [x = "", paddings, value], output }) => {
  const pads = padsOf(draft, paddings);
  return (
    pads && add(draft, "Pad", value === undefined ? [x] : [x, "", value], output, { pads: ints(...pads) })
  );
};

const transpose: NodeTranslation = ({ draft, inputs: [x = "", perm], output }) => {
  const order = numbersOf(draft, perm);
  return order && add(draft, "Transpose", [x], output, { perm: ints(...order) });
};

const squeeze: NodeTranslation = ({ draft, node, inputs, output }) => {
  const axes = attribute(node, "axis", "ints") ?? attribute(node, "squeeze_dims", "ints") ?? [];
  return add(draft, "Squeeze", inputs, output, axes.length > 0 ? { axes: ints(...axes) } : {});
};

const gather: NodeTranslation = ({ draft, inputs: [x = "", places = "", axis], output }) => {
  const [along] = axis === undefined ? [0] : (numbersOf(draft, axis) ?? []);
  return along === undefined ? undefined : add(draft, "Gather", [x, places], output, { axis: int(along) });
};

/** tfjs joins the first N of its inputs, by default two. */
const concat: NodeTranslation = ({ draft, node, inputs, output }) => {
  const parts = inputs.slice(0, -1);
  const [axis] = numbersOf(draft, inputs.at(-1)) ?? [];
  if (axis === undefined || parts.length !== (attribute(node, "N", "int") ?? 2)) return undefined;
  return add(draft, "Concat", parts, output, { axis: int(axis) });
};

/** Values along a new first axis. */
const pack: NodeTranslation = ({ draft, inputs, output }) => {
  const parts = inputs.map((input, at) =>
    add(draft, "Unsqueeze", [input], stepOf(output, `part-${at}`), { axes: ints(0) }),
  );
  return add(draft, "Concat", parts, output, { axis: int(0) });
};

/** A slice along one axis. */
interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** An end at least this large is "to the end". */
const END = 2 ** 31;

/** x[…, ::-1] along some axes. */
const reverse: NodeTranslation = ({ draft, inputs: [x = "", axes], output }) => {
  const along = numbersOf(draft, axes);
  const cuts = along?.map((axis) => ({ axis, start: -1, end: -END, step: -1 }));
  return cuts && slice(draft, x, output, cuts);
};

/** x[a:b:c, …] with bit masks: an omitted end, one place, or an ellipsis at the front; new axes are not supported. */
const stridedSlice: NodeTranslation = ({ draft, node, inputs: [x = "", ...lists], output }) => {
  const [begin, end, strides] = lists.map((name) => numbersOf(draft, name));
  const bits = (name: string): number => attribute(node, name, "int") ?? 0;
  const ellipsis = bits("ellipsis_mask");
  if (!begin || !end || !strides || bits("new_axis_mask") !== 0 || ellipsis > 1) return undefined;
  const isSet = (mask: string, at: number): boolean => ((bits(mask) >> at) & 1) === 1;
  const places: number[] = [];
  const cuts = strides.flatMap((step, at) => {
    if (ellipsis === 1 && at === 0) return [];
    const axis = ellipsis === 1 ? at - strides.length : at;
    const first = begin[at] ?? 0;
    // Whatever its end, stride and other masks: tfjs takes one place.
    if (isSet("shrink_axis_mask", at)) {
      places.push(axis);
      return [{ axis, start: first, end: first === -1 ? END : first + 1, step: 1 }];
    }
    const start = isSet("begin_mask", at) ? (step < 0 ? -1 : 0) : first;
    const last = isSet("end_mask", at) ? (step < 0 ? -END : END) : (end[at] ?? 0);
    return [{ axis, start, end: last, step }];
  });
  if (places.length === 0) return slice(draft, x, output, cuts);
  return add(draft, "Squeeze", [slice(draft, x, stepOf(output, "slice"), cuts)], output, {
    axes: ints(...places),
  });
};

function slice(draft: Draft, x: string, output: string, cuts: readonly Cut[]): string {
  const list = (name: string, key: keyof Cut): string =>
    addConstant(draft, stepOf(output, name), wholeNumbers(cuts.map((cut) => cut[key])));
  const inputs = [
    x,
    list("starts", "start"),
    list("ends", "end"),
    list("axes", "axis"),
    list("steps", "step"),
  ];
  return add(draft, "Slice", inputs, output);
}

/** Pools, means and norms over the pixels of a map. */

function pool(opType: string): NodeTranslation {
  return ({ draft, node, inputs: [x = ""], output }) => {
    const window = windowOf(node);
    return addPool(draft, opType, x, output, { ...window, kernel: window.kernel ?? [] });
  };
}

function reduction(opType: string): NodeTranslation {
  return ({ draft, node, inputs, output }) =>
    add(draft, opType, inputs, output, { keepdims: int(attribute(node, "keep_dims", "bool") ? 1 : 0) });
}

const batchNorm: NodeTranslation = ({ draft, node, inputs, output }) => {
  const epsilon = attribute(node, "epsilon", "float") ?? DEFAULT_EPSILON;
  // Without the attribute, TensorFlow would train; tfjs never does.
  const isTraining = attribute(node, "is_training", "bool") === true;
  const mode = { training_mode: int(isTraining ? 1 : 0) };
  return addBatchNorm(draft, { inputs, epsilon }, output, isChannelsFirst(node), mode);
};

/** tfjs's own default, as in Keras; TensorFlow's is 0.0001. */
const DEFAULT_EPSILON = 1e-3;

/** Elementwise operators. */

/** A sum; or a batch norm written in parts, if its parameters are still separate. */
const sum: NodeTranslation = ({ draft, inputs, output }) => {
  const [a = "", b = "", ...others] = inputs;
  if (others.length > 0) return undefined;
  const norm = batchNormOf(draft, a, b);
  return norm ? addBatchNorm(draft, norm, output, false) : add(draft, "Add", inputs, output);
};

/** x·x. */
const square: NodeTranslation = ({ draft, inputs: [x = ""], output }) => add(draft, "Mul", [x, x], output);

/** (x − y)². */
const squaredDifference: NodeTranslation = ({ draft, inputs, output }) => {
  const difference = add(draft, "Sub", inputs, stepOf(output, "difference"));
  return add(draft, "Mul", [difference, difference], output);
};

/** 1 / √x. */
const inverseRoot: NodeTranslation = ({ draft, inputs, output }) =>
  add(draft, "Reciprocal", [add(draft, "Sqrt", inputs, stepOf(output, "root"))], output);

/** Convolutions and matrix products, with fused operators. */

/** To float32: tfjs computes with no other floats, and its backends make other truth values of a float. */
const cast: NodeTranslation = ({ draft, node, inputs, output }) =>
  attribute(node, "DstT", "dtype") === "DT_FLOAT"
    ? add(draft, "Cast", inputs, output, { to: int(dtypeToCode("float32")) })
    : undefined;

function convolution(kind: "full" | "depthwise"): NodeTranslation {
  return (site) => {
    const { draft, node, inputs } = site;
    const [x = "", weight = ""] = inputs;
    const window = windowOf(node);
    return withSteps(site, window.channelsFirst, (output) =>
      addConvolution(draft, kind, [x, weight], output, window),
    );
  };
}

/** x·W. */
const matrixProduct: NodeTranslation = (site) => {
  const { draft, node, inputs } = site;
  const transposed = (name: string): number => (attribute(node, name, "bool") ? 1 : 0);
  return withSteps(site, false, (output) =>
    add(draft, "Gemm", inputs.slice(0, 2), output, {
      transA: int(transposed("transpose_a")),
      transB: int(transposed("transpose_b")),
    }),
  );
};

const biasAdd: NodeTranslation = ({ draft, node, inputs: [x = "", b = ""], output }) =>
  addBias(draft, x, b, output, isChannelsFirst(node));

/**
 * A product and what is fused with it: a bias, and at most one activation, since tfjs reads the first two of `fused_ops`
 * and no activation without a bias.
 */
function withSteps(
  { draft, node, inputs, output }: NodeSite,
  channelsFirst: boolean,
  product: (output: string) => string,
): string | undefined {
  const operands = inputs.slice(2);
  const steps = attribute(node, "fused_ops", "strings");
  if (!FUSED.has(node.op)) return steps || operands.length > 0 ? undefined : product(output);
  const [bias, name, ...others] = steps ?? [];
  const [b = "", ...slopes] = operands;
  const count = name === "Prelu" ? 2 : 1;
  if (bias !== "BiasAdd" || others.length > 0) return undefined;
  if (operands.length !== count || attribute(node, "num_args", "int") !== count) return undefined;
  const biased = (result: string): string =>
    addBias(draft, product(stepOf(output, "product")), b, result, channelsFirst);
  if (name === undefined) return biased(output);
  const activate = ACTIVATIONS.get(name);
  // tfjs reads no slope of a depthwise convolution.
  if (!activate || (name === "LeakyRelu" && node.op.includes("Depthwise"))) return undefined;
  return activate(draft, node, [biased(stepOf(output, "biased")), ...slopes], output);
}

const FUSED: ReadonlySet<string> = new Set(["_FusedConv2D", "FusedDepthwiseConv2dNative", "_FusedMatMul"]);

/** The activations that tfjs fuses, by TensorFlow's names. */
const ACTIVATIONS: ReadonlyMap<
  string,
  (draft: Draft, node: TfjsNode, inputs: readonly string[], output: string) => string
> = new Map([
  ["Elu", (draft, _, inputs, output) => add(draft, "Elu", inputs, output)],
  [
    "LeakyRelu",
    (draft, node, inputs, output) => addLeakyRelu(draft, node, "leakyrelu_alpha", inputs, output),
  ],
  ["Prelu", (draft, _, inputs, output) => add(draft, "PRelu", inputs, output)],
  ["Relu", (draft, _, inputs, output) => add(draft, "Relu", inputs, output)],
  ["Relu6", (draft, _, [x = ""], output) => addClip(draft, x, output)],
  ["Sigmoid", (draft, _, inputs, output) => add(draft, "Sigmoid", inputs, output)],
]);

/** min(max(x, 0), 6). */
function addClip(draft: Draft, x: string, output: string): string {
  const bound = (name: string, value: number): string =>
    addConstant(draft, stepOf(output, name), { dtype: "float32", shape: [], data: Float32Array.of(value) });
  return add(draft, "Clip", [x, bound("least", 0), bound("most", 6)], output);
}

function addLeakyRelu(
  draft: Draft,
  node: TfjsNode,
  slope: string,
  inputs: readonly string[],
  output: string,
): string {
  return add(draft, "LeakyRelu", inputs, output, {
    alpha: float(attribute(node, slope, "float") ?? TF_SLOPE),
  });
}

/** LeakyRelu's default slope in TensorFlow. */
const TF_SLOPE = 0.2;

/** TensorFlow's operators, written as ONNX operators (https://www.tensorflow.org/api_docs/cc). */

/** Writes the operators of a node. The last result has the node's name. */
export function translateNode(draft: Draft, node: TfjsNode, laterOutputs: readonly string[]): void {
  const { name, op } = node;
  const inputs = node.inputs.filter((input) => !input.startsWith("^")).map(valueName);
  const [operands, write] = (Object.hasOwn(TRANSLATIONS, op) && TRANSLATIONS[op]) || [];
  const isKnown = hasKnownAttributes(node) && (operands === "all" || operands === inputs.length);
  if (op !== "NoOp")
    translate(isKnown ? write : undefined, op, { draft, node, inputs, output: name }, DOMAIN);
  for (const output of laterOutputs) add(draft, `a later output of ${op}`, inputs, output, {}, DOMAIN);
}

/** Whether tfjs reads the same from a node's attributes as this reader. */
function hasKnownAttributes({ op, attributes }: TfjsNode): boolean {
  return Array.from(attributes).every(([name, { type, value }]) => {
    const types: readonly TfjsAttributeType[] | undefined = TYPES.get(name);
    const values: readonly unknown[] | undefined = VALUES.get(name);
    const isZero = value === 0;
    return (
      types?.includes(type) !== false &&
      values?.includes(value) !== false &&
      (isZero || UNREAD.get(op) !== name)
    );
  });
}

/** What tfjs reads of words in either case is a word of TensorFlow's, or unknown. */
const VALUES: ReadonlyMap<string, readonly unknown[]> = new Map([
  ["data_format", ["NHWC", "NCHW"]],
  ["padding", ["SAME", "VALID", "EXPLICIT"]],
]);

/** Attributes that must be zero, since only tfjs reads them. */
const UNREAD: ReadonlyMap<string, string> = new Map([
  ["GatherV2", "batch_dims"],
  ["Pack", "axis"],
  ["Pad", "constant_value"],
]);

/** The types of the attributes that are read: in one of another type, tfjs finds its default, or another value. */
const TYPES: ReadonlyMap<string, readonly TfjsAttributeType[]> = new Map(
  Object.entries({
    DstT: ["dtype"],
    N: ["int"],
    alpha: ["float"],
    axis: ["ints", "int"],
    begin_mask: ["int"],
    data_format: ["string"],
    dilations: ["ints"],
    ellipsis_mask: ["int"],
    end_mask: ["int"],
    epsilon: ["float"],
    explicit_paddings: ["ints"],
    fused_ops: ["strings"],
    is_training: ["bool"],
    keep_dims: ["bool"],
    ksize: ["ints"],
    leakyrelu_alpha: ["float"],
    new_axis_mask: ["int"],
    num_args: ["int"],
    padding: ["string"],
    shrink_axis_mask: ["int"],
    squeeze_dims: ["ints"],
    strides: ["ints"],
    transpose_a: ["bool"],
    transpose_b: ["bool"],
  } as const),
);
const DOMAIN = "tensorflow";

/** The value that an input or a signature's entry names: `NAME:1` is a node's second output, `NAME:0` the first. */
export function valueName(reference: string): string {
  return reference.replace(/:0$/, "");
}

/**
 * By operator, how many inputs tfjs reads, and their meaning. Inputs beyond that number, such as control inputs, have no effect; a
 * control input in place of an optional operand would be one to tfjs.
 */
const TRANSLATIONS: Readonly<Record<string, readonly [operands: number | "all", write: NodeTranslation]>> = {
  Abs: [1, same("Abs")],
  Add: [2, sum],
  AddN: ["all", same("Sum")],
  AddV2: [2, sum],
  AvgPool: [1, pool("AveragePool")],
  BiasAdd: [2, biasAdd],
  BroadcastTo: [2, same("Expand")],
  Cast: [1, cast],
  ConcatV2: ["all", concat],
  Conv2D: [2, convolution("full")],
  DepthwiseConv2dNative: [2, convolution("depthwise")],
  Div: [2, same("Div")],
  Elu: [1, same("Elu")],
  EnsureShape: [1, same("Identity")],
  Equal: [2, same("Equal")],
  Exp: [1, same("Exp")],
  ExpandDims: [2, same("Unsqueeze")],
  FusedBatchNorm: [5, batchNorm],
  FusedBatchNormV2: [5, batchNorm],
  FusedBatchNormV3: [5, batchNorm],
  FusedDepthwiseConv2dNative: ["all", convolution("depthwise")],
  Gather: [2, gather],
  GatherV2: [3, gather],
  Greater: [2, same("Greater")],
  GreaterEqual: [2, same("GreaterOrEqual")],
  Identity: [1, same("Identity")],
  IdentityN: [
    "all",
    ({ draft, inputs, output }) => (inputs.length === 1 ? add(draft, "Identity", inputs, output) : undefined),
  ],
  Inv: [1, same("Reciprocal")],
  LeakyRelu: [1, ({ draft, node, inputs, output }) => addLeakyRelu(draft, node, "alpha", inputs, output)],
  Less: [2, same("Less")],
  LessEqual: [2, same("LessOrEqual")],
  LogicalNot: [1, same("Not")],
  MatMul: [2, matrixProduct],
  Max: [2, reduction("ReduceMax")],
  MaxPool: [1, pool("MaxPool")],
  Maximum: [2, same("Max")],
  Mean: [2, reduction("ReduceMean")],
  Minimum: [2, same("Min")],
  Mul: [2, same("Mul")],
  Neg: [1, same("Neg")],
  Pack: ["all", pack],
  Pad: [2, pad],
  PadV2: [3, pad],
  Pow: [2, same("Pow")],
  Prelu: [2, same("PRelu")],
  PreventGradient: [1, same("Identity")],
  RealDiv: [2, same("Div")],
  Reciprocal: [1, same("Reciprocal")],
  Relu: [1, same("Relu")],
  Relu6: [1, ({ draft, inputs: [x = ""], output }) => addClip(draft, x, output)],
  Reshape: [2, same("Reshape")],
  ReverseV2: [2, reverse],
  Rsqrt: [1, inverseRoot],
  Select: [3, same("Where")],
  SelectV2: [3, same("Where")],
  Shape: [1, same("Shape")],
  Sigmoid: [1, same("Sigmoid")],
  Snapshot: [1, same("Identity")],
  Softmax: [1, same("Softmax")],
  Sqrt: [1, same("Sqrt")],
  Square: [1, square],
  SquaredDifference: [2, squaredDifference],
  Squeeze: [1, squeeze],
  StopGradient: [1, same("Identity")],
  StridedSlice: [4, stridedSlice],
  Sub: [2, same("Sub")],
  Sum: [2, reduction("ReduceSum")],
  Tanh: [1, same("Tanh")],
  Tile: [2, same("Tile")],
  Transpose: [2, transpose],
  _FusedConv2D: ["all", convolution("full")],
  _FusedMatMul: ["all", matrixProduct],
};

import type { OnnxAttribute, OnnxNode } from "../../formats/onnx/model.js";
import { transposed } from "./constants.js";
import type { Layout, Reading, Value } from "./foreign.js";
import { asNode, asTensor, attributeOrInput, type OperatorSite } from "./site.js";

/**
 * Graphs that compute in NHWC, or between two transposes. Each value records the meaning of its axes, and each
 * operator is read as the same operator on NCHW, so that a transpose is not an operation.
 */

export const NCHW: Layout = [0, 1, 2, 3];
export const NHWC: Layout = [0, 2, 3, 1];

export function isNchw(layout: Layout): boolean {
  return layout.every((axis, at) => axis === at);
}

/** A layout in letters: NHWC. */
export function axesOf(layout: Layout): string {
  return layout.map((axis) => "NCHW"[axis] ?? "?").join("");
}

/** The layout of a value whose axes are put in another order. */
export function permuted(layout: Layout, order: readonly number[]): Layout {
  return order.map((axis) => layout[axis] ?? axis);
}

/** How to permute a value in a layout to NCHW: axis c of the result is this axis of the value. */
export function towardsNchw(layout: Layout): readonly number[] {
  return NCHW.map((axis) => layout.indexOf(axis));
}

/**
 * onnxruntime's domain of the standard operators on NHWC: the usual weights and attributes, activations with channels
 * last. TensorFlow's graphs are translated to these.
 */
export const NHWC_DOMAIN = "com.ms.internal.nhwc";

/** Elementwise operators, independent of the axes. */
export const ELEMENTWISE: ReadonlySet<string> = new Set([
  ...["Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Pow", "Sqrt", "Reciprocal", "Abs", "Neg", "Exp"],
  ...[
    "Relu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Clip",
    "LeakyRelu",
    "PRelu",
    "Tanh",
    "Elu",
    "Mish",
    "Selu",
    "Softplus",
    "ThresholdedRelu",
    "Erf",
    "Gelu",
    "Celu",
    "Softsign",
    "Where",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Equal",
    "Not",
  ],
  ...["Identity", "Dropout", "Cast", "Expand", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"],
]);

/** Operators over some axes, given as an attribute or second input, or as an attribute of one axis. */
const OVER_AXES: ReadonlySet<string> = new Set([
  ...["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2", "ReduceSumSquare"],
]);
const ALONG_AXIS: ReadonlySet<string> = new Set(["Gather", "LayerNormalization", "LpNormalization"]);

/** Operators whose result has different axes. */
const MOVES_AXES: ReadonlySet<string> = new Set(["Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"]);

/** Operators whose readers handle the layout themselves. */
const AWARE: ReadonlySet<string> = new Set([...MOVES_AXES, "GatherND", "MatMul", "Slice", "Shape", "Size"]);

/**
 * An operator as it would be on NCHW, with the layout of its result; undefined if its axis order gives it another
 * meaning, such as a convolution of NHWC.
 */
export function onNchw(site: OperatorSite): OperatorSite | undefined {
  if (site.inputs.some(isLine)) return onVectors(site);
  const layouts = layoutsOf(site.inputs);
  const { node } = site;
  const own = node.domain === NHWC_DOMAIN ? NHWC : undefined;
  const [layout] = own ? [own] : layouts;
  if (!layout || (!own && layouts.every(isNchw))) return site;
  if (!layouts.every((other) => String(other) === String(layout))) return undefined;
  if (AWARE.has(node.opType)) return { ...site, layout };
  if (ELEMENTWISE.has(node.opType))
    return { ...site, layout, inputs: site.inputs.map((value) => constantOnNchw(value, layout)) };
  if (OVER_AXES.has(node.opType)) {
    const axes = attributeOrInput(site, "axes", 1);
    if (!axes) return undefined;
    const value = axes.map((axis) => onAxis(axis, layout));
    return { ...site, layout, node: withAttribute(node, "axes", { type: "ints", value }) };
  }
  if (ALONG_AXIS.has(node.opType)) {
    const axis = node.attributes.get("axis");
    const value = onAxis(axis?.type === "int" ? axis.value : node.opType === "Gather" ? 0 : -1, layout);
    return { ...site, layout, node: withAttribute(node, "axis", { type: "int", value }) };
  }
  if (node.opType === "Pad") {
    const pads = attributeOrInput(site, "pads", 1);
    if (pads?.length !== 8) return undefined;
    const order = towardsNchw(layout);
    const value = [0, 4].flatMap((end) => order.map((axis) => pads[end + axis] ?? 0));
    return { ...site, layout, node: withAttribute(node, "pads", { type: "ints", value }) };
  }
  return own ? { ...site, layout } : undefined;
}

function isLine(value: Value | undefined): boolean {
  return value?.kind === "node" && value.reading?.isLine === true;
}

/** Whether a result has other axes than the operand: also a Gather of a single place. */
function movesAxes({ node: { opType }, inputs }: OperatorSite): boolean {
  return MOVES_AXES.has(opType) || (opType === "Gather" && asTensor(inputs[1])?.shape.length === 0);
}

/** An operator on [N, C, 1] as the same operator on [N, C]. */
function onVectors(site: OperatorSite): OperatorSite | undefined {
  const { opType, domain } = site.node;
  if (domain !== "" || site.inputs.some((value) => value?.kind === "node" && !isLine(value)))
    return undefined;
  if (movesAxes(site) || opType === "BatchNormalization") return { ...site, isLine: true };
  if (!ELEMENTWISE.has(opType)) return undefined;
  const inputs = site.inputs.map(withoutLastAxis);
  return inputs.includes(null)
    ? undefined
    : { ...site, isLine: true, inputs: inputs.map((value) => value ?? undefined) };
}

/** A constant that broadcasts over [N, C, 1], as it would over [N, C]; null if it does not. */
function withoutLastAxis(value: Value | undefined): Value | undefined | null {
  const tensor = asTensor(value);
  if (value?.kind !== "constant" || !tensor || tensor.data.length <= 1) return value;
  if (tensor.shape.length > 3 || tensor.shape.at(-1) !== 1) return null;
  return { ...value, tensor: { ...tensor, shape: tensor.shape.slice(0, -1) } };
}

/** A result as a value of the file: in its operator's layout, unless it has its own reading. */
export function laidOut(value: Value, site: OperatorSite): Value {
  const { layout, inputs, output } = site;
  const { opType } = site.node;
  if (value.kind !== "node" || value.planes) return value;
  const { node } = value;
  // If an operator only moves integers, they keep their scale; operators that compute on them produce a scale
  // of their own, or floats.
  const quantised = /Linear|Integer|QGemm/.test(opType)
    ? undefined
    : inputs.flatMap((input) => (input?.kind === "node" ? (input.reading?.quantised ?? []) : []))[0];
  const reading: Reading = {
    ...(layout && node.form.rank !== "flat" && !MOVES_AXES.has(opType) ? { layout } : {}),
    ...(site.isLine && !movesAxes(site) ? { isLine: true } : {}),
    ...(quantised ? { quantised } : {}),
    ...value.reading,
  };
  const narrowed = value.narrowed ? { narrowed: value.narrowed } : {};
  if (Object.keys(reading).length === 0) return { kind: "node", node, ...narrowed };
  return {
    kind: "node",
    ...narrowed,
    node: node.value === output && !node.reading ? { ...node, reading } : node,
    reading,
  };
}

/** The layouts of activations with four axes. One channel of one pixel has any in which images come first. */
function layoutsOf(values: readonly (Value | undefined)[]): readonly Layout[] {
  const maps = values.filter((value) => value?.kind === "node" && value.node.form.rank !== "flat");
  const layoutOf = (value: Value | undefined): Layout =>
    (value?.kind === "node" ? value.reading?.layout : undefined) ?? NCHW;
  const isFree = (value: Value | undefined): boolean => {
    const { rank, channels } = asNode(value)?.form ?? {};
    return rank === "pooled" && channels === 1;
  };
  const first = maps.every((value) => layoutOf(value)[0] === 0);
  return maps.filter((value) => !(first && isFree(value))).map(layoutOf);
}

/** A constant that broadcasts over a value in a layout, as it would over NCHW. */
function constantOnNchw(value: Value | undefined, layout: Layout): Value | undefined {
  const tensor = asTensor(value);
  if (value?.kind !== "constant" || !tensor || tensor.data.length <= 1 || tensor.shape.length > 4)
    return value;
  const shape = [...Array<number>(4 - tensor.shape.length).fill(1), ...tensor.shape];
  return { ...value, tensor: transposed({ ...tensor, shape }, towardsNchw(layout)) };
}

function onAxis(axis: number, layout: Layout): number {
  return layout[axis < 0 ? axis + layout.length : axis] ?? axis;
}

export function withAttribute(node: OnnxNode, name: string, attribute: OnnxAttribute): OnnxNode {
  return { ...node, attributes: new Map(node.attributes).set(name, attribute) };
}

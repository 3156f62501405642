import type { Size2d } from "../../../arch/index.js";
import { permute, type Tensor } from "../../../core/tensor.js";
import { toReal } from "../../../core/tensor-cast.js";
import { ints as integers, type OnnxNode } from "../../formats/onnx/model.js";
import {
  type ForeignNode,
  type ForeignOp,
  type Form,
  inForm,
  isKind,
  type Padding,
  type Value,
  type Window,
} from "./foreign.js";
import {
  asNode,
  asTensor,
  constantsOf,
  int,
  ints,
  nodeValue,
  numbers,
  type OperatorReader,
  replaced,
  text,
} from "./site.js";

/** Windows: their strides, dilations and paddings. */

const NO_PADDING: Padding = [0, 0, 0, 0];

function pair(values: readonly number[] | undefined, fallback: Size2d): Size2d | undefined {
  if (!values) return fallback;
  const [height, width, ...rest] = values;
  return height !== undefined && width !== undefined && rest.length === 0 ? [height, width] : undefined;
}

function windowOf(node: OnnxNode, kernel: Size2d, size: Size2d | undefined): Window | undefined {
  const stride = pair(ints(node, "strides"), [1, 1]);
  const between = pair(ints(node, "dilations"), [1, 1]);
  if (!stride || !between) return undefined;
  // Dilation has no effect along an axis with a single row or column.
  const dilation: Size2d = [kernel[0] === 1 ? 1 : between[0], kernel[1] === 1 ? 1 : between[1]];
  const autoPad = text(node, "auto_pad", "NOTSET");
  const [top = 0, left = 0, bottom = 0, right = 0] = ints(node, "pads") ?? [];
  if (autoPad === "NOTSET" || autoPad === "VALID")
    return {
      kernel,
      stride,
      dilation,
      padding: autoPad === "VALID" ? NO_PADDING : [top, left, bottom, right],
    };
  const padding = samePadding({ kernel, stride, dilation }, size, autoPad === "SAME_UPPER");
  return { kernel, stride, dilation, ...(padding ? { padding } : { padding: NO_PADDING, autoPad }) };
}

/** `auto_pad` SAME: padding for an output of ⌈size / stride⌉. An odd row goes after the map, or before it. */
function samePadding(
  { kernel, stride, dilation }: Pick<Window, "kernel" | "stride" | "dilation">,
  size: Size2d | undefined,
  after: boolean,
): Padding | undefined {
  const along = (axis: 0 | 1): readonly [number, number] | undefined => {
    const extent = (kernel[axis] - 1) * dilation[axis] + 1;
    if (!size && stride[axis] !== 1) return undefined;
    const last = size
      ? (Math.ceil(size[axis] / stride[axis]) - 1) * stride[axis] + extent - size[axis]
      : extent - 1;
    const total = Math.max(0, last);
    const [less, more] = [Math.floor(total / 2), Math.ceil(total / 2)];
    return after ? [less, more] : [more, less];
  };
  const [rows, columns] = [along(0), along(1)];
  return rows && columns && [rows[0], columns[0], rows[1], columns[1]];
}

/**
 * Whether windows end exactly at the padded map's last row and column, so that rounding up gives the same size.
 */
function endsWithMap(
  { kernel, stride, padding, dilation, autoPad }: Window,
  size: Size2d | undefined,
): boolean {
  if (!size || autoPad !== undefined) return false;
  return ([0, 1] as const).every((axis) => {
    const padded = size[axis] + padding[axis] + padding[axis === 0 ? 2 : 3];
    return (padded - (kernel[axis] - 1) * dilation[axis] - 1) % stride[axis] === 0;
  });
}

function slide(
  { kernel, stride, padding, dilation, autoPad }: Window,
  size: Size2d | undefined,
): Size2d | undefined {
  if (!size || autoPad !== undefined) return undefined;
  const along = (axis: 0 | 1): number => {
    const padded = size[axis] + padding[axis] + padding[axis === 0 ? 2 : 3];
    return Math.floor((padded - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis]) + 1;
  };
  return [along(0), along(1)];
}

const RGB = 3;

function halved(size: Size2d | undefined, round: (half: number) => number): Size2d | undefined {
  return size && [round(size[0] / 2), round(size[1] / 2)];
}

/**
 * The source of a window and its additional padding: a `Pad` before it is absorbed where that is exact. A convolution
 * pads with zeros; a maximum may be padded with −∞, or with zeros if the map has no negative values.
 */
function throughPad(
  input: ForeignNode,
  accepts: (value: number, source: ForeignNode) => boolean,
): {
  readonly source: ForeignNode;
  readonly more: Padding;
} {
  const [source] = input.inputs;
  if (input.op.kind !== "pad" || !source || !accepts(input.op.value, source))
    return { source: input, more: NO_PADDING };
  return { source, more: input.op.padding };
}

function padded(window: Window, [top, left, bottom, right]: Padding): Window {
  const { padding: own } = window;
  return { ...window, padding: [own[0] + top, own[1] + left, own[2] + bottom, own[3] + right] };
}

/** Convolutions, with paddings and groups as exporters write them. */

export const readConv: OperatorReader = ({ node, inputs, output }) => {
  const [input, weight, bias] = [asNode(inputs[0]), asTensor(inputs[1]), asTensor(inputs[2])];
  if (!input || weight?.shape.length !== 4 || weight.data.length === 0 || (inputs[2] && !bias))
    return undefined;
  const [outChannels = 0, perGroup = 0, height = 0, width = 0] = weight.shape;
  const { source, more } = throughPad(input, (value) => value === 0);
  const window = windowOf(node, [height, width], input.form.size);
  if (!window) return undefined;
  const groups = int(node, "group", 1);
  const op: ForeignOp<"conv"> = {
    kind: "conv",
    inChannels: perGroup * groups,
    outChannels,
    groups,
    ...padded(window, more),
  };
  const { intended } = input.form;
  const form: Form = {
    ...slid(window, input.form),
    channels: outChannels,
    // Among an OSNet's convolutions, only the one that reads the images has a stride of 2.
    intended: op.inChannels === RGB ? halved(intended, Math.ceil) : intended,
  };
  const conv: ForeignNode = {
    op,
    inputs: [source],
    form,
    value: output,
    ...constantsOf({ weight: inputs[1], bias: inputs[2] }),
  };
  return { kind: "node", node: conv };
};

/**
 * A transposed convolution with stride 1 is a convolution with each kernel turned by 180°, its channels transposed
 * within each group, and complementary padding. Any other enlarges maps, which no OSNet does.
 */
export const readConvTranspose: OperatorReader = (site) => {
  const { node, inputs } = site;
  const weight = asTensor(inputs[1]);
  const isRounded = inputs[1]?.kind === "constant" && inputs[1].rounding !== undefined;
  if (weight?.shape.length !== 4 || weight.data.length === 0 || isRounded) return undefined;
  const [channels = 0, perGroup = 0, height = 1, width = 1] = weight.shape;
  const groups = int(node, "group", 1);
  const window = windowOf(node, [height, width], undefined);
  const isPlain =
    window?.stride.every((step) => step === 1) === true &&
    window.autoPad === undefined &&
    ints(node, "output_shape") === undefined &&
    (ints(node, "output_padding") ?? []).every((size) => size === 0);
  if (!isPlain || groups < 1 || channels % groups !== 0) return undefined;
  const pads = window.padding.map((size, side) => {
    const axis = side % 2 === 0 ? 0 : 1;
    return window.dilation[axis] * (window.kernel[axis] - 1) - size;
  });
  if (pads.some((size) => size < 0)) return undefined;
  const grouped: Tensor = { ...weight, shape: [groups, channels / groups, perGroup, height, width] };
  const exchanged = permute(grouped, [0, 2, 1, 3, 4]);
  const data = exchanged.data.slice();
  const size = height * width;
  for (let start = 0; start < data.length; start += size) data.subarray(start, start + size).reverse();
  const turned = { ...weight, shape: [groups * perGroup, channels / groups, height, width], data } as Tensor;
  return readConv({
    ...site,
    node: { ...node, attributes: new Map([...node.attributes, ["pads", integers(...pads)]]) },
    inputs: [inputs[0], { kind: "constant", tensor: turned }, inputs[2]],
  });
};

/** A 1×1 convolution over all channels. */
export function pointwiseOp(inChannels: number, outChannels: number): ForeignOp<"conv"> {
  const one: Size2d = [1, 1];
  return {
    kind: "conv",
    ...{ inChannels, outChannels, groups: 1 },
    ...{ kernel: one, stride: one, dilation: one, padding: NO_PADDING },
  };
}

/**
 * A convolution whose groups follow from its input's channels, as in TensorFlow. A depthwise 1×1 convolution is a
 * product by channel, and after a norm without a weight, it is that weight.
 */
export const readGroupedConv: OperatorReader = (site) => {
  const [input, weight, bias] = [asNode(site.inputs[0]), asTensor(site.inputs[1]), asTensor(site.inputs[2])];
  const perGroup = weight?.shape[1] ?? 0;
  const channels = input?.form.channels ?? perGroup;
  const group = perGroup > 0 && channels % perGroup === 0 ? channels / perGroup : 1;
  const attributes = new Map(site.node.attributes).set("group", { type: "int", value: group });
  const value = readConv({ ...site, node: { ...site.node, attributes } });
  const conv = asNode(value);
  if (conv && isKind(conv, "conv") && isByPixel(conv.op) && input && weight && !bias) {
    const product = readColourProduct(input, weight, site.output);
    if (product) return product;
  }
  const isProduct = conv && isKind(conv, "conv") && group > 1 && isByPixel(conv.op);
  if (!isProduct || bias || !input || !weight || !isKind(input, "instanceNorm") || input.constants.weight)
    return value;
  const factors = { ...weight, shape: [channels] };
  return replaced(input, { value: site.output, constants: { ...input.constants, weight: factors } });
};

function isByPixel({ kernel, stride, padding }: ForeignOp<"conv">): boolean {
  return [...kernel, ...stride].every((size) => size === 1) && padding.every((size) => size === 0);
}

/** Pools, of windows and of the whole map, and the padding before a window. */

/** Padding with the lowest float32 or less, which is never the maximum. */
const LOWEST = -3.4e38;

/**
 * Whether a value is never negative, or is in the place of a ReLU: then that operator is the finding, and not the
 * padding after it.
 */
function isActivated(map: ForeignNode): boolean {
  return isKind(map, "relu", "sigmoid") || (isKind(map, "other") && map.inputs.length === 1);
}

function readPool(kind: "maxPool" | "avgPool"): OperatorReader {
  return ({ node, inputs, output, readersOf }) => {
    const input = asNode(inputs[0]);
    const kernel = pair(ints(node, "kernel_shape"), [0, 0]);
    if (!input || !kernel) return undefined;
    const { source, more } =
      kind === "maxPool"
        ? throughPad(input, (value, map) => value <= LOWEST || (value === 0 && isActivated(map)))
        : { source: input, more: NO_PADDING };
    const window = windowOf(node, kernel, input.form.size);
    if (!window) return undefined;
    const { intended } = input.form;
    // Adaptive pools are exported with a window of the whole map.
    const map = afterFirstPass(input, kernel, kind) ?? (coversMap(kernel, input.form) ? input : undefined);
    const isWhole =
      map !== undefined && !(kind === "avgPool" && isTransition(window, input, readersOf?.(output)));
    if (isWhole && [...window.padding, ...more].every((n) => n === 0))
      return globalPool(kind === "maxPool" ? "globalMaxPool" : "globalAvgPool", map, output);
    const whole = padded(window, more);
    const ceil = int(node, "ceil_mode", 0) !== 0 && !endsWithMap(whole, source.form.size);
    const op = { kind, ...whole, ceil };
    const form: Form = {
      ...input.form,
      ...slid(window, input.form, op.ceil),
      intended: halved(intended, kind === "maxPool" ? Math.ceil : Math.floor),
    };
    return nodeValue(op, [source], form, output);
  };
}

/** One pixel, which a pooled map is. */
const PIXEL: Size2d = [1, 1];

/** What remains of a map, or of the pixel of a pooled one with its padding. */
function slid(window: Window, { rank, size }: Form, isUnknown = false): Pick<Form, "rank" | "size"> {
  if (rank !== "pooled") return { rank, size: isUnknown ? undefined : slide(window, size) };
  const rest = slide(window, PIXEL);
  return String(rest) === String(PIXEL)
    ? { rank, size }
    : { rank: "map", size: isUnknown ? undefined : rest };
}

/**
 * Whether a window covers the map, or the map that correct earlier windows would give: then the earlier layer is the
 * finding, and not every pool after it.
 */
function coversMap(kernel: Size2d, { size, intended }: Form): boolean {
  return [size, intended].some((map) => map && kernel[0] === map[0] && kernel[1] === map[1]);
}

/**
 * Whether a window over the whole map is the pool of a transition, on a map of 2×2 pixels. The other pools of whole
 * maps are those of gates, after a depthwise convolution, and the last one, which is flattened.
 */
function isTransition(
  { kernel, stride }: Window,
  input: ForeignNode,
  readers: ReadonlySet<string> = new Set(),
): boolean {
  if ([...kernel, ...stride].some((size) => size !== 2) || readers.size === 0) return false;
  return !makesVectors(readers) && convBefore(input)?.op.groups === 1;
}

/** The convolution that a map comes from, through a norm and an activation. */
function convBefore(map: ForeignNode): ForeignNode<"conv"> | undefined {
  let source: ForeignNode | undefined = map;
  for (let steps = 0; source && steps < NORM_STEPS; steps++) {
    if (isKind(source, "conv")) return source;
    [source] = source.inputs;
  }
  return undefined;
}

/**
 * Operators that pass on a value. Over a map of one pixel they may be a global average pool, for runtimes that cannot
 * pool a single pixel: a gate's if the value is also multiplied, or the last one if it is flattened.
 */
export const readIdentity: OperatorReader = ({ node, inputs: [input], output, readersOf }) => {
  const map = asNode(input);
  const size = map?.form.rank === "map" ? map.form.size : undefined;
  if (!map || !readersOf || size?.[0] !== 1 || size[1] !== 1) return input;
  const readers = readersOf(output);
  const isGate = readers.has("Conv") && readers.size === 1 && readersOf(node.inputs[0] ?? "").has("Mul");
  return isGate || makesVectors(readers) ? globalPool("globalAvgPool", map, output) : input;
};

function makesVectors(readers: ReadonlySet<string>): boolean {
  return [...readers].some((opType) => MAKES_VECTORS.has(opType));
}

const MAKES_VECTORS: ReadonlySet<string> = new Set([
  ...["Flatten", "Reshape", "Squeeze", "Shape", "Gemm", "MatMul"],
]);

/** Limit on steps from a convolution to the pool after it: a norm and an activation, in any form. */
const NORM_STEPS = 12;

/** The source of two pools in a row, one over all rows and one over all columns, if they cover the map. */
function afterFirstPass(
  input: ForeignNode,
  kernel: Size2d,
  kind: "maxPool" | "avgPool",
): ForeignNode | undefined {
  const [source] = input.inputs;
  if (!isKind(input, kind) || !source || input.op.padding.some((n) => n !== 0)) return undefined;
  const { kernel: first, stride } = input.op;
  const isPass = (axis: 0 | 1): boolean => {
    const other = axis === 0 ? 1 : 0;
    return first[other] === 1 && stride[other] === 1 && kernel[axis] === 1;
  };
  const both: Size2d = [first[0] * kernel[0], first[1] * kernel[1]];
  return (isPass(0) || isPass(1)) && coversMap(both, source.form) ? source : undefined;
}

export const readMaxPool: OperatorReader = readPool("maxPool");
export const readAveragePool: OperatorReader = readPool("avgPool");

export function globalPool(
  kind: "globalAvgPool" | "globalMaxPool",
  input: ForeignNode,
  output: string | undefined,
): Value {
  return nodeValue({ kind }, [input], inForm(input.form, "pooled"), output);
}

/** The number of pixels that a mean is over, also if it is flattened; undefined if the map's size is not known. */
export function pooledPixels(mean: ForeignNode | undefined): number | undefined {
  const [input] = mean?.inputs ?? [];
  if (!mean || !input || isKind(mean, "flatten")) return input && pooledPixels(input);
  const { size } = input.form;
  return isKind(mean, "globalAvgPool") && size ? size[0] * size[1] : undefined;
}

export const readPad: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const pads = ints(node, "pads") ?? numbers(inputs[1]);
  const mode = text(node, "mode", "constant");
  if (!input || !pads) return undefined;
  if (mode !== "constant") {
    const op: ForeignOp = { kind: "other", opType: `Pad (${mode})`, operands: [] };
    return nodeValue(op, [input], { ...input.form, isGuess: true }, output);
  }
  // Axes in any other order have other pads.
  if (inputs[3] && String(numbers(inputs[3])) !== "0,1,2,3") return undefined;
  if (pads.every((size) => size === 0)) return { kind: "node", node: input };
  const [, , top = 0, left = 0, , , bottom = 0, right = 0] = pads;
  const elsewhere = [0, 1, 4, 5].some((index) => pads[index] !== 0);
  if (pads.length !== 8 || elsewhere) return undefined;
  const attribute = node.attributes.get("value");
  const value = attribute?.type === "float" ? attribute.value : inputs[2] ? numbers(inputs[2])?.[0] : 0;
  if (value === undefined) return undefined;
  const size = input.form.rank === "pooled" ? PIXEL : input.form.size;
  const grown: Size2d | undefined = size && [size[0] + top + bottom, size[1] + left + right];
  return nodeValue(
    { kind: "pad", padding: [top, left, bottom, right], value },
    [input],
    { ...input.form, rank: "map", size: grown },
    output,
  );
};

/** Limit on channels: more than an image has, and fewer than any layer. */
const MAX_MIXED = 4;

/**
 * A 1×1 convolution that moves and scales single channels: the normalisation of pixels, if there is no division per
 * channel.
 *
 * @param weight [out, in, 1, 1]
 */
function readColourProduct(input: ForeignNode, weight: Tensor, output: string): Value | undefined {
  const [rows = 0, columns = 0, height, width] = weight.shape;
  if (rows !== columns || rows > MAX_MIXED || rows !== input.form.channels || height !== 1 || width !== 1)
    return undefined;
  const values = toReal(weight, "weight").data;
  const order: number[] = [];
  const factors: number[] = [];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const value = values[row * columns + column] ?? 0;
      if (value === 0) continue;
      order.push(column);
      factors.push(value);
    }
  if (order.length !== rows || new Set(order).size !== rows) return undefined;
  const isMoved = order.some((column, row) => column !== row);
  const moved: ForeignNode = isMoved
    ? { ...input, op: { kind: "channelOrder", order }, inputs: [input], value: undefined, constants: {} }
    : input;
  const scale: Tensor = { dtype: "float32", shape: [rows], data: Float32Array.from(factors) };
  return nodeValue({ kind: "affine" }, [moved], input.form, output, { weight: scale });
}

import type { Op, OpKind, ParameterRole, Size2d } from "../../arch/graph.js";
import type { Shape, Tensor } from "../../core/tensor.js";
import type { TfjsAttribute, TfjsNode } from "../formats/tfjs/model.js";
import type { NormFloor } from "./options.js";

type TfjsLowering<K extends OpKind> = (op: Op<K>, site: TfjsSite) => TfjsFragment;

/** An operation that is one TensorFlow operator with the same inputs. */
function operator<K extends OpKind>(opType: string): TfjsLowering<K> {
  return (_op, { name, inputs }) => ({ nodes: [tfNode(name, opType, inputs)] });
}

/**
 * How each operation is written in TensorFlow operators, all of which every tfjs backend has. Activations are NHWC;
 * a pooled map is [N, 1, 1, C].
 */
const LOWERINGS: { readonly [K in OpKind]: TfjsLowering<K> } = {
  // The input is written with the graph.
  input: () => ({ nodes: [] }),
  conv: lowerConv,
  linear: lowerLinear,
  batchNorm: lowerBatchNorm,
  instanceNorm: lowerInstanceNorm,
  layerNorm: lowerLayerNorm,
  relu: operator("Relu"),
  sigmoid: operator("Sigmoid"),
  maxPool: lowerMaxPool,
  avgPool: (op, { name, inputs }) => ({ nodes: [tfNode(name, "AvgPool", inputs, windows(op))] }),
  globalAvgPool: (_op, { name, inputs: [x = ""], inputShape }) => spatialMean(name, x, inputShape),
  globalMaxPool: lowerGlobalMax,
  flatten: lowerFlatten,
  scale: operator("Mul"),
  add: lowerAdd,
};

/** The graph nodes that compute one operation. */
export function lowerOperation(op: Op, site: TfjsSite): TfjsFragment {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  return (LOWERINGS[op.kind] as (op: Op, site: TfjsSite) => TfjsFragment)(op, site);
}

/** x / ‖x‖₂ of each row of [N, D], with floors that keep the norm from being zero. */
export function lowerL2(name: string, x: string, floors: readonly NormFloor[]): TfjsFragment {
  const part = (suffix: string): string => `${name}/${suffix}`;
  const axis = part("axis");
  const constants = new Map<string, Tensor<"float32" | "int32">>([[axis, wholeNumbers(1)]]);
  const nodes = [
    tfNode(part("squared"), "Square", [x]),
    reduction(part("square"), "Sum", part("squared"), axis),
  ];
  const raised = (value: string, of: NormFloor["of"]): string =>
    floors
      .filter((floor) => floor.of === of)
      .reduce((current, { how, epsilon }, index) => {
        const output = part(`${of}/floor_${index}`);
        constants.set(`${output}/epsilon`, scalar(epsilon));
        nodes.push(tfNode(output, how === "sum" ? "AddV2" : "Maximum", [current, `${output}/epsilon`]));
        return output;
      }, value);
  nodes.push(tfNode(part("length"), "Sqrt", [raised(part("square"), "square")]));
  nodes.push(tfNode(name, "RealDiv", [x, raised(part("length"), "length")]));
  return { nodes, constants };
}

/** The attributes of a pool without padding, which drops a partial last window. */
function windows(op: { readonly kernel: Size2d; readonly stride: Size2d }): AttributeRecord {
  return {
    data_format: text("NHWC"),
    ksize: overImage(op.kernel),
    strides: overImage(op.stride),
    padding: text("VALID"),
  };
}

/** The lowest float32: shaders may not support infinity. */
const LOWEST = -(2 ** 128 - 2 ** 104);

/**
 * Max-pooling: tfjs has no explicit padding for it, and `SAME` is asymmetric at a stride of 2, so the map is padded
 * beforehand with the lowest float32, which is never the maximum.
 */
function lowerMaxPool(op: Op<"maxPool">, { name, inputs: [x = ""] }: TfjsSite): TfjsFragment {
  const [height, width] = op.padding;
  if (height === 0 && width === 0) return { nodes: [tfNode(name, "MaxPool", [x], windows(op))] };
  const [padded, paddings, lowest] = [`${name}/padded`, `${name}/paddings`, `${name}/lowest`];
  const sizes: Tensor<"int32"> = {
    ...wholeNumbers(0, 0, height, height, width, width, 0, 0),
    shape: [4, 2],
  };
  return {
    nodes: [
      tfNode(padded, "PadV2", [x, paddings, lowest], { Tpaddings: dtype("DT_INT32") }),
      tfNode(name, "MaxPool", [padded], windows(op)),
    ],
    constants: new Map<string, Tensor<"float32" | "int32">>([
      [paddings, sizes],
      [lowest, scalar(LOWEST)],
    ]),
  };
}

const SPATIAL_AXES = "spatial_axes";

/** The maximum of a map, as [N, 1, 1, C]. */
function lowerGlobalMax(_op: Op<"globalMaxPool">, { name, inputs: [x = ""] }: TfjsSite): TfjsFragment {
  return {
    nodes: [reduction(name, "Max", x, SPATIAL_AXES)],
    constants: new Map([[SPATIAL_AXES, wholeNumbers(1, 2)]]),
  };
}

/** [N, 1, 1, C] to [N, C]: with one pixel, the order of the axes makes no difference. */
function lowerFlatten(_op: Op<"flatten">, { name, inputs: [x = ""], shape }: TfjsSite): TfjsFragment {
  const sizes = `${name}/shape`;
  return {
    nodes: [tfNode(name, "Reshape", [x, sizes], { Tshape: dtype("DT_INT32") })],
    constants: new Map([[sizes, wholeNumbers(-1, shape[1] ?? 1)]]),
  };
}

/** A chain of additions, left to right: x₁ + … + xₖ is called `NAME/sum-k`. */
function lowerAdd(_op: Op<"add">, { name, inputs: [first = "", ...rest] }: TfjsSite): TfjsFragment {
  const sumOf = (count: number): string =>
    count === 1 ? first : count > rest.length ? name : `${name}/sum-${count}`;
  return { nodes: rest.map((term, index) => tfNode(sumOf(index + 2), "AddV2", [sumOf(index + 1), term])) };
}

/** One layer as TensorFlow: nodes, one of which is named after the layer, and constants that are not weights. */
export interface TfjsFragment {
  readonly nodes: readonly TfjsNode[];
  readonly constants?: ReadonlyMap<string, Tensor<"float32" | "int32">>;
}

/** The place of a layer in the graph: the node that its nodes must end in, and the nodes that they read. */
interface TfjsSite {
  /** The layer's node; of a layer with a merged ReLU, the ReLU's. */
  readonly name: string;
  /** Nodes of the activations that the layer reads. */
  readonly inputs: readonly string[];
  /** Nodes of the layer's weights. */
  readonly weights: Readonly<Partial<Record<ParameterRole, string>>>;
  /** The output's shape in PyTorch's layout, NCHW or NC, for one image. */
  readonly shape: Shape;
  /** The shape of the first input likewise, if the image size is fixed. */
  readonly inputShape: Shape | undefined;
  /** Whether the layer may use tfjs's fused operations. */
  readonly fuse: boolean;
  /** Whether the layer's ReLU is part of it. */
  readonly relu: boolean;
}

/** Attributes as written in the lowerings. */
type AttributeRecord = Readonly<Record<string, TfjsAttribute>>;

export const int = (value: number): TfjsAttribute => ({ type: "int", value });
export const ints = (...value: readonly number[]): TfjsAttribute => ({ type: "ints", value });
export const float = (value: number): TfjsAttribute => ({ type: "float", value });
export const bool = (value: boolean): TfjsAttribute => ({ type: "bool", value });
export const text = (value: string): TfjsAttribute => ({ type: "string", value });
export const texts = (...value: readonly string[]): TfjsAttribute => ({ type: "strings", value });
export const dtype = (value: "DT_FLOAT" | "DT_INT32"): TfjsAttribute => ({ type: "dtype", value });

/** A node with its attributes; osnet-convert's all compute in float32. */
export function tfNode(
  name: string,
  op: string,
  inputs: readonly string[],
  attributes: AttributeRecord = {},
): TfjsNode {
  return { name, op, inputs, attributes: new Map(Object.entries({ T: dtype("DT_FLOAT"), ...attributes })) };
}

/** A vector of integers: axes, paddings, shapes. */
export function wholeNumbers(...values: readonly number[]): Tensor<"int32"> {
  return { dtype: "int32", shape: [values.length], data: Int32Array.from(values) };
}

export function scalar(value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

/** `Mean`, `Max`: a reduction over constant axes that keeps its dimensions as ones. */
function reduction(name: string, op: string, input: string, axes: string): TfjsNode {
  return tfNode(name, op, [input, axes], { Tidx: dtype("DT_INT32"), keep_dims: bool(true) });
}

/** The operators of a layer with weights, with its bias and ReLU fused and without. */
interface Operators {
  readonly fused: string;
  readonly plain: string;
}

const CONVOLUTION: Operators = { fused: "_FusedConv2D", plain: "Conv2D" };
const DEPTHWISE: Operators = { fused: "FusedDepthwiseConv2dNative", plain: "DepthwiseConv2dNative" };
const LINEAR: Operators = { fused: "_FusedMatMul", plain: "MatMul" };

/** Whether TensorFlow's `SAME` is symmetric, as in PyTorch: at a stride of 1, if the size is unchanged. */
export function padsAsSame({ kernel, stride, padding }: Op<"conv">): boolean {
  const isCentered = padding.every((size, axis) => 2 * size === (kernel[axis] ?? 0) - 1);
  return isCentered && padding.some((size) => size > 0) && stride.every((step) => step === 1);
}

/**
 * A convolution over NHWC. Padding is explicit only where TensorFlow's `SAME` would be asymmetric, at a stride of 2,
 * because TensorFlow's own optimiser (2.21) fuses depthwise convolutions into an operator that does not support
 * explicit padding, and aborts.
 */
function lowerConv(op: Op<"conv">, site: TfjsSite): TfjsFragment {
  const same = padsAsSame(op);
  const padded = !same && op.padding.some((size) => size > 0);
  return weighted(op.groups === 1 ? CONVOLUTION : DEPTHWISE, site, {
    data_format: text("NHWC"),
    dilations: ints(1, 1, 1, 1),
    strides: overImage(op.stride),
    padding: text(same ? "SAME" : padded ? "EXPLICIT" : "VALID"),
    explicit_paddings: padded ? symmetric(op.padding) : ints(),
  });
}

/** x·W + b with W [in, out]. */
function lowerLinear(_op: Op<"linear">, site: TfjsSite): TfjsFragment {
  return weighted(LINEAR, site, { transpose_a: bool(false), transpose_b: bool(false) });
}

/**
 * `NAME` = operator, bias and ReLU in one if tfjs supports that; else `NAME/product` and `BiasAdd`, or no bias at all.
 */
function weighted({ fused, plain }: Operators, site: TfjsSite, attributes: AttributeRecord): TfjsFragment {
  const { name, weights, relu } = site;
  const inputs = [...site.inputs, weights.weight ?? ""];
  if (weights.bias === undefined) return { nodes: [tfNode(name, plain, inputs, attributes)] };
  if (!site.fuse) {
    const product = `${name}/product`;
    return { nodes: [tfNode(product, plain, inputs, attributes), biasAdd(name, product, weights.bias)] };
  }
  const fusion = {
    ...attributes,
    fused_ops: texts("BiasAdd", ...(relu ? ["Relu"] : [])),
    num_args: int(1),
    epsilon: float(0),
  };
  return { nodes: [tfNode(name, fused, [...inputs, weights.bias], fusion)] };
}

function biasAdd(name: string, input: string, bias: string): TfjsNode {
  return tfNode(name, "BiasAdd", [input, bias], { data_format: text("NHWC") });
}

/** Per axis of NHWC: once over the batch and the channels. */
function overImage([height, width]: Size2d): TfjsAttribute {
  return ints(1, height, width, 1);
}

/** Before and after each axis of NHWC. */
function symmetric([height, width]: Size2d): TfjsAttribute {
  return ints(0, 0, height, height, width, width, 0, 0);
}

/** One number per channel, which comes last. */
export function perChannel(values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape: [values.length], data: Float32Array.from(values) };
}

/** The axes of height and width as constants shared by all layers. */
const HEIGHT = "height_axis";
const WIDTH = "width_axis";
const AXES: ReadonlyMap<string, Tensor<"int32">> = new Map([
  [HEIGHT, wholeNumbers(1)],
  [WIDTH, wholeNumbers(2)],
]);

/**
 * The mean over height and width, kept as dimensions of 1: first of each column, then of their means. Not `Mean` over
 * both, because tfjs's WebAssembly then moves the channels to the front and sums all pixels sequentially, which for
 * 64×32 pixels is 9 times less accurate and 6 times slower than two average pools.
 *
 * @param shape the map's, NCHW; undefined if its size is dynamic, which uses `Mean` twice
 */
function spatialMean(name: string, input: string, shape: Shape | undefined): TfjsFragment {
  const first = `${name}/columns`;
  if (!shape) return { nodes: meanOfAnySize(name, input), constants: AXES };
  const [, , height = 1, width = 1] = shape;
  // WebAssembly does not support pooling single pixels.
  if (height === 1 && width === 1) return { nodes: [tfNode(name, "Identity", [input])] };
  if (height === 1 || width === 1) return { nodes: [average(name, input, height, width)] };
  return { nodes: [average(first, input, height, 1), average(name, first, 1, width)] };
}

/** The mean of a whole map, or of its columns. */
function average(name: string, input: string, height: number, width: number): TfjsNode {
  const window = overImage([height, width]);
  return tfNode(name, "AvgPool", [input], {
    data_format: text("NHWC"),
    ksize: window,
    strides: window,
    padding: text("VALID"),
  });
}

/** A mean m, and the mean of every pixel minus m, which is the error of m. */
function meanOfAnySize(name: string, input: string): readonly TfjsNode[] {
  const part = (suffix: string): string => `${name}/${suffix}`;
  const mean = (to: string, from: string, columns: string): readonly TfjsNode[] => [
    reduction(columns, "Mean", from, HEIGHT),
    reduction(to, "Mean", columns, WIDTH),
  ];
  return [
    ...mean(part("rough"), input, part("columns")),
    tfNode(part("rest"), "Sub", [input, part("rough")]),
    ...mean(part("off"), part("rest"), part("off_columns")),
    tfNode(name, "AddV2", [part("rough"), part("off")]),
  ];
}

/**
 * Instance norm: over height and width of each image and channel. x·s + (β − mean·s) with s = γ / √(variance + ε),
 * which is PyTorch's order of operations and needs one pass over the map less than centring it; the variance is the
 * biased one, of centred values.
 */
function lowerInstanceNorm(op: Op<"instanceNorm">, site: TfjsSite): TfjsFragment {
  const { name, inputs, weights, inputShape } = site;
  const { weight = "", bias = "" } = weights;
  const [x = ""] = inputs;
  const part = (suffix: string): string => `${name}/${suffix}`;
  const mean = spatialMean(part("mean"), x, inputShape);
  const variance = spatialMean(part("variance"), part("squares"), inputShape);
  return {
    nodes: [
      ...mean.nodes,
      tfNode(part("squares"), "SquaredDifference", [x, part("mean")]),
      ...variance.nodes,
      ...scaleNodes(name, part("variance"), weight),
      tfNode(part("moved"), "Mul", [part("mean"), part("scale")]),
      tfNode(part("shift"), "Sub", [bias, part("moved")]),
      tfNode(part("scaled"), "Mul", [x, part("scale")]),
      tfNode(name, "AddV2", [part("scaled"), part("shift")]),
    ],
    constants: new Map([
      ...(mean.constants ?? []),
      ...(variance.constants ?? []),
      [part("epsilon"), scalar(op.epsilon)],
    ]),
  };
}

const LAYER_AXES = "layer_axes";

/**
 * Layer norm: over all of an image, which is one pixel of a few channels, with a weight for each channel. Centred
 * first, so that a single channel gives exactly β.
 */
function lowerLayerNorm(op: Op<"layerNorm">, site: TfjsSite): TfjsFragment {
  const { name, inputs, weights } = site;
  const { weight = "", bias = "" } = weights;
  const [x = ""] = inputs;
  const part = (suffix: string): string => `${name}/${suffix}`;
  return {
    nodes: [
      reduction(part("mean"), "Mean", x, LAYER_AXES),
      tfNode(part("centered"), "Sub", [x, part("mean")]),
      tfNode(part("squares"), "Square", [part("centered")]),
      reduction(part("variance"), "Mean", part("squares"), LAYER_AXES),
      ...scaleNodes(name, part("variance"), weight),
      tfNode(part("scaled"), "Mul", [part("centered"), part("scale")]),
      tfNode(name, "AddV2", [part("scaled"), bias]),
    ],
    constants: new Map<string, Tensor<"float32" | "int32">>([
      [LAYER_AXES, wholeNumbers(1, 2, 3)],
      [part("epsilon"), scalar(op.epsilon)],
    ]),
  };
}

/** γ / √(variance + ε), as `NAME/scale`. */
function scaleNodes(name: string, variance: string, weight: string): TfjsFragment["nodes"] {
  const part = (suffix: string): string => `${name}/${suffix}`;
  return [
    tfNode(part("stabilized"), "AddV2", [variance, part("epsilon")]),
    tfNode(part("deviation"), "Rsqrt", [part("stabilized")]),
    tfNode(part("scale"), "Mul", [part("deviation"), weight]),
  ];
}

/**
 * Batch norm in evaluation mode. TensorFlow's operator supports images only; after a linear layer it is decomposed,
 * with the same constants.
 */
function lowerBatchNorm(op: Op<"batchNorm">, site: TfjsSite): TfjsFragment {
  const { name, shape, inputs, weights } = site;
  const { weight = "", bias = "", runningMean = "", runningVar = "" } = weights;
  if (shape.length === 4)
    return {
      nodes: [
        tfNode(name, "FusedBatchNormV3", [...inputs, weight, bias, runningMean, runningVar], {
          U: { type: "dtype", value: "DT_FLOAT" },
          data_format: text("NHWC"),
          epsilon: float(op.epsilon),
          is_training: bool(false),
        }),
      ],
    };
  const part = (suffix: string): string => `${name}/${suffix}`;
  return {
    nodes: [
      ...scaleNodes(name, runningVar, weight),
      tfNode(part("centered"), "Sub", [...inputs, runningMean]),
      tfNode(part("scaled"), "Mul", [part("centered"), part("scale")]),
      tfNode(name, "AddV2", [part("scaled"), bias]),
    ],
    constants: new Map([[part("epsilon"), scalar(op.epsilon)]]),
  };
}

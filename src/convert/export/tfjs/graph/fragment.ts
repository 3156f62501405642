import type { Op, ParameterRole, Size2d } from "../../../../arch/graph.js";
import type { Shape, Tensor } from "../../../../core/tensor.js";
import type { TfjsAttribute, TfjsNode } from "../../../formats/tfjs/model.js";

/** What one layer becomes: nodes, one of which is named after the layer, and constants that are no weights. */
export interface TfjsFragment {
  readonly nodes: readonly TfjsNode[];
  readonly constants?: ReadonlyMap<string, Tensor<"float32" | "int32">>;
}

/** Where a layer's nodes go: the node they must end in, and the nodes they read. */
export interface TfjsSite {
  /** The layer's node; of a layer with a merged ReLU, the ReLU's. */
  readonly name: string;
  /** Nodes of the activations that the layer reads. */
  readonly inputs: readonly string[];
  /** Nodes of the layer's weights. */
  readonly weights: Readonly<Partial<Record<ParameterRole, string>>>;
  /** The output's shape as PyTorch has it, NCHW or NC, for one image. */
  readonly shape: Shape;
  /** The shape of the first input likewise, if images have one size only. */
  readonly inputShape: Shape | undefined;
  /** Whether the layer may use tfjs's fused operations. */
  readonly fuse: boolean;
  /** Whether the layer's ReLU is part of it. */
  readonly relu: boolean;
}

/** Attributes as they are written in lowerings. */
export type AttributeRecord = Readonly<Record<string, TfjsAttribute>>;

export const int = (value: number): TfjsAttribute => ({ type: "int", value });
export const ints = (...value: readonly number[]): TfjsAttribute => ({ type: "ints", value });
export const float = (value: number): TfjsAttribute => ({ type: "float", value });
export const bool = (value: boolean): TfjsAttribute => ({ type: "bool", value });
export const text = (value: string): TfjsAttribute => ({ type: "string", value });
export const texts = (...value: readonly string[]): TfjsAttribute => ({ type: "strings", value });
export const dtype = (value: "DT_FLOAT" | "DT_INT32"): TfjsAttribute => ({ type: "dtype", value });

/** A node with its attributes; all of ours compute in float32. */
export function tfNode(
  name: string,
  op: string,
  inputs: readonly string[],
  attributes: AttributeRecord = {},
): TfjsNode {
  return { name, op, inputs, attributes: new Map(Object.entries({ T: dtype("DT_FLOAT"), ...attributes })) };
}

/** A vector of whole numbers: axes, paddings, shapes. */
export function wholeNumbers(...values: readonly number[]): Tensor<"int32"> {
  return { dtype: "int32", shape: [values.length], data: Int32Array.from(values) };
}

export function scalar(value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

/** `Mean`, `Max`: a reduction over constant axes that keeps its dimensions as ones. */
export function reduction(name: string, op: string, input: string, axes: string): TfjsNode {
  return tfNode(name, op, [input, axes], { Tidx: dtype("DT_INT32"), keep_dims: bool(true) });
}

/** What a layer with weights is called with its bias and ReLU inside, and without. */
interface Operators {
  readonly fused: string;
  readonly plain: string;
}

const CONVOLUTION: Operators = { fused: "_FusedConv2D", plain: "Conv2D" };
const DEPTHWISE: Operators = { fused: "FusedDepthwiseConv2dNative", plain: "DepthwiseConv2dNative" };
const LINEAR: Operators = { fused: "_FusedMatMul", plain: "MatMul" };

/** Whether TensorFlow's `SAME` pads both sides alike, as PyTorch does: at a stride of 1, where the size stays. */
export function padsAsSame({ kernel, stride, padding }: Op<"conv">): boolean {
  const isCentered = padding.every((size, axis) => 2 * size === (kernel[axis] ?? 0) - 1);
  return isCentered && padding.some((size) => size > 0) && stride.every((step) => step === 1);
}

/**
 * A convolution over NHWC. Padding is explicit where TensorFlow's `SAME` would put the odd pixel of a stride of 2 behind the
 * image only, where PyTorch pads both sides alike; and only there, because TensorFlow's own optimiser (2.21) fuses depthwise
 * convolutions into an operator that does not take explicit padding, and aborts.
 */
export function lowerConv(op: Op<"conv">, site: TfjsSite): TfjsFragment {
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
export function lowerLinear(_op: Op<"linear">, site: TfjsSite): TfjsFragment {
  return weighted(LINEAR, site, { transpose_a: bool(false), transpose_b: bool(false) });
}

/** `NAME` = operator, bias and ReLU in one where tfjs has that; else `NAME/product` and `BiasAdd`, or no bias at all. */
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
export function overImage([height, width]: Size2d): TfjsAttribute {
  return ints(1, height, width, 1);
}

/** Before and after each axis of NHWC. */
function symmetric([height, width]: Size2d): TfjsAttribute {
  return ints(0, 0, height, height, width, width, 0, 0);
}

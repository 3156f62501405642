import type { Op, Size2d } from "../../../../arch/ops.js";
import type { TfjsAttribute, TfjsNode } from "../../../formats/tfjs/index.js";
import {
  type AttributeRecord,
  bool,
  float,
  int,
  ints,
  type TfjsFragment,
  type TfjsSite,
  text,
  texts,
  tfNode,
} from "./fragment.js";

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

import type { Op, ParameterRole } from "../../arch/graph.js";
import { PARAMETER_SHAPES } from "../../arch/parameters.js";
import { elementCount, permute, type Shape, type Tensor } from "../../core/tensor.js";
import { chooseQuantization, roundToStored } from "../formats/tfjs/manifest.js";
import type { QuantizedDType, TfjsModel, TfjsWeight } from "../formats/tfjs/model.js";
import type { ValueNames } from "./options.js";

/**
 * Names of layers and of graph nodes. TensorFlow allows letters, digits and `_ . \ / > -`, so only a gate's stream has
 * to be written differently: `conv2.0.gate[1].fc1` is the node `conv2.0.gate-1.fc1`. No layer's name contains a hyphen,
 * so this is reversible. Auxiliary nodes append a slash and a name: `conv1.bn/mean`.
 */

/** TensorFlow's rule for node names. */
const LEGAL = /^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$/;

/** A layer's name as a node name. */
export function nodeName(layer: string): string {
  return layer.replaceAll(/\[(\d+)\]/g, "-$1");
}

export function isLegalNodeName(name: string): boolean {
  return LEGAL.test(name);
}

/** The Keras layer that computes a layer, and which of its calls. */
export interface KerasCall {
  readonly layer: string;
  readonly call: number;
}

/** The value of a layer in a layers model, as `LAYER#CALL`. */
function tapName(name: string): string {
  const { layer, call } = kerasCall(name);
  return `${layer}#${call}`;
}

/** A gate's module is one Keras layer that is called once per stream: `gate[2].fc1` is the second call of `gate.fc1`. */
export function kerasCall(layer: string): KerasCall {
  const stream = /\[(\d+)\]/.exec(layer)?.[1];
  return { layer: layer.replace(/\[\d+\]/, ""), call: stream === undefined ? 0 : Number(stream) - 1 };
}

/** The node that the stem reads if the model normalises pixels. */
export const NORMALIZED_NODE = "images/normalized";

/** The Keras layer that the stem reads then. */
export const NORMALIZED_LAYER = "images-normalized";

export const VALUE_NAMES: Readonly<Record<TfjsModel["format"], ValueNames>> = {
  "graph-model": { of: nodeName, normalized: NORMALIZED_NODE },
  "layers-model": { of: tapName, normalized: tapName(NORMALIZED_LAYER) },
};

/**
 * TensorFlow's layout of a weight: convolutions [height, width, in, out], depthwise ones [height, width, channels, 1],
 * linear layers [in, out], norms [channels]; PyTorch has [out, in / groups, height, width], [out, in], and [channels,
 * 1, 1] for layer norm. Each function has its inverse, and both only move numbers.
 */

/** PyTorch's axes in TensorFlow's order, or undefined if the order is the same. */
function axesOf(op: Op, role: ParameterRole): readonly number[] | undefined {
  if (role !== "weight") return undefined;
  // [C, 1, kh, kw] of a depthwise convolution becomes [kh, kw, C, 1]: its input channels are its output channels.
  if (op.kind === "conv") return op.groups === 1 ? [2, 3, 1, 0] : [2, 3, 0, 1];
  return op.kind === "linear" ? [1, 0] : undefined;
}

/** A weight in TensorFlow's layout. */
export function toTensorFlow(op: Op, role: ParameterRole, tensor: Tensor<"float32">): Tensor<"float32"> {
  const axes = axesOf(op, role);
  return axes ? permute(tensor, axes) : { ...tensor, shape: vector(tensor.shape) };
}

/** A weight in PyTorch's layout. */
export function fromTensorFlow(op: Op, role: ParameterRole, tensor: Tensor<"float32">): Tensor<"float32"> {
  const axes = axesOf(op, role);
  if (axes)
    return permute(
      tensor,
      axes.map((_, axis) => axes.indexOf(axis)),
    );
  const shapes = (PARAMETER_SHAPES[op.kind] as (op: Op) => Partial<Record<ParameterRole, Shape>>)(op);
  return { ...tensor, shape: shapes[role] ?? tensor.shape };
}

/** Layer norm's [channels, 1, 1] is [channels] with channels last. */
function vector(shape: Shape): Shape {
  return shape.length > 1 ? [elementCount(shape)] : shape;
}

/**
 * A weight as stored in a file. Only those of convolutions and linear layers are quantised: biases and norms are few,
 * and one step for the range of a batch norm's variances would lose the smallest ones.
 */
export function storedWeight(
  op: Op,
  role: ParameterRole,
  tensor: Tensor<"float32">,
  quantize: QuantizedDType | undefined,
): TfjsWeight {
  const many = role === "weight" && (op.kind === "conv" || op.kind === "linear");
  if (quantize === undefined || !many) return { tensor };
  const stored = chooseQuantization(tensor, quantize);
  return { tensor: roundToStored(tensor, stored), stored };
}

/**
 * Where TensorFlow keeps the numbers of a weight: convolutions [height, width, in, out], depthwise ones
 * [height, width, channels, 1], linear layers [in, out], norms [channels]; PyTorch has [out, in / groups, height, width],
 * [out, in], and [channels, 1, 1] for layer norm. Each function has its inverse, and both only move numbers.
 */
import type { Op, ParameterRole } from "../../../arch/ops.js";
import { PARAMETER_SHAPES } from "../../../arch/parameters.js";
import { elementCount, type Shape, type Tensor } from "../../../tensor.js";
import { permute } from "../../../tensor-permute.js";

/** PyTorch's axes in TensorFlow's order, or nothing where the order is the same. */
function axesOf(op: Op, role: ParameterRole): readonly number[] | undefined {
  if (role !== "weight") return undefined;
  // [C, 1, kh, kw] of a depthwise convolution becomes [kh, kw, C, 1]: its input channels are its output channels.
  if (op.kind === "conv") return op.groups === 1 ? [2, 3, 1, 0] : [2, 3, 0, 1];
  return op.kind === "linear" ? [1, 0] : undefined;
}

/** A weight as TensorFlow lays it out. */
export function toTensorFlow(op: Op, role: ParameterRole, tensor: Tensor<"float32">): Tensor<"float32"> {
  const axes = axesOf(op, role);
  return axes ? permute(tensor, axes) : { ...tensor, shape: vector(tensor.shape) };
}

/** The weight that PyTorch has for it. */
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

/** Layer norm's [channels, 1, 1] is [channels] where channels come last. */
function vector(shape: Shape): Shape {
  return shape.length > 1 ? [elementCount(shape)] : shape;
}

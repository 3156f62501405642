/**
 * Where TensorFlow keeps the numbers of a weight: convolutions [height, width, in, out], depthwise ones
 * [height, width, channels, 1], linear layers [in, out], norms [channels]; PyTorch has [out, in / groups, height, width],
 * [out, in], and [channels, 1, 1] for layer norm. Each function has its inverse, and both only move numbers.
 */
import type { Op, ParameterRole } from "../../../arch/ops.js";
import { PARAMETER_SHAPES } from "../../../arch/parameters.js";
import { DTYPES, elementCount, type Shape, type Tensor } from "../../../tensor.js";

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

/** A tensor with its axes in another order: axis k of the result is axis `axes[k]` of the tensor. */
export function permute<D extends "float32" | "float64">(
  { dtype, shape, data }: Tensor<D>,
  axes: readonly number[],
): Tensor<D> {
  const strides = shape.map((_, axis) => elementCount(shape.slice(axis + 1)));
  const result = axes.map((axis) => shape[axis] ?? 1);
  // As four dimensions, so that the loop is one nest for every rank.
  const pad = 4 - axes.length;
  const [n0 = 1, n1 = 1, n2 = 1, n3 = 1] = [...Array<number>(pad).fill(1), ...result];
  const [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = [
    ...Array<number>(pad).fill(0),
    ...axes.map((axis) => strides[axis] ?? 0),
  ];
  const target = new DTYPES[dtype](data.length);
  let index = 0;
  for (let i0 = 0; i0 < n0; i0++)
    for (let i1 = 0; i1 < n1; i1++)
      for (let i2 = 0; i2 < n2; i2++) {
        const start = i0 * s0 + i1 * s1 + i2 * s2;
        for (let i3 = 0; i3 < n3; i3++) target[index++] = data[start + i3 * s3] ?? 0;
      }
  return { dtype, shape: result, data: target };
}

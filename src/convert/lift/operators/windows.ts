import type { Size2d } from "../../../arch/index.js";
import type { OnnxNode } from "../../formats/onnx/index.js";
import type { ForeignNode, Padding, Window } from "../foreign.js";
import { ints, text } from "./site.js";

/** How far a window slides, and over what: strides, dilations and paddings. */

export const NO_PADDING: Padding = [0, 0, 0, 0];

export function pair(values: readonly number[] | undefined, fallback: Size2d): Size2d | undefined {
  if (!values) return fallback;
  const [height, width, ...rest] = values;
  return height !== undefined && width !== undefined && rest.length === 0 ? [height, width] : undefined;
}

export function windowOf(node: OnnxNode, kernel: Size2d, size: Size2d | undefined): Window | undefined {
  const stride = pair(ints(node, "strides"), [1, 1]);
  const dilation = pair(ints(node, "dilations"), [1, 1]);
  if (!stride || !dilation) return undefined;
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

/** `auto_pad` SAME: as much padding as makes the output ⌈size / stride⌉, an odd row going after, or before. */
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

export function slide(
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

/**
 * What a window really reads: a `Pad` before it becomes its own padding where that is exact. A convolution pads with
 * zeros; a maximum may be padded with zeros if nothing in the map is negative, or with −∞.
 */
export function throughPad(
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

export function padded(window: Window, [top, left, bottom, right]: Padding): Window {
  const { padding: own } = window;
  return { ...window, padding: [own[0] + top, own[1] + left, own[2] + bottom, own[3] + right] };
}

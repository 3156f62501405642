import { type Attributes, ints, text } from "./draft.js";

/** How TensorFlow says where a window goes: a number per axis of the image, and a padding by name. */
export interface TfWindow {
  readonly strides?: readonly number[] | undefined;
  readonly dilations?: readonly number[] | undefined;
  /** Of pools. */
  readonly kernel?: readonly number[] | undefined;
  readonly padding: string;
  /** Before and after each axis, for `EXPLICIT`. */
  readonly explicit?: readonly number[] | undefined;
}

/** The same as ONNX's attributes. */
export function windowAttributes(window: TfWindow, channelsFirst: boolean): Attributes {
  const { strides, dilations, kernel, padding, explicit = [] } = window;
  const [row, column] = channelsFirst ? [2, 3] : [1, 2];
  const spatial = (values: readonly number[] = []): readonly number[] =>
    [row, column].map((axis) => values[axis] ?? 1);
  const pads = [2 * row, 2 * column, 2 * row + 1, 2 * column + 1].map((at) => explicit[at] ?? 0);
  return {
    strides: ints(...spatial(strides)),
    dilations: ints(...spatial(dilations)),
    ...(kernel ? { kernel_shape: ints(...spatial(kernel)) } : {}),
    ...(padding === "SAME" ? { auto_pad: text("SAME_UPPER") } : {}),
    ...(padding === "EXPLICIT" ? { pads: ints(...pads) } : {}),
  };
}

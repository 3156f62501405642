import { ints, type OnnxAttributeRecord, text } from "../../formats/onnx/index.js";
import { wholeNumbers } from "../whole-numbers.js";
import { add, addConstant, type Draft, domainOf } from "./draft.js";

/** Convolutions and pools, with their windows as TensorFlow says them and their weights in its order of axes. */

/** Where a window goes: a number per axis of the image, and a padding by name. */
export interface TfWindow {
  readonly strides?: readonly number[] | undefined;
  readonly dilations?: readonly number[] | undefined;
  /** Of pools. */
  readonly kernel?: readonly number[] | undefined;
  readonly padding: string;
  /** Before and after each axis, for `EXPLICIT`. */
  readonly explicit?: readonly number[] | undefined;
  /** Whether axes are those of NCHW, and not of NHWC. */
  readonly channelsFirst: boolean;
}

/** A convolution by a weight [height, width, in, out], or of each channel by itself [height, width, channels, multiplier]. */
export function addConvolution(
  draft: Draft,
  kind: "full" | "depthwise",
  [x, weight]: readonly [x: string, weight: string],
  output: string,
  window: TfWindow,
): string {
  const turned = kind === "full" ? oihw(draft, weight) : depthwiseOihw(draft, weight);
  return add(draft, "Conv", [x, turned], output, attributesOf(window), domainOf(window.channelsFirst));
}

export function addPool(draft: Draft, opType: string, x: string, output: string, window: TfWindow): string {
  return add(draft, opType, [x], output, attributesOf(window), domainOf(window.channelsFirst));
}

function attributesOf(window: TfWindow): OnnxAttributeRecord {
  const { strides, dilations, kernel, padding, explicit = [], channelsFirst } = window;
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

/** A constant with its axes in another order, made once for all that read it. */
function turned(draft: Draft, name: string, suffix: string, ...perm: readonly number[]): string {
  const result = `${name}#${suffix}`;
  return draft.writers.has(result)
    ? result
    : add(draft, "Transpose", [name], result, { perm: ints(...perm) });
}

/** [height, width, in, out] as [out, in, height, width]. */
function oihw(draft: Draft, weight: string): string {
  return turned(draft, weight, "oihw", 3, 2, 0, 1);
}

/** [height, width, channels, multiplier] as [channels · multiplier, 1, height, width]. */
function depthwiseOihw(draft: Draft, weight: string): string {
  const result = `${weight}#depthwise`;
  if (draft.writers.has(result)) return result;
  const shape = addConstant(draft, DEPTHWISE, wholeNumbers([-1, 1, 0, 0]));
  return add(draft, "Reshape", [turned(draft, weight, "chw", 2, 3, 0, 1), shape], result);
}

const DEPTHWISE = "#depthwise-shape";

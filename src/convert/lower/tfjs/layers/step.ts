import type { ParameterRole, Size2d } from "../../../../arch/ops.js";
import type { Shape } from "../../../../tensor.js";
import type { JsonObject } from "../../../formats/tfjs/index.js";

/** One stock Keras layer. */
export interface KerasStep {
  readonly className: string;
  readonly config: JsonObject;
  /** Its weights by role, under Keras's names for them. */
  readonly weights?: Readonly<Partial<Record<ParameterRole, string>>>;
  /** What a step before the last is called after the layer: `-padded`. */
  readonly suffix?: string;
  /**
   * The steps it reads, by suffix; `INPUT` is what the layer reads. Default: the step before it, or the layer's inputs if
   * it is the first.
   */
  readonly reads?: readonly string[];
}

/** What the layer reads, among the steps that one of its steps reads. */
export const INPUT = "";

/** What a layer reads. */
export interface KerasSite {
  /** The shape of its first input, NCHW or NC for one image. */
  readonly input: Shape;
  /** Whether the input cannot be negative. */
  readonly fromRelu: boolean;
}

export const CHANNELS_LAST = { data_format: "channels_last" } as const;

/** How a convolution moves over the map. */
interface KerasWindow {
  readonly kernel: Size2d;
  readonly stride: Size2d;
  readonly padding: "same" | "valid";
}

export function convolution(filters: number, window: KerasWindow, bias: boolean): KerasStep {
  return {
    className: "Conv2D",
    config: { ...windowConfig(window, bias), filters },
    weights: { weight: "kernel", bias: "bias" },
  };
}

/** A convolution of each channel by itself. */
export function depthwiseConvolution(window: KerasWindow, bias: boolean): KerasStep {
  return {
    className: "DepthwiseConv2D",
    config: { ...windowConfig(window, bias), depth_multiplier: 1 },
    weights: { weight: "depthwise_kernel", bias: "bias" },
  };
}

function windowConfig({ kernel, stride, padding }: KerasWindow, bias: boolean): JsonObject {
  return {
    ...CHANNELS_LAST,
    kernel_size: kernel,
    strides: stride,
    padding,
    dilation_rate: [1, 1],
    activation: "linear",
    use_bias: bias,
  };
}

export function pooling(className: string, kernel: Size2d, stride: Size2d): KerasStep {
  return { className, config: { ...CHANNELS_LAST, pool_size: kernel, strides: stride, padding: "valid" } };
}

/** A whole map to one pixel: its columns first, so that fewer numbers are added up one after the other. */
export function wholeMap(
  className: string,
  [, , height = 1, width = 1]: Shape,
  suffix?: string,
): readonly KerasStep[] {
  const last = suffix === undefined ? {} : { suffix };
  const columns = { ...pooling(className, [height, 1], [height, 1]), ...last };
  const row = { ...pooling(className, [1, width], [1, width]), ...last };
  if (height === 1 && width === 1)
    return [{ className: "Activation", config: { activation: "linear" }, ...last }];
  if (height === 1) return [row];
  return width === 1 ? [columns] : [{ ...columns, suffix: `${suffix ?? ""}-columns` }, row];
}

export function zeroPadding([height, width]: Size2d): KerasStep {
  return {
    className: "ZeroPadding2D",
    config: {
      ...CHANNELS_LAST,
      padding: [
        [height, height],
        [width, width],
      ],
    },
    suffix: "-padded",
  };
}

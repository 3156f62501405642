import type { Op, OpKind, ParameterRole, Size2d } from "../../../arch/ops.js";
import type { Shape, Tensor } from "../../../tensor.js";
import type { JsonObject } from "../../formats/tfjs/index.js";
import { padsAsSame } from "./convolution.js";
import { lowerInstanceNorm } from "./keras-instance-norm.js";

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

type KerasLowering<K extends OpKind> = (op: Op<K>, site: KerasSite) => readonly KerasStep[];

export const CHANNELS_LAST = { data_format: "channels_last" } as const;
const NORM_WEIGHTS = {
  weight: "gamma",
  bias: "beta",
  runningMean: "moving_mean",
  runningVar: "moving_variance",
} as const;

/** How each operation is written in stock Keras layers, one after the other; the last has the layer's name. */
const LOWERINGS: { readonly [K in OpKind]: KerasLowering<K> } = {
  input: () => [],
  conv: lowerConv,
  linear: ({ outFeatures }) => [
    {
      className: "Dense",
      config: { units: outFeatures, activation: "linear", use_bias: true },
      weights: { weight: "kernel", bias: "bias" },
    },
  ],
  // PyTorch's momentum of 0.1 is how much of the new statistics is taken; Keras's is how much of the old is kept.
  batchNorm: ({ epsilon }) => [
    { className: "BatchNormalization", config: { axis: -1, momentum: 0.9, epsilon }, weights: NORM_WEIGHTS },
  ],
  instanceNorm: lowerInstanceNorm,
  layerNorm: ({ epsilon }) => [
    {
      className: "LayerNormalization",
      config: { axis: [-1], epsilon, center: true, scale: true },
      weights: { weight: "gamma", bias: "beta" },
    },
  ],
  relu: () => [{ className: "Activation", config: { activation: "relu" } }],
  sigmoid: () => [{ className: "Activation", config: { activation: "sigmoid" } }],
  maxPool: lowerMaxPool,
  avgPool: (op) => [pooling("AveragePooling2D", op.kernel, op.stride)],
  globalAvgPool: (_op, { input }) => wholeMap("AveragePooling2D", input),
  globalMaxPool: (_op, { input }) => wholeMap("MaxPooling2D", input),
  flatten: () => [{ className: "Flatten", config: CHANNELS_LAST }],
  scale: () => [{ className: "Multiply", config: {} }],
  add: () => [{ className: "Add", config: {} }],
};

/** The Keras layers that compute one operation. */
export function kerasSteps(op: Op, site: KerasSite): readonly KerasStep[] {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  return (LOWERINGS[op.kind] as (op: Op, site: KerasSite) => readonly KerasStep[])(op, site);
}

/** Keras pads like PyTorch at a stride of 1 only (`same`); otherwise the map is padded before. */
function lowerConv(op: Op<"conv">): readonly KerasStep[] {
  const { kernel, stride, padding, groups, outChannels, bias } = op;
  const padded = padding.some((size) => size > 0);
  const same = padsAsSame(op);
  const config = {
    ...CHANNELS_LAST,
    kernel_size: kernel,
    strides: stride,
    padding: same ? "same" : "valid",
    dilation_rate: [1, 1],
    activation: "linear",
    use_bias: bias,
  };
  const convolution: KerasStep =
    groups === 1
      ? {
          className: "Conv2D",
          config: { ...config, filters: outChannels },
          weights: { weight: "kernel", bias: "bias" },
        }
      : {
          className: "DepthwiseConv2D",
          config: { ...config, depth_multiplier: 1 },
          weights: { weight: "depthwise_kernel", bias: "bias" },
        };
  return padded && !same ? [zeroPadding(padding), convolution] : [convolution];
}

/** Keras pads with zeros only, which never win after a ReLU, where every OSNet has its max-pool. */
function lowerMaxPool(op: Op<"maxPool">, { fromRelu }: KerasSite): readonly KerasStep[] {
  const pool = pooling("MaxPooling2D", op.kernel, op.stride);
  if (op.padding.every((size) => size === 0)) return [pool];
  if (!fromRelu) throw new Error("a padded max-pool of numbers that may be negative has no Keras layer");
  return [zeroPadding(op.padding), pool];
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

function pooling(className: string, kernel: Size2d, stride: Size2d): KerasStep {
  return { className, config: { ...CHANNELS_LAST, pool_size: kernel, strides: stride, padding: "valid" } };
}

function zeroPadding([height, width]: Size2d): KerasStep {
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

/** What Keras calls the weights of an operation, by role. */
export function kerasWeights(op: Op): Readonly<Partial<Record<ParameterRole, string>>> {
  const anywhere: KerasSite = { input: [], fromRelu: true };
  // A convolution that absorbed a batch norm has a bias.
  return kerasSteps(op.kind === "conv" ? { ...op, bias: true } : op, anywhere).at(-1)?.weights ?? {};
}

/** A weight as its Keras layer holds it: an instance norm's γ is a depthwise convolution's [1, 1, channels, 1]. */
export function kerasShape(op: Op, role: ParameterRole, tensor: Tensor<"float32">): Tensor<"float32"> {
  return op.kind === "instanceNorm" && role === "weight"
    ? { ...tensor, shape: [1, 1, op.channels, 1] }
    : tensor;
}

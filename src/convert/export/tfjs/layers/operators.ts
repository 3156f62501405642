import type { Op, OpKind, ParameterRole, Size2d } from "../../../../arch/graph.js";
import type { Shape, Tensor } from "../../../../core/tensor.js";
import type { JsonObject } from "../../../formats/tfjs/json.js";
import { padsAsSame } from "../graph/fragment.js";

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

const CHANNELS_LAST = { data_format: "channels_last" } as const;

/** How a convolution moves over the map. */
interface KerasWindow {
  readonly kernel: Size2d;
  readonly stride: Size2d;
  readonly padding: "same" | "valid";
}

function convolution(filters: number, window: KerasWindow, bias: boolean): KerasStep {
  return {
    className: "Conv2D",
    config: { ...windowConfig(window, bias), filters },
    weights: { weight: "kernel", bias: "bias" },
  };
}

/** A convolution of each channel by itself. */
function depthwiseConvolution(window: KerasWindow, bias: boolean): KerasStep {
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

function pooling(className: string, kernel: Size2d, stride: Size2d): KerasStep {
  return { className, config: { ...CHANNELS_LAST, pool_size: kernel, strides: stride, padding: "valid" } };
}

/** A whole map to one pixel: its columns first, so that fewer numbers are added up one after the other. */
function wholeMap(
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

/**
 * Keras normalises over height and width with a weight per pixel or none: with none, then per channel by a depthwise
 * convolution of one pixel, which holds γ and β.
 *
 * `LayerNormalization` alone would do, but tfjs's WebAssembly adds up all pixels one after the other for it, which at
 * 128×64 pixels puts the variance 2e-6 from what it is, and gates behind it up to six times farther from the truth than PyTorch.
 * So its mean is taken off before, and its scale corrected after, by means over the columns and then over the row of their means:
 * of centred values c with variance v and normalised ones y = c·s, s² ≈ 1 / (v + ε), mean(y²) should be v / (v + ε), which is
 * softsign(v / ε). It is off by a millionth, and y + y · (v / (v + ε) − mean(y²)) / 2 by the square of that.
 */
function lowerInstanceNorm({ epsilon }: Op<"instanceNorm">, { input }: KerasSite): readonly KerasStep[] {
  const mean = (suffix: string): readonly KerasStep[] => wholeMap("AveragePooling2D", input, suffix);
  return [
    ...mean("-mean"),
    rescaling("-opposite", -1),
    step("-centered", "Add", {}, INPUT, "-opposite"),
    step("-normalized", "LayerNormalization", { axis: [1, 2], epsilon, center: false, scale: false }),
    // A tensor that a layer reads twice is given back too early by tfjs: squares are products with the opposite.
    rescaling("-mirrored", -1, 0, "-centered"),
    step("-squares", "Multiply", {}, "-centered", "-mirrored"),
    ...mean("-variance"),
    rescaling("-ratio", -1 / epsilon),
    step("-expected", "Activation", { activation: "softsign" }),
    rescaling("-inverted", -1, 0, "-normalized"),
    step("-energies", "Multiply", {}, "-normalized", "-inverted"),
    ...mean("-energy"),
    step("-excess", "Add", {}, "-expected", "-energy"),
    rescaling("-half", 0.5),
    step("-correction", "Multiply", {}, "-normalized", "-half"),
    step("-corrected", "Add", {}, "-normalized", "-correction"),
    depthwiseConvolution({ kernel: [1, 1], stride: [1, 1], padding: "valid" }, true),
  ];
}

/** A step without weights, of the step before it or of those that it names. */
function step(
  suffix: string,
  className: string,
  config: KerasStep["config"],
  ...reads: readonly string[]
): KerasStep {
  return { className, config, suffix, ...(reads.length > 0 ? { reads } : {}) };
}

/** x · scale + offset. */
function rescaling(suffix: string, scale: number, offset = 0, ...reads: readonly string[]): KerasStep {
  return step(suffix, "Rescaling", { scale, offset }, ...reads);
}

type KerasLowering<K extends OpKind> = (op: Op<K>, site: KerasSite) => readonly KerasStep[];

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
  const { kernel, stride, groups, outChannels, bias } = op;
  const same = padsAsSame(op);
  const window = { kernel, stride, padding: same ? "same" : "valid" } as const;
  const step = groups === 1 ? convolution(outChannels, window, bias) : depthwiseConvolution(window, bias);
  const padded = op.padding.some((size) => size > 0);
  return padded && !same ? [zeroPadding(op.padding), step] : [step];
}

/** Keras pads with zeros only, which never win after a ReLU, where every OSNet has its max-pool. */
function lowerMaxPool(op: Op<"maxPool">, { fromRelu }: KerasSite): readonly KerasStep[] {
  const pool = pooling("MaxPooling2D", op.kernel, op.stride);
  if (op.padding.every((size) => size === 0)) return [pool];
  if (!fromRelu) throw new Error("a padded max-pool of numbers that may be negative has no Keras layer");
  return [zeroPadding(op.padding), pool];
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

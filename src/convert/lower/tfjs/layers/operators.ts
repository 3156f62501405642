import type { Op, OpKind, ParameterRole } from "../../../../arch/ops.js";
import type { Tensor } from "../../../../tensor.js";
import { padsAsSame } from "../graph/convolution.js";
import { lowerInstanceNorm } from "./instance-norm.js";
import {
  CHANNELS_LAST,
  convolution,
  depthwiseConvolution,
  type KerasSite,
  type KerasStep,
  pooling,
  wholeMap,
  zeroPadding,
} from "./step.js";

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

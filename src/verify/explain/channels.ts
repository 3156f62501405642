import type { RealTensor } from "../../core/tensor.js";
import { errorAt } from "../bounds/bound.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";
import { type Guess, type Hypothesis, mapped, type Step } from "./hypothesis.js";

/**
 * Minimum number of values for each of the two numbers that are fitted to a channel: fewer would fit anything.
 */
const MIN_VALUES = 8;

/** Maximum relative spread of factors that count as one number. */
const ONE_FACTOR = 1e-2;

/** Norms with other parameters: each channel's values are a multiple of the correct ones, plus a constant. */
export const guessChannels: Guess = (step, { actual, group, parameters }) => {
  const { node } = step;
  const isNorm = node.op.kind === "batchNorm" || node.op.kind === "instanceNorm";
  if (group.nodes.at(-1)?.name !== node.name || !(isNorm || node.foldedBatchNorm)) return [];
  const own = step.compute();
  const channel = channelOf(own);
  const [images = 1, channels = 1] = own.shape;
  if (own.data.length / channels < 2 * MIN_VALUES || images < 1) return [];
  const fit = fitted(own, actual, channel, channels);
  return [
    ...corrected(step, fit, parameters),
    {
      cause: "weights-other",
      says: "each channel is scaled and shifted: the norm's parameters are not the checkpoint's",
      output: () =>
        mapped(own, (y, i) => (fit.factors[channel(i)] as number) * y + (fit.shifts[channel(i)] as number)),
    },
  ];
};

interface Fit {
  readonly factors: Float64Array;
  readonly shifts: Float64Array;
}

/** Least squares of a·own + b to a candidate's values, channel by channel. */
function fitted(
  own: RealTensor,
  actual: RealTensor,
  channel: (index: number) => number,
  channels: number,
): Fit {
  const count = own.data.length / channels;
  const [x, y] = [new Float64Array(channels), new Float64Array(channels)];
  for (let i = 0; i < own.data.length; i++) {
    const c = channel(i);
    x[c] = (x[c] as number) + (own.data[i] as number) / count;
    y[c] = (y[c] as number) + (actual.data[i] as number) / count;
  }
  const [xx, xy] = [new Float64Array(channels), new Float64Array(channels)];
  for (let i = 0; i < own.data.length; i++) {
    const c = channel(i);
    const dx = (own.data[i] as number) - (x[c] as number);
    xx[c] = (xx[c] as number) + dx * dx;
    xy[c] = (xy[c] as number) + dx * ((actual.data[i] as number) - (y[c] as number));
  }
  const factors = xy.map((value, c) => ((xx[c] as number) > 0 ? value / (xx[c] as number) : 1));
  return { factors, shifts: y.map((mean, c) => mean - (factors[c] as number) * (x[c] as number)) };
}

/**
 * All running variances are n/(n − 1) times the checkpoint's: Bessel's correction was applied twice, since PyTorch
 * stores corrected ones.
 */
function corrected({ node, compute }: Step, { factors }: Fit, parameters: ParameterSource): Hypothesis[] {
  const norm = node.foldedBatchNorm ?? (node.op.kind === "batchNorm" ? node : undefined);
  const path = norm?.parameters.runningVar;
  const epsilon = node.foldedBatchNorm?.epsilon ?? ("epsilon" in node.op ? node.op.epsilon : 0);
  if (path === undefined) return [];
  const variances = parameters(path);
  const ratios = factors.map((a, c) => {
    const variance = variances[c] as number;
    return ((variance + epsilon) / a ** 2 - epsilon) / variance;
  });
  const ratio = ratios.toSorted()[Math.floor(ratios.length / 2)] ?? 1;
  const count = ratio / (ratio - 1);
  const spread = ratios.filter((r) => Math.abs(r - ratio) > ONE_FACTOR * Math.abs(ratio - 1) + 1e-6).length;
  if (!(count >= 2 && count < 1e6) || spread > ratios.length / 4) return [];
  return [
    {
      cause: "unbiased-variance",
      says: `the running variances are ${ratio.toPrecision(6)} times the checkpoint's, n/(n − 1) with n = ${Math.round(count)}`,
      output: () =>
        compute({
          parameters: (wanted) =>
            wanted === path ? parameters(wanted).map((value) => value * ratio) : parameters(wanted),
        }),
    },
  ];
}

/** Maximum share of wrong channels, if only some channels are wrong. */
const FEW = 0.25;

/** Some channels are wrong and all others are right: only weights are specific to a channel. */
export const guessFewChannels: Guess = (step, { actual, recomputed, group }) => {
  const { kind } = step.node.op;
  if (group.nodes.length !== 1) return [];
  if (kind !== "conv" && kind !== "linear" && kind !== "batchNorm" && kind !== "instanceNorm") return [];
  const own = step.compute();
  const channel = channelOf(own);
  const off = new Set<number>();
  for (let i = 0; i < own.data.length; i++)
    if (
      Math.abs((actual.data[i] as number) - (own.data[i] as number)) > errorAt(recomputed.bound.elements, i)
    )
      off.add(channel(i));
  const [, channels = 1] = own.shape;
  if (off.size === 0 || off.size > Math.max(1, FEW * channels) || channels < 2) return [];
  const named = [...off].slice(0, 4).join(", ");
  return [
    {
      cause: "weights-other",
      says: `only ${off.size === 1 ? "channel" : "channels"} ${named}${off.size > 4 ? " …" : ""} of ${channels} ${off.size === 1 ? "is" : "are"} wrong: other weights are used there`,
      output: () => mapped(own, (y, i) => (off.has(channel(i)) ? (actual.data[i] as number) : y)),
    },
  ];
};

function channelOf({ shape, data }: RealTensor): (index: number) => number {
  const [images = 1, channels = 1] = shape;
  const plane = data.length / images / channels;
  return (index) => Math.floor(index / plane) % channels;
}

import type { LayerNode, Op, OpKind } from "../../arch/graph.js";
import type { NodeWeights } from "./weights.js";

/**
 * How large the channels of every layer can become, for every image within `IMAGE_BOUND` and in any order of summation:
 * interval arithmetic through the stored weights. Each interval is widened by what rounding to half precision, and sums
 * in it, may add, so that it also contains what a runtime computes.
 */

/** The images that the bounds apply to: normalised pictures are within 2.7, raw pixels within 255. */
export const IMAGE_BOUND: number = 2 ** 8;

/**
 * The number of pixels that an instance norm's bound applies to: no value is farther than √n deviations from the mean
 * of n.
 */
const PLANE_BOUND = 2 ** 24;

/** The relative error of storing a value in half precision, with room for intermediate rounding. */
const STORAGE = 2 ** -8;

/** The smallest and the largest value of each channel. */
export interface ChannelBounds {
  readonly low: Float64Array;
  readonly high: Float64Array;
}

/** The largest magnitude of a channel. */
export function magnitude({ low, high }: ChannelBounds, channel: number): number {
  return Math.max(Math.abs(low[channel] ?? Infinity), Math.abs(high[channel] ?? Infinity));
}

/** A batch norm in evaluation mode as x·scale + shift, from its stored constants. */
export function affineOf(
  { epsilon }: Op<"batchNorm">,
  weights: NodeWeights,
  channel: number,
): { readonly scale: number; readonly mean: number; readonly beta: number } {
  const read = (role: keyof NodeWeights): number => weights[role]?.tensor.data[channel] ?? 0;
  return {
    scale: read("weight") / Math.sqrt(read("runningVar") + epsilon),
    mean: read("runningMean"),
    beta: read("bias"),
  };
}

/** The bounds of all layers, by name; `weightsOf` gives a layer's stored constants. */
export function activationBounds(
  nodes: readonly LayerNode[],
  weightsOf: (node: LayerNode) => NodeWeights,
): ReadonlyMap<string, ChannelBounds> {
  const bounds = new Map<string, ChannelBounds>();
  for (const node of nodes) {
    const inputs = node.inputs.flatMap((name) => bounds.get(name) ?? []);
    // One lookup over a union of operations: the table's type pairs each kind with its own function.
    const bound = RULES[node.op.kind] as (
      op: Op,
      inputs: readonly ChannelBounds[],
      weights: NodeWeights,
    ) => ChannelBounds;
    bounds.set(node.name, bound(node.op, inputs, weightsOf(node)));
  }
  return bounds;
}

type Rule<K extends OpKind> = (
  op: Op<K>,
  inputs: readonly ChannelBounds[],
  weights: NodeWeights,
) => ChannelBounds;

const RULES: { readonly [K in OpKind]: Rule<K> } = {
  input: () => ({ low: new Float64Array(3).fill(-IMAGE_BOUND), high: new Float64Array(3).fill(IMAGE_BOUND) }),
  conv: (op, [input], weights) =>
    products(
      op.outChannels,
      op.groups,
      // Padding is zeros, which a window may contain.
      input && op.padding.some((size) => size > 0) ? withZero(input) : input,
      weights,
    ),
  linear: (op, [input], weights) => products(op.outFeatures, 1, input, weights),
  batchNorm: (op, [input], weights) =>
    perChannel(op.channels, (channel) => {
      const { scale, mean, beta } = affineOf(op, weights, channel);
      const ends = [input?.low, input?.high].map((x) => ((x?.[channel] ?? NaN) - mean) * scale + beta);
      const size = Math.max(...ends.map(Math.abs)) + 2 * Math.abs(mean * scale) + Math.abs(beta);
      return [Math.min(...ends), Math.max(...ends), size];
    }),
  instanceNorm: (op, _inputs, weights) =>
    perChannel(op.channels, (channel) => {
      const size =
        Math.sqrt(PLANE_BOUND) * Math.abs(weights.weight?.tensor.data[channel] ?? NaN) +
        Math.abs(weights.bias?.tensor.data[channel] ?? NaN);
      return [-size, size, size];
    }),
  // A one-pass variance may cancel to 0, and then only ε is under the root.
  layerNorm: (op, [input], weights) =>
    perChannel(op.channels, (channel) => {
      const largest = Math.max(
        ...Array.from(input?.high ?? [NaN], (_, index) => (input ? magnitude(input, index) : NaN)),
      );
      const size =
        ((2 * largest) / Math.sqrt(op.epsilon)) * Math.abs(weights.weight?.tensor.data[channel] ?? NaN) +
        Math.abs(weights.bias?.tensor.data[channel] ?? NaN);
      return [-size, size, size];
    }),
  relu: (_op, [input]) => map(input, (value) => Math.max(0, value)),
  sigmoid: (_op, [input]) => ({
    low: new Float64Array(input?.low.length ?? 0),
    high: new Float64Array(input?.low.length ?? 0).fill(1),
  }),
  maxPool: (_op, [input]) => map(input, (value) => value),
  avgPool: (_op, [input]) => rounded(input),
  globalAvgPool: (_op, [input]) => rounded(input),
  globalMaxPool: (_op, [input]) => map(input, (value) => value),
  flatten: (_op, [input]) => map(input, (value) => value),
  scale: (_op, [stream, gate]) =>
    perChannel(stream?.low.length ?? 0, (channel) => {
      const ends = [stream?.low, stream?.high].flatMap((x) =>
        [gate?.low, gate?.high].map((g) => (x?.[channel] ?? NaN) * (g?.[channel] ?? NaN)),
      );
      return [Math.min(...ends), Math.max(...ends), Math.max(...ends.map(Math.abs))];
    }),
  add: (_op, inputs) =>
    perChannel(inputs[0]?.low.length ?? 0, (channel) => {
      let [low, high, size] = [0, 0, 0];
      for (const input of inputs) {
        low += input.low[channel] ?? NaN;
        high += input.high[channel] ?? NaN;
        size += magnitude(input, channel);
      }
      return [low, high, size];
    }),
};

/** Sums of products and a bias. */
function products(
  channels: number,
  groups: number,
  input: ChannelBounds | undefined,
  { weight, bias }: NodeWeights,
): ChannelBounds {
  const data = weight?.tensor.data ?? new Float32Array();
  const shape = weight?.tensor.shape ?? [];
  const sources = shape[1] ?? 1;
  const window = shape.slice(2).reduce((product, size) => product * size, 1);
  const widening = (sources * window + 1) * 2 ** -23 + 2 * STORAGE;
  const bounds = { low: new Float64Array(channels), high: new Float64Array(channels) };
  if (!input) return map(bounds, () => NaN);
  for (let channel = 0; channel < channels; channel++) {
    const first = Math.floor((channel * groups) / channels) * sources;
    const row = data.subarray(channel * sources * window, (channel + 1) * sources * window);
    boundRow(row, window, input, first, bias?.tensor.data[channel] ?? 0, widening, bounds, channel);
  }
  return bounds;
}

/**
 * Positive weights meet the largest value, negative ones the smallest. A separate function because it runs over every
 * weight of the network, and its callers differ from layer to layer.
 */
function boundRow(
  row: Float32Array,
  window: number,
  { low, high }: ChannelBounds,
  first: number,
  constant: number,
  widening: number,
  bounds: ChannelBounds,
  channel: number,
): void {
  let above = constant;
  let below = constant;
  let size = Math.abs(constant);
  for (let start = 0, source = first; start < row.length; start += window, source++) {
    let positive = 0;
    let negative = 0;
    for (let index = start; index < start + window; index++) {
      const value = row[index] as number;
      if (value > 0) positive += value;
      else negative -= value;
    }
    const bottom = low[source] as number;
    const top = high[source] as number;
    above += positive * top - negative * bottom;
    below += positive * bottom - negative * top;
    size += (positive + negative) * Math.max(-bottom, top);
  }
  bounds.low[channel] = below - widening * size;
  bounds.high[channel] = above + widening * size;
}

/** Bounds per channel, each widened by a share of the magnitudes it is computed from. */
function perChannel(
  channels: number,
  bound: (channel: number) => readonly [low: number, high: number, size: number],
): ChannelBounds {
  const [low, high] = [new Float64Array(channels), new Float64Array(channels)];
  for (let channel = 0; channel < channels; channel++) {
    const [least, largest, size] = bound(channel);
    low[channel] = least - STORAGE * size;
    high[channel] = largest + STORAGE * size;
  }
  return { low, high };
}

function rounded(input: ChannelBounds | undefined): ChannelBounds {
  return perChannel(input?.low.length ?? 0, (channel) => [
    input?.low[channel] ?? NaN,
    input?.high[channel] ?? NaN,
    input ? magnitude(input, channel) : NaN,
  ]);
}

function map(input: ChannelBounds | undefined, change: (value: number) => number): ChannelBounds {
  return {
    low: (input?.low ?? new Float64Array()).map(change),
    high: (input?.high ?? new Float64Array()).map(change),
  };
}

function withZero({ low, high }: ChannelBounds): ChannelBounds {
  return { low: low.map((value) => Math.min(0, value)), high: high.map((value) => Math.max(0, value)) };
}

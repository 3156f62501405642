import type { LayerGraph, ParameterRole } from "../../arch/index.js";
import { toReal } from "../../core/tensor-cast.js";
import { IMAGENET, PIXEL_ORDERS, type PixelOrder } from "../export/options.js";
import { type Difference, difference, nameOf } from "./differences.js";
import { nodesUpTo } from "./landmarks.js";
import { MAX_COLOURS, MAX_FACTOR } from "./operators/colours.js";
import { type ForeignGraph, type ForeignNode, isKind, type Preprocess } from "./operators/foreign.js";
import { axesOf, isNchw, NCHW } from "./operators/layouts.js";

/**
 * What a file does to its input before the network: integer pixels, channels last or in another order, a division by
 * 255, a mean and a deviation. All of that is affine per channel, in any form.
 */

/** The input of the network after preprocessing: what the first convolution reads. */
export function preprocessing(
  raw: ForeignNode,
  { dtype, isHalf }: Pick<Preprocess, "dtype" | "isHalf">,
  graph: Pick<ForeignGraph, "nodes" | "consumers">,
): Pick<ForeignGraph, "input" | "preprocess"> {
  const channels = Math.min(raw.form.channels ?? 0, MAX_COLOURS);
  let order: readonly number[] = Array.from({ length: channels }, (_, channel) => channel);
  let scale: readonly number[] = order.map(() => 1);
  let shift: readonly number[] = order.map(() => 0);
  const { steps, input } = stepsBefore(graph, raw);
  const unknown: string[] = [];
  const most = isHalf ? MAX_FACTOR : MAX_SINGLE_FACTOR;
  for (const step of steps) {
    if (isKind(step, "affine", "batchNorm") && step.inputs.length === 1) {
      const [weight, bias] = isKind(step, "batchNorm")
        ? normalisedBy(step)
        : [valuesOf(step, "weight"), valuesOf(step, "bias")];
      scale = scale.map((value, channel) => value * (weight?.[channel] ?? 1));
      shift = shift.map((value, channel) => value * (weight?.[channel] ?? 1) + (bias?.[channel] ?? 0));
      if (
        !scale.every((value) => Math.abs(value) < most && Math.abs(value) > 1 / most) ||
        !shift.every((value) => Math.abs(value) < most)
      )
        unknown.push(nameOf(step));
    } else if (isKind(step, "channelOrder")) {
      const moved = (values: readonly number[]): readonly number[] =>
        step.op.order.map((channel) => values[channel] ?? 0);
      [order, scale, shift] = [moved(order), moved(scale), moved(shift)];
    } else unknown.push(nameOf(step));
  }
  // Between steps that cancel, an operator that was skipped as having no effect may have one.
  const [first] = steps.filter((step) => step.constants.bias);
  if (first && unknown.length === 0 && isUnchanged({ scale, shift })) unknown.push(nameOf(first));
  const { layout = NCHW } = raw.reading ?? {};
  return { input, preprocess: { layout, dtype, order, scale, shift, isHalf, unknown } };
}

/** The factor and the constant of each channel in a batch norm. */
function normalisedBy(norm: ForeignNode<"batchNorm">): readonly (readonly number[])[] {
  const of = (role: ParameterRole): readonly number[] => [...(valuesOf(norm, role) ?? [])];
  const [gamma, beta, mean, variance] = [of("weight"), of("bias"), of("runningMean"), of("runningVar")];
  const factors = gamma.map(
    (value, channel) => value / Math.sqrt((variance[channel] ?? 0) + norm.op.epsilon),
  );
  return [factors, factors.map((factor, channel) => (beta[channel] ?? 0) - (mean[channel] ?? 0) * factor)];
}

/** As `MAX_FACTOR`, in float32. */
const MAX_SINGLE_FACTOR = 2 ** 16;

/**
 * What a file computes of its input before the first convolution, in topological order. Padding right before that is the
 * convolution's own.
 */
function stepsBefore(
  { nodes, consumers }: Pick<ForeignGraph, "nodes" | "consumers">,
  raw: ForeignNode,
): { readonly steps: readonly ForeignNode[]; readonly input: ForeignNode } {
  const fromRaw = new Set([raw]);
  for (const node of nodes) if (node.inputs.some((input) => fromRaw.has(input))) fromRaw.add(node);
  const stem = nodes.find((node) => isKind(node, "conv") && fromRaw.has(node));
  // If the first convolution does not read colours, it is not the first layer.
  if (stem && isKind(stem, "conv") && stem.op.inChannels > RGB) return { steps: [], input: raw };
  let input = stem?.inputs[0];
  while (input && isKind(input, "pad") && consumers.get(input)?.length === 1) input = input.inputs[0];
  if (!input) return { steps: [], input: raw };
  const before = nodesUpTo(raw, input);
  return { steps: nodes.filter((node) => before.has(node)), input };
}

/** Whether the network reads the file's input unchanged. */
export function isIdentity({ layout, dtype, order, scale, shift, unknown }: Preprocess): boolean {
  return (
    isNchw(layout) &&
    (dtype === undefined || dtype.includes("float")) &&
    order.every((channel, at) => channel === at) &&
    isUnchanged({ scale, shift }) &&
    unknown.length === 0
  );
}

/** Whether no channel is multiplied or shifted. */
function isUnchanged({ scale, shift }: Pick<Preprocess, "scale" | "shift">): boolean {
  return scale.every((value) => value === 1) && shift.every((value) => value === 0);
}

/** The images that a file expects. */
export interface ImageInput {
  /** Normalised images, or raw pixels from 0 to this, which the file normalises by ImageNet's mean and deviation. */
  readonly white: 1 | 255 | undefined;
  readonly order: PixelOrder;
}

/**
 * The images that a file expects, inferred from its preprocessing; undefined if they are neither normalised images
 * nor raw pixels.
 */
export function imageInput(preprocess: Preprocess | undefined): ImageInput | undefined {
  if (!preprocess) return { white: undefined, order: "rgb" };
  const { order, scale, shift, dtype, unknown, isHalf } = preprocess;
  const name = PIXEL_ORDERS.find((key) => String(order) === String(key === "rgb" ? [0, 1, 2] : [2, 1, 0]));
  if (!name || unknown.length > 0) return undefined;
  if (isUnchanged(preprocess))
    return dtype?.includes("float") === false ? undefined : { white: undefined, order: name };
  const white = ([255, 1] as const).find((most) => isImageNet(scale, shift, most, isHalf));
  return white && { white, order: name };
}

/**
 * How a file's input differs from what it should be: normalised images or raw pixels, with channels in this order. If
 * none is given, raw pixels may come in either order, and normalised images are RGB.
 */
export function inputDifferences(
  { nodes: [input] }: LayerGraph,
  preprocess: Preprocess | undefined,
  stated?: PixelOrder,
): readonly Difference[] {
  if (!input) return [];
  if (preprocess && preprocess.unknown.length > 0)
    return [difference(input, `${preprocess.unknown.join(", ")} before the network`, TAKEN)];
  const found = imageInput(preprocess);
  if (!found) return [difference(input, preprocess ? describePreprocess(preprocess) : "nothing", TAKEN)];
  const wanted = stated ?? (found.white === undefined ? "rgb" : found.order);
  if (found.order === wanted) return [];
  const images = found.white === undefined ? "normalised images" : "raw pixels";
  return [
    difference(
      input,
      `channels in the order ${preprocess?.order.join(", ") ?? "0, 1, 2"}, of ${images} that are ${found.order.toUpperCase()}`,
      found.white !== undefined && stated !== undefined
        ? `${wanted.toUpperCase()}, or the option --input-order ${found.order}`
        : wanted.toUpperCase(),
    ),
  ];
}

const RGB = 3;

function valuesOf({ constants }: ForeignNode, role: ParameterRole): Float64Array | Float32Array | undefined {
  const tensor = constants[role];
  return tensor && toReal(tensor, role).data;
}

const { mean: MEAN, deviation: DEVIATION } = IMAGENET;

const TAKEN = `normalised images, or raw pixels normalised by ImageNet's mean [${MEAN.join(", ")}] and deviation [${DEVIATION.join(", ")}]`;

/** Tolerance for constants that were computed with a few roundings in float32, or in float16. */
const NEAR = { single: 2e-6, half: 2e-3 } as const;

/** Describes a preprocessing in a noun phrase, for reports and notes. */
export function describePreprocess({ layout, dtype, order, scale, shift, isHalf }: Preprocess): string {
  const steps = [
    ...(isNchw(layout) ? [] : [`axes ${axesOf(layout)}`]),
    ...(dtype === undefined || dtype.includes("float") ? [] : [`${dtype} pixels`]),
    ...(order.every((channel, at) => channel === at) ? [] : [`channels in the order ${order.join(", ")}`]),
    ...normalisation(scale, shift, isHalf),
  ];
  return steps.join(", ");
}

/** The order of a file's raw pixels, if it normalises them from 0 to 255 as `--preprocess` does. */
export function pixelOrder(preprocess: Preprocess): PixelOrder | undefined {
  const input = imageInput(preprocess);
  return input?.white === 255 && isNchw(preprocess.layout) ? input.order : undefined;
}

function isImageNet(
  scale: readonly number[],
  shift: readonly number[],
  white: number,
  isHalf: boolean,
): boolean {
  const near = isHalf ? NEAR.half : NEAR.single;
  return (
    scale.length === MEAN.length &&
    MEAN.every((mean, channel) => {
      const deviation = DEVIATION[channel] ?? 1;
      const [a, b] = [(scale[channel] ?? 0) * deviation * white, (shift[channel] ?? 0) * deviation];
      return Math.abs(a - 1) < near && Math.abs(b + mean) < near;
    })
  );
}

function normalisation(
  scale: readonly number[],
  shift: readonly number[],
  isHalf: boolean,
): readonly string[] {
  if (isUnchanged({ scale, shift })) return [];
  for (const white of [255, 1])
    if (isImageNet(scale, shift, white, isHalf))
      return [`normalised by ImageNet's mean and deviation from values of 0 to ${white}`];
  // As programs write it: the mean and deviation of values from 0 to 1, unless they are normalised as they are.
  const isDivided = scale.every((value) => Math.abs(value) < 0.1);
  const white = isDivided ? 255 : 1;
  const found = {
    mean: shift.map((value, channel) => -value / ((scale[channel] ?? 1) * white)),
    deviation: scale.map((value) => 1 / (value * white)),
  };
  const cause = CAUSES.find(
    ([, { mean, deviation }]) => isNear(found.mean, mean) && isNear(found.deviation, deviation),
  )?.[0];
  const list = (values: readonly number[], digits: number): string =>
    values.map((value) => Number(value.toPrecision(digits)) || 0).join(", ");
  // Enough to show that they are not ImageNet's.
  const isShown = (digits: number): boolean =>
    list(found.mean, digits) !== MEAN.join(", ") || list(found.deviation, digits) !== DEVIATION.join(", ");
  const [mean, deviation] = [found.mean, found.deviation].map((values) =>
    list(values, [5, 7].find(isShown) ?? 9),
  );
  return [
    `a normalisation by the mean [${mean}] and the deviation [${deviation}]${isDivided ? " from values of 0 to 255" : ""}, which is not torchreid's normalisation${cause === undefined ? "" : ` (${cause})`}`,
  ];
}

const IDLE = { mean: [0, 0, 0], deviation: [1, 1, 1] } as const;
const times = (values: readonly number[], factor: number): readonly number[] =>
  values.map((value) => value * factor);

/** Normalisations that programs have instead, and what they did. */
const CAUSES: readonly (readonly [
  string,
  { readonly mean: readonly number[]; readonly deviation: readonly number[] },
])[] = [
  ["only divided by 255", IDLE],
  ["scaled to -1 … 1", { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] }],
  ["not divided by the deviation", { ...IDLE, mean: MEAN }],
  ["without the mean", { ...IDLE, deviation: DEVIATION }],
  ["multiplied by the deviation", { mean: MEAN, deviation: DEVIATION.map((value) => 1 / value) }],
  ["ImageNet's, in the order of BGR", { mean: MEAN.toReversed(), deviation: DEVIATION.toReversed() }],
  ["ImageNet's mean in the order of BGR", { mean: MEAN.toReversed(), deviation: DEVIATION }],
  ["ImageNet's deviation in the order of BGR", { mean: MEAN, deviation: DEVIATION.toReversed() }],
  ["mean and deviation exchanged", { mean: DEVIATION, deviation: MEAN }],
  ["divided by 256, not 255", { mean: times(MEAN, 256 / 255), deviation: times(DEVIATION, 256 / 255) }],
  ["Caffe's means of BGR", { ...IDLE, mean: [103.939, 116.779, 123.68] }],
  ["Caffe's means in the order of RGB", { ...IDLE, mean: [123.68, 116.779, 103.939] }],
];

function isNear(values: readonly number[], wanted: readonly number[]): boolean {
  return (
    values.length === wanted.length &&
    values.every((value, at) => Math.abs(value - (wanted[at] ?? 0)) < 1e-3 * Math.max(1, Math.abs(value)))
  );
}

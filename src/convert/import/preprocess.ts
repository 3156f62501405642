import type { DType } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { IMAGENET, PIXEL_ORDERS, type PixelOrder } from "../export/preprocess.js";
import { type ForeignGraph, type ForeignNode, isKind, type Preprocess } from "./foreign.js";
import { NCHW } from "./layouts.js";

/**
 * What a file does to its input before the network: pixels as whole numbers, colours last or in another order, a
 * division by 255, a mean and a deviation. All of that is affine by channel, however it is spelled.
 */

/** The network's input, behind whatever the file does to its own. */
export function preprocessing(
  raw: ForeignNode,
  dtype: DType | undefined,
  consumers: ForeignGraph["consumers"],
): Pick<ForeignGraph, "input" | "preprocess"> {
  const channels = Math.min(raw.form.channels ?? 0, MAX_COLOURS);
  let order: readonly number[] = Array.from({ length: channels }, (_, channel) => channel);
  let scale: readonly number[] = order.map(() => 1);
  let shift: readonly number[] = order.map(() => 0);
  const unknown: string[] = [];
  let input = raw;
  for (let next = only(consumers, input); next; next = only(consumers, input)) {
    if (isKind(next, "affine") && next.inputs.length === 1) {
      const [weight, bias] = [valuesOf(next, "weight"), valuesOf(next, "bias")];
      scale = scale.map((value, channel) => value * (weight?.[channel] ?? 1));
      shift = shift.map((value, channel) => value * (weight?.[channel] ?? 1) + (bias?.[channel] ?? 0));
    } else if (isKind(next, "channelOrder")) {
      const moved = (values: readonly number[]): readonly number[] =>
        (next as ForeignNode<"channelOrder">).op.order.map((channel) => values[channel] ?? 0);
      [order, scale, shift] = [moved(order), moved(scale), moved(shift)];
    } else if (isKind(next, "other") && next.inputs.length === 1) unknown.push(next.op.opType);
    else break;
    input = next;
  }
  const { layout = NCHW } = raw.reading ?? {};
  return { input, preprocess: { layout, dtype, order, scale, shift, unknown } };
}

/** Whether the network reads the file's input as it is. */
export function isPlain({ layout, dtype, order, scale, shift }: Preprocess): boolean {
  return (
    String(layout) === String(NCHW) &&
    (dtype === undefined || dtype.includes("float")) &&
    order.every((channel, at) => channel === at) &&
    scale.every((value) => value === 1) &&
    shift.every((value) => value === 0)
  );
}

/**
 * The order that a file puts the channels of images in which it takes as normalised, where it is another than theirs:
 * with raw pixels that is BGR; with normalised images, which are RGB, it is a mistake, since means and deviations differ.
 */
export function strayOrder({ order, scale, shift }: Preprocess): readonly number[] | undefined {
  const isNormalised = scale.every((value) => value === 1) && shift.every((value) => value === 0);
  return isNormalised && order.some((channel, at) => channel !== at) ? order : undefined;
}

/** Images have three; a file may declare any number. */
const MAX_COLOURS = 16;

function only(consumers: ForeignGraph["consumers"], node: ForeignNode): ForeignNode | undefined {
  const readers = consumers.get(node) ?? [];
  return readers.length === 1 ? readers[0] : undefined;
}

function valuesOf(
  { constants }: ForeignNode,
  role: "weight" | "bias",
): Float64Array | Float32Array | undefined {
  const tensor = constants[role];
  return tensor && toReal(tensor, role).data;
}

const { mean: MEAN, deviation: DEVIATION } = IMAGENET;

/** How far float32's arithmetic on the constants may take them. */
const NEAR = 1e-5;

/** A preprocessing in words, for reports and notes. */
export function describePreprocess({ layout, dtype, order, scale, shift }: Preprocess): string {
  const steps = [
    ...(String(layout) === String(NCHW)
      ? []
      : [`axes ${layout.map((axis) => "NCHW"[axis] ?? "?").join("")}`]),
    ...(dtype === undefined || dtype.includes("float") ? [] : [`${dtype} pixels`]),
    ...(order.every((channel, at) => channel === at) ? [] : [`channels in the order ${order.join(", ")}`]),
    ...normalisation(scale, shift),
  ];
  return steps.join(", ");
}

/** The order of a file's raw pixels, if it normalises them from 0 to 255 as `--preprocess` does. */
export function pixelOrder({ layout, order, scale, shift, unknown }: Preprocess): PixelOrder | undefined {
  if (String(layout) !== String(NCHW) || unknown.length > 0 || !isImageNet(scale, shift, 255))
    return undefined;
  return PIXEL_ORDERS.find((name) => String(order) === String(name === "rgb" ? [0, 1, 2] : [2, 1, 0]));
}

function isImageNet(scale: readonly number[], shift: readonly number[], white: number): boolean {
  return (
    scale.length === MEAN.length &&
    MEAN.every((mean, channel) => {
      const deviation = DEVIATION[channel] ?? 1;
      const [a, b] = [(scale[channel] ?? 0) * deviation * white, (shift[channel] ?? 0) * deviation];
      return Math.abs(a - 1) < NEAR && Math.abs(b + mean) < NEAR;
    })
  );
}

function normalisation(scale: readonly number[], shift: readonly number[]): readonly string[] {
  if (scale.every((value) => value === 1) && shift.every((value) => value === 0)) return [];
  for (const white of [255, 1])
    if (isImageNet(scale, shift, white))
      return [`normalised by ImageNet's mean and deviation from values of 0 to ${white}`];
  const list = (values: readonly number[]): string => values.map((value) => value.toPrecision(5)).join(", ");
  return [`× [${list(scale)}] + [${list(shift)}], which is not torchreid's normalisation`];
}

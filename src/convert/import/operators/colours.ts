import type { Tensor } from "../../../core/tensor.js";
import { taken, uniform } from "./constants.js";
import { type Constants, type ForeignNode, isKind, type Size, type Value } from "./foreign.js";
import { sizesOf } from "./shapes.js";
import {
  asNode,
  asTensor,
  attributeOrInput,
  int,
  nodeValue,
  numbers,
  type OperatorReader,
  type OperatorSite,
} from "./site.js";

/** Images that are normalised channel by channel: `cat([(x[:, :1] - 0.485) / 0.229, ...], 1)`. */

/** Limit on channels: images have three, but a file may declare any number. */
export const MAX_COLOURS = 16;

/** Limit on steps from a channel to the images: a difference, a quotient, a product, and axes added or removed. */
const MAX_STEPS = 8;

/** The largest factor and shift of pixels in float16, whose factors are up to 255: larger ones overflow, or lose pixels on the way. */
export const MAX_FACTOR: number = 2 ** 8;

/** Whether a value is the file's input, possibly normalised in part. */
function isImage(node: ForeignNode, steps: number = MAX_STEPS): boolean {
  const [input] = node.inputs;
  return (
    node.op.kind === "input" ||
    (isKind(node, "affine", "channelOrder") && input !== undefined && steps > 0 && isImage(input, steps - 1))
  );
}

function isImages(node: ForeignNode): boolean {
  const { rank, channels = 0 } = node.form;
  return rank === "map" && channels <= MAX_COLOURS && isImage(node);
}

/** One channel of the images. */
export function oneColour({ inputs, output }: OperatorSite, channel: number): Value | undefined {
  const input = asNode(inputs[0]);
  const { channels = 0 } = input?.form ?? {};
  if (!input || !isImages(input) || channel < 0 || channel >= channels) return undefined;
  return nodeValue(
    { kind: "channelOrder", order: [channel] },
    [input],
    { ...input.form, channels: 1 },
    output,
  );
}

/** Images that are split into their channels. */
export const readSplit: OperatorReader = (site) => {
  const { node, inputs, output } = site;
  const sizes = attributeOrInput(site, "split", 1);
  const isByOne = !inputs[1] || sizes !== undefined;
  const channels = asNode(inputs[0])?.form.channels;
  return isByOne &&
    int(node, "axis", 0) === 1 &&
    node.outputs.length === channels &&
    (sizes ?? []).every((size) => size === 1)
    ? oneColour(site, node.outputs.indexOf(output))
    : undefined;
};

/** Channels of one image, each times a number and plus another, one after another: what that is of the whole image. */
export const joinedColours: OperatorReader = ({ node, inputs, output, layout }) => {
  const colours = inputs.map((value) => colourOf(asNode(value)));
  const [first] = colours;
  if (!first || layout || int(node, "axis", 0) !== 1 || colours.length !== first.of.form.channels)
    return undefined;
  if (colours.some((colour) => colour?.of !== first.of)) return undefined;
  const known = colours.flatMap((colour) => colour ?? []);
  const order = known.map(({ channel }) => channel);
  const { of } = first;
  const moved = order.every((channel, at) => channel === at)
    ? of
    : asNode(nodeValue({ kind: "channelOrder", order }, [of], of.form, undefined));
  if (new Set(order).size < order.length || !moved) return undefined;
  const vector = (values: readonly number[]) =>
    ({ dtype: "float32", shape: [values.length], data: Float32Array.from(values) }) as const;
  const constants: Constants = {
    weight: vector(known.map(({ scale }) => scale)),
    bias: vector(known.map(({ shift }) => shift)),
  };
  return nodeValue({ kind: "affine" }, [moved], of.form, output, constants);
};

/** scale · c + shift of one channel c. */
interface Colour {
  readonly of: ForeignNode;
  readonly channel: number;
  readonly scale: number;
  readonly shift: number;
}

/** @param isPlane whether the value has no axis of channels, as `x[:, 0]` */
function colourOf(
  node: ForeignNode | undefined,
  isPlane = false,
  steps: number = MAX_STEPS,
): Colour | undefined {
  const [input] = node?.inputs ?? [];
  if (!node || !input || steps < 0) return undefined;
  if (isKind(node, "other")) return movedColour(node, input, isPlane, steps - 1);
  if (isKind(node, "channelOrder"))
    return isPlane || node.form.channels !== 1
      ? undefined
      : { of: input, channel: node.op.order[0] ?? 0, scale: 1, shift: 0 };
  const before = isKind(node, "affine") ? colourOf(input, isPlane, steps - 1) : undefined;
  const { weight, bias } = node.constants;
  const [factor, term] = [weight ? uniform(weight) : 1, bias ? uniform(bias) : 0];
  if (!before || factor === undefined || term === undefined) return undefined;
  const [scale, shift] = [before.scale * factor, before.shift * factor + term];
  const isModerate = Math.abs(scale) < MAX_FACTOR && Math.abs(scale) > 1 / MAX_FACTOR;
  return isModerate && Math.abs(shift) < MAX_FACTOR ? { ...before, scale, shift } : undefined;
}

/** A channel whose axis was added or removed, or that was taken without one. */
function movedColour(
  { op: { opType, operands, axes } }: ForeignNode<"other">,
  input: ForeignNode,
  isPlane: boolean,
  steps: number,
): Colour | undefined {
  const [value, index] = operands;
  const isPlain = value?.kind === "node" && !value.reading && !value.planes;
  // All of them have four axes on one side.
  if (!isPlain || (String(axes) !== "1" && String(axes) !== "-3")) return undefined;
  if (opType === "Unsqueeze" && !isPlane) return colourOf(input, true, steps);
  if (opType === "Squeeze" && isPlane) return colourOf(input, false, steps);
  const place = asTensor(index)?.shape.length === 0 ? numbers(index)?.[0] : undefined;
  const { channels = 0 } = input.form;
  if (opType !== "Gather" || !isPlane || place === undefined || !isImages(input)) return undefined;
  const channel = place < 0 ? place + channels : place;
  return channel >= 0 && channel < channels ? { of: input, channel, scale: 1, shift: 0 } : undefined;
}

/** Slices, which of images may take a channel, or reverse them; and channels in another order, such as BGR to RGB. */

/** Exporters write an end at least this large for "to the end". */
const TO_THE_END = 1_000_000;

/**
 * A GatherND along the channels if they come first, as PyTorch's dynamo exporter writes `x[:, [2, 1, 0]]`.
 */
export const readChannelGatherNd: OperatorReader = (site) => {
  const { shape: [, ...depth] = [] } = asTensor(site.inputs[1]) ?? {};
  const isAlongFirst = String(depth) === "1" && int(site.node, "batch_dims", 0) === 0;
  return isAlongFirst && site.layout?.[0] === 1 ? reordered(site, numbers(site.inputs[1])) : undefined;
};

/** A slice that reverses the channels, as in `x[:, ::-1]`, or takes one of them, and all of every other axis. */
export const readChannelSlice: OperatorReader = (site) => {
  const [input, tensor] = [asNode(site.inputs[0]), asTensor(site.inputs[0])];
  const cuts = cutsOf(site);
  if (tensor) return cuts && slicedConstant(tensor, cuts);
  const channels = input?.form.channels ?? 0;
  if (!input || !cuts || channels > MAX_COLOURS) return undefined;
  const sizes = sizesOf(site, input);
  const [cut, ...others] = cuts.filter((cut) => !isAll(cut, sizes));
  const front = cut && cut.axis < 0 ? cut.axis + sizes.length : (cut?.axis ?? 0);
  if (!cut || others.length > 0 || (site.layout?.[front] ?? front) !== 1) return undefined;
  const { start, end, step } = cut;
  const [first, last] = [start, end].map((place) =>
    place < 0 ? place + channels : Math.min(place, channels),
  );
  if (step === 1 && first !== undefined && last === first + 1) return oneColour(site, first);
  const isLast = start === -1 || start >= channels - 1;
  if (step !== -1 || !isLast || end >= -channels) return undefined;
  return reordered(
    site,
    Array.from({ length: channels }, (_, index) => channels - 1 - index),
  );
};

/** A slice along one axis. */
export interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** Starts, ends, axes and steps are attributes in older operator sets and inputs in newer ones. */
export function cutsOf(site: OperatorSite): readonly Cut[] | undefined {
  const [starts, ends] = [attributeOrInput(site, "starts", 1), attributeOrInput(site, "ends", 2)];
  const axes = attributeOrInput(site, "axes", 3) ?? starts?.map((_, axis) => axis);
  const steps = numbers(site.inputs[4]);
  if (!starts || !ends || site.inputs.slice(1).some((value) => value && !numbers(value))) return undefined;
  return axes?.map((axis, at) => ({
    axis,
    start: starts[at] ?? 0,
    end: ends[at] ?? 0,
    step: steps?.[at] ?? 1,
  }));
}

export function isAll({ axis, start, end, step }: Cut, sizes: readonly Size[]): boolean {
  const known = sizes.at(axis);
  const size = typeof known === "number" ? known : undefined;
  const isToTheEnd = end >= TO_THE_END || (size !== undefined && end >= size);
  return (start === 0 || (size !== undefined && start <= -size)) && isToTheEnd && step === 1;
}

/** A part of a constant: paddings and shapes that exporters compute in the graph. */
function slicedConstant(tensor: Tensor, cuts: readonly Cut[]): Value | undefined {
  let result: Tensor | undefined = tensor;
  for (const cut of cuts) {
    const { step } = cut;
    const front = cut.axis < 0 ? cut.axis + tensor.shape.length : cut.axis;
    const size = tensor.shape[front] ?? 0;
    if (step === 0 || !result) return undefined;
    const within = (place: number, least: number, most: number): number =>
      Math.min(most, Math.max(least, place < 0 ? place + size : place));
    const start = step > 0 ? within(cut.start, 0, size) : within(cut.start, 0, size - 1);
    const end = step > 0 ? within(cut.end, 0, size) : within(cut.end, -1, size - 1);
    const count = Math.max(0, Math.ceil((end - start) / step));
    if (count > size) return undefined;
    result = taken(
      result,
      front,
      Array.from({ length: count }, (_, index) => start + index * step),
    );
  }
  return result && { kind: "constant", tensor: result };
}

export function reordered(
  { inputs, output }: OperatorSite,
  order: readonly number[] | undefined,
): Value | undefined {
  const input = asNode(inputs[0]);
  if (!order || input?.form.rank !== "map" || order.length !== input.form.channels) return undefined;
  const isOrder = order.every(
    (channel, at) => channel >= 0 && order.indexOf(channel) === at && channel < order.length,
  );
  return isOrder ? nodeValue({ kind: "channelOrder", order }, [input], input.form, output) : undefined;
}

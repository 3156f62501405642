import { uniform } from "./constants.js";
import { type Constants, type ForeignNode, isKind, type Value } from "./foreign.js";
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

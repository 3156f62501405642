import type { ParameterRole } from "../../../arch/index.js";
import { toReal } from "../../../core/tensor-cast.js";
import { type Constants, type ForeignNode, isKind, type Value } from "./foreign.js";
import { asNode, int, nodeValue, type OperatorReader, type OperatorSite } from "./site.js";

/** Images that are normalised channel by channel: `cat([(x[:, :1] - 0.485) / 0.229, ...], 1)`. */

/** Limit on channels: images have three, but a file may declare any number. */
export const MAX_COLOURS = 16;

/** Limit on steps from a channel to the images: a difference, a quotient and a product. */
const MAX_STEPS = 4;

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

/** One channel of the images. */
export function oneColour({ inputs, output }: OperatorSite, channel: number): Value | undefined {
  const input = asNode(inputs[0]);
  const { rank, channels = 0 } = input?.form ?? {};
  if (
    !input ||
    !isImage(input) ||
    rank !== "map" ||
    channels > MAX_COLOURS ||
    channel < 0 ||
    channel >= channels
  )
    return undefined;
  return nodeValue(
    { kind: "channelOrder", order: [channel] },
    [input],
    { ...input.form, channels: 1 },
    output,
  );
}

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

function colourOf(node: ForeignNode | undefined, steps: number = MAX_STEPS): Colour | undefined {
  const [input] = node?.inputs ?? [];
  if (!node || !input || node.form.channels !== 1) return undefined;
  if (isKind(node, "channelOrder")) return { of: input, channel: node.op.order[0] ?? 0, scale: 1, shift: 0 };
  const before = isKind(node, "affine") && steps > 0 ? colourOf(input, steps - 1) : undefined;
  if (!before) return undefined;
  const number = (role: ParameterRole, none: number): number => {
    const tensor = node.constants[role];
    return tensor ? Number(toReal(tensor, role).data[0]) : none;
  };
  const weight = number("weight", 1);
  const [scale, shift] = [before.scale * weight, before.shift * weight + number("bias", 0)];
  const isModerate = Math.abs(scale) < MAX_FACTOR && Math.abs(scale) > 1 / MAX_FACTOR;
  return isModerate && Math.abs(shift) < MAX_FACTOR ? { ...before, scale, shift } : undefined;
}

import type { Value } from "../foreign.js";
import { asNode, int, nodeValue, numbers, type OperatorReader, type OperatorSite } from "./site.js";

/** Channels of an image put in another order: BGR as RGB. */

export const readChannelGather: OperatorReader = (site) =>
  int(site.node, "axis", 0) === 1 ? reordered(site, numbers(site.inputs[1])) : undefined;

/**
 * Backwards through all channels, as `x[:, ::-1]` is written, and all of every other axis; starts, ends, axes and steps
 * are inputs.
 */
export const readChannelSlice: OperatorReader = (site) => {
  const [input, [, starts, ends, axes, steps]] = [asNode(site.inputs[0]), site.inputs.map(numbers)];
  const channels = input?.form.channels ?? 0;
  if (!input || !starts || !ends || !axes || channels > MAX_COLOURS) return undefined;
  let reversed = false;
  for (const [at, axis] of axes.entries()) {
    const [start = 0, end = 0, step = 1] = [starts[at], ends[at], steps?.[at]];
    const front = axis < 0 ? axis + 4 : axis;
    const isChannel = (site.layout?.[front] ?? front) === 1;
    const isBackwards = step === -1 && (start === -1 || start >= channels - 1) && end < -channels;
    if (isChannel && isBackwards) reversed = true;
    else if (start !== 0 || step !== 1 || end < TO_THE_END) return undefined;
  }
  return reversed
    ? reordered(
        site,
        Array.from({ length: channels }, (_, index) => channels - 1 - index),
      )
    : site.inputs[0];
};

/** Larger than any axis: how exporters write "to the end". */
const TO_THE_END = 1_000_000;

/** Images have three; a file may declare any number. */
const MAX_COLOURS = 16;

function reordered(
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

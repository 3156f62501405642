import type { Value } from "../foreign.js";
import { asNode, int, nodeValue, numbers, type OperatorReader, type OperatorSite } from "./site.js";

/** Channels of an image put in another order: BGR as RGB. */

export const readChannelGather: OperatorReader = (site) =>
  int(site.node, "axis", 0) === 1 ? reordered(site, numbers(site.inputs[1])) : undefined;

/** Backwards through all channels, as `x[:, ::-1]` is written; starts, ends, axes and steps are inputs. */
export const readChannelSlice: OperatorReader = (site) => {
  const [, starts, ends, axes, steps] = site.inputs.map(numbers);
  const channels = asNode(site.inputs[0])?.form.channels ?? 0;
  const [start = 0] = starts ?? [];
  const isReversal =
    String(steps) === "-1" && (start === -1 || start >= channels - 1) && (ends?.[0] ?? 0) < -channels;
  const axis = axes?.[0];
  if (axes?.length !== 1 || !isReversal || axis === undefined) return undefined;
  // The axis is an input here, which `onNchw` leaves alone.
  const onNchw = site.layout ? site.layout[axis < 0 ? axis + 4 : axis] : axis < 0 ? axis + 4 : axis;
  if (onNchw !== 1 || channels > MAX_COLOURS) return undefined;
  return reordered(
    site,
    Array.from({ length: channels }, (_, index) => channels - 1 - index),
  );
};

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

import type { Tensor } from "../../../core/tensor.js";
import { toReal } from "../../../core/tensor-cast.js";
import type { ForeignNode, Value } from "../foreign.js";
import { taken } from "./constants.js";
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

/** Channels of an image put in another order: BGR as RGB. */

export const readChannelGather: OperatorReader = (site) =>
  int(site.node, "axis", 0) === 1 ? reordered(site, numbers(site.inputs[1])) : undefined;

/** Places along the first axis where that is the channels': how PyTorch's dynamo exporter writes `x[:, [2, 1, 0]]`. */
export const readChannelGatherNd: OperatorReader = (site) => {
  const { shape: [, ...depth] = [] } = asTensor(site.inputs[1]) ?? {};
  const isAlongFirst = String(depth) === "1" && int(site.node, "batch_dims", 0) === 0;
  return isAlongFirst && site.layout?.[0] === 1 ? reordered(site, numbers(site.inputs[1])) : undefined;
};

/**
 * Backwards through all channels, as `x[:, ::-1]` is written, and all of every other axis; starts, ends, axes and steps
 * are inputs.
 */
export const readChannelSlice: OperatorReader = (site) => {
  const [input, tensor] = [asNode(site.inputs[0]), asTensor(site.inputs[0])];
  const [starts, ends] = [attributeOrInput(site, "starts", 1), attributeOrInput(site, "ends", 2)];
  const axes = attributeOrInput(site, "axes", 3) ?? starts?.map((_, axis) => axis);
  const steps = numbers(site.inputs[4]);
  if (site.inputs.slice(1).some((value) => value && !numbers(value))) return undefined;
  if (tensor) return starts && ends && axes && slicedConstant(tensor, { starts, ends, axes, steps });
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

interface Slice {
  readonly starts: readonly number[];
  readonly ends: readonly number[];
  readonly axes: readonly number[];
  readonly steps: readonly number[] | undefined;
}

/** A part of a constant: paddings and shapes that exporters compute in the graph. */
function slicedConstant(tensor: Tensor, { starts, ends, axes, steps }: Slice): Value | undefined {
  let result: Tensor | undefined = tensor;
  for (const [at, axis] of axes.entries()) {
    const front = axis < 0 ? axis + tensor.shape.length : axis;
    const size = tensor.shape[front] ?? 0;
    const step = steps?.[at] ?? 1;
    if (step === 0 || !result) return undefined;
    const within = (place: number, least: number, most: number): number =>
      Math.min(most, Math.max(least, place < 0 ? place + size : place));
    const start = step > 0 ? within(starts[at] ?? 0, 0, size) : within(starts[at] ?? 0, 0, size - 1);
    const end = step > 0 ? within(ends[at] ?? 0, 0, size) : within(ends[at] ?? 0, -1, size - 1);
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

/** Larger than any axis: how exporters write "to the end". */
const TO_THE_END = 1_000_000;

/** Images have three; a file may declare any number. */
const MAX_COLOURS = 16;

/** More colours than an image has, and fewer than any layer of a network. */
const MAX_MIXED = 4;

/**
 * A convolution of single pixels that takes each channel from one other and multiplies it: how a normalisation of pixels
 * is written where there is no division by channel.
 *
 * @param weight [out, in, 1, 1]
 */
export function readColourProduct(input: ForeignNode, weight: Tensor, output: string): Value | undefined {
  const [rows = 0, columns = 0, height, width] = weight.shape;
  if (rows !== columns || rows > MAX_MIXED || rows !== input.form.channels || height !== 1 || width !== 1)
    return undefined;
  const values = toReal(weight, "weight").data;
  const order: number[] = [];
  const factors: number[] = [];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const value = values[row * columns + column] ?? 0;
      if (value === 0) continue;
      order.push(column);
      factors.push(value);
    }
  if (order.length !== rows || new Set(order).size !== rows) return undefined;
  const isMoved = order.some((column, row) => column !== row);
  const moved: ForeignNode = isMoved
    ? { ...input, op: { kind: "channelOrder", order }, inputs: [input], value: undefined, constants: {} }
    : input;
  const scale: Tensor = { dtype: "float32", shape: [rows], data: Float32Array.from(factors) };
  return nodeValue({ kind: "affine" }, [moved], input.form, output, { weight: scale });
}

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

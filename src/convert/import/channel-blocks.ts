import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { OnnxGraph, OnnxNode } from "../formats/onnx/model.js";
import { ELEMENTWISE } from "./operators/layouts.js";

/**
 * Infers what a graph with blocked channels does not state: the block size, which values are blocked, and the number
 * of channels without padding.
 */

/** The domain of onnxruntime's operators on blocks of channels. */
export const NCHWC_DOMAIN = "com.microsoft.nchwc";

/**
 * The order of a value's elements: as its shape says; in blocks of channels despite its shape; or in blocks that are
 * an axis of its shape, [N, C/b, H, W, b].
 */
export type Order = "plain" | "blocks" | "split";

interface BlockedValue {
  readonly order: Exclude<Order, "plain">;
  /** The number of channels with padding; undefined if unknown. */
  readonly padded: number | undefined;
}

/** Which values of a graph are in blocks, for a block size. */
export interface Flow {
  readonly size: number;
  readonly values: ReadonlyMap<string, BlockedValue>;
  /** Values of a single pixel, which are the same in every order. */
  readonly pixels: ReadonlySet<string>;
  /** The number of operators that contradict this size. */
  readonly contradictions: number;
}

/** Block sizes by processor: AVX, and AVX-512 or ARM64. */
const SIZES = [8, 16] as const;

export function chooseFlow(graph: OnnxGraph, subject: string): Flow {
  const [small, large] = SIZES.map((size) => flowOf(graph, size)) as [Flow, Flow];
  if (small.contradictions === large.contradictions)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `channels in blocks, as in onnxruntime's NCHWc layout, whose size (${SIZES.join(" or ")}) cannot be inferred`,
      expected: "operators that fit blocks of one size",
      remedy: 'save the optimised model at level "extended", or use the model it was made from',
    });
  return small.contradictions < large.contradictions ? small : large;
}

function flowOf(graph: OnnxGraph, size: number): Flow {
  const values = new Map<string, BlockedValue>();
  const pixels = new Set<string>();
  let contradictions = 0;
  for (const node of graph.nodes) {
    const [input = ""] = node.inputs;
    const [output = ""] = node.outputs;
    const source = values.get(input);
    const filter = filterOf(graph, node);
    const order = resultOrder(graph, node, { size, values });
    if (order !== "plain") values.set(output, { order, padded: filter ? filter.shape[0] : source?.padded });
    const isReordering = /^Reorder(In|Out)put$/.test(node.opType);
    const keepsPixel = filter ? isByPixel(node, filter) : isReordering || isElementwise(graph, node);
    const read = activations(graph, node);
    const isOfPixels = read.length > 0 && read.every((name) => pixels.has(name));
    if (/^Global\w+Pool$/.test(node.opType) || (keepsPixel && isOfPixels)) pixels.add(output);
    if (node.domain === NCHWC_DOMAIN) contradictions += contradictionsOf(node, { size, source, filter });
  }
  return { size, values, pixels, contradictions };
}

interface Site {
  readonly size: number;
  readonly source: BlockedValue | undefined;
  readonly filter: Tensor | undefined;
}

/** The number of ways in which a blocked operator contradicts a block size. */
function contradictionsOf(node: OnnxNode, { size, source, filter }: Site): number {
  if (filter) {
    const [outChannels = 0, perGroup = 0] = filter.shape;
    const takesPlain = takesNchw(node, filter, size);
    return [
      outChannels % size !== 0,
      perGroup > size && perGroup % size !== 0,
      takesPlain === (source !== undefined),
    ].filter(Boolean).length;
  }
  const channels = attributeOf(node, "channels");
  if (node.opType !== "ReorderOutput" || channels === undefined) return 0;
  return source?.padded === undefined || source.padded === Math.ceil(channels / size) * size ? 0 : 1;
}

function resultOrder(
  graph: OnnxGraph,
  node: OnnxNode,
  { size, values }: Pick<Flow, "size" | "values">,
): Order {
  if (node.domain === NCHWC_DOMAIN) return node.opType === "ReorderOutput" ? "plain" : "blocks";
  const read = activations(graph, node).map((name) => values.get(name));
  const [first] = read;
  if (!first) return "plain";
  if (isElementwise(graph, node))
    return read.every((value) => value?.order === first.order) ? first.order : "plain";
  if (node.opType === "Reshape" && node.domain === "")
    return reshapedOrder(graph, node, first, size) ?? "plain";
  return "plain";
}

/**
 * A reshape between [N, C, H, W] and [N, C/b, H, W, b], its order in memory. Sums of maps of unknown sizes are
 * written this way.
 */
function reshapedOrder(
  { initializers }: OnnxGraph,
  { inputs }: OnnxNode,
  { order, padded }: BlockedValue,
  size: number,
): Order | undefined {
  const target = initializers.get(inputs[1] ?? "");
  const shape =
    target?.dtype === "int64" && target.data.length <= 5
      ? Array.from(target.data as BigInt64Array, Number)
      : [];
  const is = (channels: number | undefined, ...others: readonly number[]): boolean =>
    [-1, channels].some((second) => String(shape) === String([0, second, 0, 0, ...others]));
  if (order === "blocks" && is(padded && padded / size, size)) return "split";
  return order === "split" && is(padded) ? "blocks" : undefined;
}

/** The inputs of a node that are not constants. */
function activations({ initializers }: OnnxGraph, { inputs }: OnnxNode): readonly string[] {
  return inputs.filter((name) => name !== "" && !initializers.has(name));
}

/** onnxruntime's own elementwise operators. */
const OWN_ELEMENTWISE: ReadonlySet<string> = new Set(["QuickGelu", "Gelu", "FastGelu"]);

/** Whether an operator is elementwise, over values of one shape and scalars. */
function isElementwise({ initializers }: OnnxGraph, { opType, domain, inputs }: OnnxNode): boolean {
  const isKnown =
    domain === "" ? ELEMENTWISE.has(opType) : domain === "com.microsoft" && OWN_ELEMENTWISE.has(opType);
  return isKnown && inputs.every((name) => (initializers.get(name)?.data.length ?? 1) === 1);
}

/** The weights of a blocked convolution: [O, I, H, W] by its shape. */
function filterOf(
  { initializers }: OnnxGraph,
  { opType, domain, inputs }: OnnxNode,
): Tensor<"float32"> | undefined {
  const filter = domain === NCHWC_DOMAIN && opType === "Conv" ? initializers.get(inputs[1] ?? "") : undefined;
  return filter?.dtype === "float32" && filter.shape.length === 4 ? (filter as Tensor<"float32">) : undefined;
}

export function attributeOf({ attributes }: OnnxNode, name: string): number | undefined {
  const attribute = attributes.get(name);
  return attribute?.type === "int" ? attribute.value : undefined;
}

export function isDepthwise(node: OnnxNode, { shape: [outChannels, perGroup] }: Tensor): boolean {
  const groups = attributeOf(node, "group") ?? 1;
  return groups > 1 && perGroup === 1 && outChannels === groups;
}

/** Whether a convolution reads NCHW: if its filter has fewer input channels than a block. */
export function takesNchw(node: OnnxNode, filter: Tensor, size: number): boolean {
  return (filter.shape[1] ?? 0) < size && !isDepthwise(node, filter);
}

/** Whether a convolution maps a single pixel to a single pixel. */
function isByPixel({ attributes }: OnnxNode, { shape: [, , height, width] }: Tensor): boolean {
  const pads = attributes.get("pads");
  return height === 1 && width === 1 && (pads?.type !== "ints" || pads.value.every((size) => size === 0));
}

/** The weights of each blocked convolution as OIHW, once for all that share them. */
export type Filters = ReadonlyMap<OnnxNode, Tensor<"float32">>;

export function filtersOnNchw(graph: OnnxGraph, size: number): Filters {
  const filters = new Map<OnnxNode, Tensor<"float32">>();
  const known = new Map<Tensor, Tensor<"float32">>();
  for (const node of graph.nodes) {
    const filter = filterOf(graph, node);
    const [outChannels = 0, perGroup = 0] = filter?.shape ?? [];
    const isBroken = outChannels % size !== 0 || (perGroup > size && perGroup % size !== 0);
    if (!filter || isBroken) continue;
    const plain = known.get(filter) ?? filterOnNchw(filter, size);
    known.set(filter, plain);
    filters.set(node, plain);
  }
  return filters;
}

/** A value's channels, merged with those of others that have the same number. */
interface Channels {
  /** The number that an operator states. */
  stated?: number;
  /** For each filter, the last channel that it has weights for or reads, counted from 1. */
  used: Set<number>;
  /** The largest number on which two filters agree. */
  agreed: number;
  /** The group that this one was merged into. */
  within?: Channels;
}

/** Blocks are padded to a multiple of this number of channels (`MlasReorderFilterOIHWBiBo`). */
const CHANNEL_PADDING = 4;

/**
 * The number of channels of each value without padding. Reorderings to NCHW state it; elsewhere the filters have zeros
 * for padded channels.
 */
export function channelsMeant(
  graph: OnnxGraph,
  { values }: Flow,
  filters: Filters,
): ReadonlyMap<string, number> {
  const groups = new Map<string, Channels>();
  const of = (name: string): Channels => {
    let group: Channels = groups.get(name) ?? { used: new Set(), agreed: 0 };
    groups.set(name, group);
    while (group.within) {
      // Path halving, so that chains of any length remain short.
      if (group.within.within) group.within = group.within.within;
      group = group.within;
    }
    return group;
  };
  const unite = (names: readonly string[]): void => {
    const [first = "", ...others] = names;
    for (const other of others) {
      const [kept, group] = [of(first), of(other)];
      if (group === kept) continue;
      if (group.stated !== undefined) kept.stated ??= group.stated;
      const [fewer, more] = [kept.used, group.used].sort((a, b) => a.size - b.size) as [
        Set<number>,
        Set<number>,
      ];
      for (const last of fewer) if (more.has(last)) kept.agreed = Math.max(kept.agreed, last);
      kept.agreed = Math.max(kept.agreed, group.agreed);
      for (const last of fewer) more.add(last);
      kept.used = more;
      group.within = kept;
    }
  };
  const use = (name: string, last: number): void => {
    const group = of(name);
    const filled = Math.ceil(last / CHANNEL_PADDING) * CHANNEL_PADDING;
    if (group.used.has(filled)) group.agreed = Math.max(group.agreed, filled);
    group.used.add(filled);
  };
  for (const node of graph.nodes) {
    const [input = "", , bias = "", sum = ""] = node.inputs;
    const [output = ""] = node.outputs;
    const filter = filters.get(node);
    if (filter) {
      const [rows, columns] = used(filter, graph.initializers.get(bias));
      if (isDepthwise(node, filter)) unite([output, input]);
      else use(input, columns);
      if (sum !== "") unite([output, sum]);
      use(output, rows);
    } else if (keepsChannels(graph, node)) {
      unite([output, ...activations(graph, node)]);
      const stated = node.opType === "ReorderOutput" ? attributeOf(node, "channels") : undefined;
      if (stated !== undefined) of(output).stated ??= stated;
    }
  }
  return new Map(
    [...values].map(([name, { padded }]) => {
      const { stated, used: lasts, agreed } = of(name);
      const last = agreed > 0 ? agreed : Math.max(0, ...lasts);
      const filled = padded ?? stated ?? last;
      const meant = stated ?? Math.min(filled, last);
      return [name, meant > 0 && meant <= filled ? meant : filled] as const;
    }),
  );
}

/** Whether an operator's result has as many channels as its input. */
function keepsChannels(graph: OnnxGraph, node: OnnxNode): boolean {
  if (node.domain === NCHWC_DOMAIN || isElementwise(graph, node)) return true;
  return node.domain === "" && KEEPS_CHANNELS.has(node.opType);
}

const KEEPS_CHANNELS: ReadonlySet<string> = new Set([
  ...[
    "GlobalAveragePool",
    "GlobalMaxPool",
    "AveragePool",
    "MaxPool",
    "InstanceNormalization",
    "Reshape",
    "ReduceMean",
  ],
]);

/** The last row and the last column of a filter that have weights, counted from 1. */
export function used(
  filter: Tensor<"float32">,
  bias: Tensor | undefined,
): readonly [rows: number, columns: number] {
  const [outChannels = 0, perGroup = 0, height = 0, width = 0] = filter.shape;
  const area = height * width;
  let [rows, columns] = [0, 0];
  for (let out = 0; out < outChannels; out++)
    for (let channel = 0; channel < perGroup; channel++)
      for (let place = 0; place < area; place++)
        if (filter.data[(out * perGroup + channel) * area + place] !== 0) {
          rows = out + 1;
          if (channel >= columns) columns = channel + 1;
          break;
        }
  if (bias?.dtype === "float32") rows = Math.max(rows, bias.data.findLastIndex((value) => value !== 0) + 1);
  return [rows, columns];
}

/** A blocked filter as OIHW: blocks of output channels, and of input channels if there are as many as in a block. */
function filterOnNchw(filter: Tensor<"float32">, size: number): Tensor<"float32"> {
  const [outChannels = 0, perGroup = 0, height = 0, width = 0] = filter.shape;
  const area = height * width;
  const data = new Float32Array(filter.data.length);
  const blockIn = perGroup >= size ? size : 1;
  let target = 0;
  for (let out = 0; out < outChannels; out++) {
    const [outBlock, outLane] = [Math.floor(out / size), out % size];
    for (let channel = 0; channel < perGroup; channel++) {
      const block = outBlock * (perGroup / blockIn) + Math.floor(channel / blockIn);
      for (let place = 0; place < area; place++)
        data[target++] =
          filter.data[((block * area + place) * blockIn + (channel % blockIn)) * size + outLane] ?? 0;
    }
  }
  return { ...filter, data };
}

import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { type ForeignGraph, type ForeignNode, isKind } from "./operators/foreign.js";

/** Where a landmark locates a layer: at a node, or nowhere, because the block lacks it. */
export type Anchors = ReadonlyMap<string, ForeignNode | "absent">;

/** Layers that landmarks locate, or show to be absent. */
export function anchorsOf(layers: LayerGraph, blocks: readonly BlockLandmarks[]): Anchors {
  const anchors = new Map<string, ForeignNode | "absent">();
  const members = new Map<string, LayerNode[]>(blockNames(layers).map((name) => [name, []]));
  for (const layer of layers.nodes) members.get(layer.block ?? "")?.push(layer);
  const aligned = alignedBlocks(layers, blocks);
  blockNames(layers).forEach((name) => {
    const block = aligned.get(name);
    const place = (layer: string, node: ForeignNode | undefined): void => {
      anchors.set(layer, node ?? "absent");
    };
    place(`${name}.conv1.conv`, block?.conv1);
    place(`${name}.conv3.conv`, block?.conv3);
    if (block?.downsample) place(`${name}.downsample.conv`, block.downsample);
    place(`${name}.aggregate`, block?.aggregate);
    if (block?.sum) place(`${name}.add`, block.sum);
    const placed = new Map<number, number>();
    for (const { name: layer, stream: t, op, part } of members.get(name) ?? []) {
      if (t === undefined) continue;
      const stream = block?.streams.get(t);
      if (!stream) place(layer, undefined);
      else if (op.kind === "scale" && stream.product) place(layer, stream.product);
      else if (op.kind === "conv" && part === "stream") {
        const count = placed.get(t) ?? 0;
        placed.set(t, count + 1);
        place(layer, stream.convs[count]);
      }
    }
  });
  return anchors;
}

/**
 * The block of each name: in their order and, if some are missing, so that as many as possible have the network's numbers of
 * channels.
 */
export function alignedBlocks(
  layers: LayerGraph,
  blocks: readonly BlockLandmarks[],
): ReadonlyMap<string, BlockLandmarks> {
  const ops = new Map(layers.nodes.map(({ name, op }) => [name, op]));
  const fits = (name: string, block: BlockLandmarks): number => {
    const [first, last] = [ops.get(`${name}.conv1.conv`), ops.get(`${name}.conv3.conv`)];
    const isSame =
      first?.kind === "conv" &&
      last?.kind === "conv" &&
      first.inChannels === block.conv1.op.inChannels &&
      first.outChannels === block.conv1.op.outChannels &&
      last.outChannels === block.conv3.op.outChannels;
    return isSame ? 1 : 0;
  };
  const names = blockNames(layers);
  const named = (found: readonly (BlockLandmarks | undefined)[]): ReadonlyMap<string, BlockLandmarks> =>
    new Map(
      names.flatMap((name, index) => {
        const block = found[index];
        return block ? [[name, block] as const] : [];
      }),
    );
  const lost = Math.max(0, names.length - blocks.length);
  // Without most of them, or with more than any network has, nothing can be said.
  if (lost === 0 || lost > blocks.length || names.length > MAX_BLOCKS) return named(blocks);
  // By the number of blocks so far, and of names that have none: how many fit, and which block each name has.
  let best: (Alignment | undefined)[] = [{ fitting: 0, found: [] }];
  for (const name of names) {
    const next: (Alignment | undefined)[] = [];
    for (let skipped = 0; skipped <= lost; skipped++) {
      const [before, without] = [best[skipped], best[skipped - 1]];
      const block = before && blocks[before.found.length - skipped];
      const placed = block && {
        fitting: before.fitting + fits(name, block),
        found: [...before.found, block],
      };
      const passed = without && { fitting: without.fitting, found: [...without.found, undefined] };
      next[skipped] = placed && (!passed || placed.fitting >= passed.fitting) ? placed : passed;
    }
    best = next;
  }
  return named(best[lost]?.found ?? []);
}

const MAX_BLOCKS = 64;

interface Alignment {
  readonly fitting: number;
  readonly found: readonly (BlockLandmarks | undefined)[];
}

/** Paths of the residual blocks, in order. */
export function blockNames({ nodes }: LayerGraph): readonly string[] {
  return [...new Set(nodes.flatMap(({ block }) => block ?? []))];
}

/**
 * Locates the blocks of an OSNet in a graph from another exporter. A gate is unmistakable: a map times a pooled value,
 * and so are two 3×3 convolutions that are summed. The convolution that reads a sum of either is a block's conv3, and
 * everything else is found from there, so that one broken layer does not hide the rest.
 */

/** One stream, distinguished from the others of its block by its depth. */
export interface StreamLandmarks {
  /** Pointwise, depthwise, pointwise …, in the order of data flow. */
  readonly convs: readonly ForeignNode<"conv">[];
  /** The input of the gate. */
  readonly output: ForeignNode;
  /** The gated stream; undefined for a stream that is summed without a gate. */
  readonly product: ForeignNode | undefined;
}

export interface BlockLandmarks {
  readonly input: ForeignNode;
  readonly conv1: ForeignNode<"conv">;
  /** Keyed by depth, the number of 3×3 convolutions. */
  readonly streams: ReadonlyMap<number, StreamLandmarks>;
  /** Further streams of the same depth as another. */
  readonly surplus: readonly StreamLandmarks[];
  /** What conv3 reads: the sum of the gated streams, or the only one. */
  readonly aggregate: ForeignNode;
  readonly conv3: ForeignNode<"conv">;
  readonly downsample: ForeignNode<"conv"> | undefined;
  /** The residual addition. */
  readonly sum: ForeignNode | undefined;
  readonly output: ForeignNode;
}

/**
 * More consecutive operations than any stream, sum or gate of an OSNet has; files may be chains of a hundred thousand.
 */
const MAX_STEPS = 256;

/** The blocks in network order. */
export function findBlocks(graph: ForeignGraph): readonly BlockLandmarks[] {
  return graph.nodes.flatMap((node) => {
    const [aggregate] = node.inputs;
    // What reads a pooled value is part of a gate, also if a broken file gates the sum.
    if (!isKind(node, "conv") || aggregate?.form.rank !== "map") return [];
    const streams = streamsBefore(aggregate);
    return streams.length > 0 ? (blockAt(graph, node, aggregate, streams) ?? []) : [];
  });
}

/**
 * The terms of a sum, with nested sums flattened; the sum itself if there are more than any block has, such as in a
 * file that doubles a value repeatedly.
 */
export function termsOf(sum: ForeignNode): readonly ForeignNode[] {
  const terms: ForeignNode[] = [];
  const pending = [sum];
  for (let steps = 0; pending.length > 0; steps++) {
    if (steps > MAX_STEPS) return [sum];
    const node = pending.shift();
    if (node && isKind(node, "add")) pending.unshift(...node.inputs);
    else if (node) terms.push(node);
  }
  return terms;
}

/**
 * The streams of a block, from what its conv3 reads: a sum, or what a broken file has in its place, such as a mean, or
 * a factor or gate on the sum. None if the convolution is not a conv3.
 */
function streamsBefore(aggregate: ForeignNode): readonly StreamLandmarks[] {
  let node = aggregate;
  for (let steps = 0; steps < NORM_STEPS; steps++) {
    const terms = termsOf(node);
    const leaves =
      terms.length === 1 && isKind(node, "other") ? node.inputs.flatMap(termsOf).map(beforeUnknown) : terms;
    const isSum = leaves.length > 1 || leaves.some(isGated);
    const streams = isSum ? leaves.flatMap(streamsOf) : [];
    const isBlock = streams.some(({ product }) => product && isGated(product));
    // The convolutions before a residual sum are pointwise, and what an activation sums comes from a single one.
    const ends = new Set(streams.flatMap(({ convs }) => convs.slice(-1)).filter(isSpatial));
    if (isBlock || ends.size > 1) return streams;
    const [only, ...others] = node.inputs.filter(({ form }) => form.rank === "map");
    if (!only || others.length > 0 || isKind(node, "conv")) return [];
    node = only;
  }
  return [];
}

/** The stream of a term, or those of a term that combines several in another way than a sum. */
function streamsOf(term: ForeignNode): readonly StreamLandmarks[] {
  const own = streamOf(term);
  if (own) return [own];
  return isKind(term, "other", "scale") && !isGated(term)
    ? term.inputs.flatMap(termsOf).flatMap((each) => streamOf(each) ?? [])
    : [];
}

/** The value that unknown operators of one input, such as an Unsqueeze, are computed from. */
function beforeUnknown(node: ForeignNode): ForeignNode {
  let before = node;
  for (let steps = 0; isKind(before, "other") && before.inputs.length === 1 && steps < NORM_STEPS; steps++)
    before = before.inputs[0] ?? before;
  return before;
}

/** Whether a value is a map and a pooled one combined: by a product, or in a broken file by another operator. */
function isGated(node: ForeignNode): boolean {
  const [map, gate] = node.inputs;
  return isKind(node, "scale", "other") && map?.form.rank === "map" && gate?.form.rank === "pooled";
}

function blockAt(
  graph: ForeignGraph,
  conv3: ForeignNode<"conv">,
  aggregate: ForeignNode,
  found: readonly StreamLandmarks[],
): BlockLandmarks | undefined {
  const streams = new Map<number, StreamLandmarks>();
  const surplus: StreamLandmarks[] = [];
  for (const stream of found) {
    const depth = depthOf(stream);
    if (streams.has(depth)) surplus.push(stream);
    else streams.set(depth, stream);
  }
  const reduced = found[0]?.convs[0]?.inputs[0];
  const conv1 = reduced && convBefore(reduced);
  const input = conv1?.inputs[0];
  if (!conv1 || !input) return undefined;
  const sum = next(graph, conv3, "add") ?? meetingAfter(graph, conv3);
  const other = sum?.inputs.find((term) => convBefore(term) !== conv3);
  const shortcut = other && other !== input ? convBefore(other) : undefined;
  const downsample = shortcut?.inputs[0] === input ? shortcut : undefined;
  const output = (sum && next(graph, sum, "relu")) ?? sum ?? conv3;
  return { input, conv1, streams, surplus, aggregate, conv3, downsample, sum, output };
}

/**
 * Follows a stream backwards: depthwise and pointwise convolutions alternate, and a second pointwise one is the block's
 * conv1.
 */
function streamOf(leaf: ForeignNode): StreamLandmarks | undefined {
  const product = isKind(leaf, "scale") || isGated(leaf) ? leaf : undefined;
  let output = product ? (product.inputs.find(isSpatialResult) ?? product.inputs[0]) : leaf;
  // A stream that a broken file gates more than once is still one stream.
  for (let steps = 0; output && isGated(output) && steps < NORM_STEPS; steps++) output = output.inputs[0];
  const convs: ForeignNode<"conv">[] = [];
  for (let conv = output && convBefore(output); conv; conv = conv.inputs[0] && convBefore(conv.inputs[0])) {
    const [later] = convs;
    if (convs.length > MAX_STEPS || (!isSpatial(conv) && (!later || !isSpatial(later)))) break;
    convs.unshift(conv);
  }
  return output && convs.length > 0 ? { convs, output, product } : undefined;
}

/** The number of 3×3 convolutions of a stream, which distinguishes it from the others of its block. */
export function depthOf({ convs }: StreamLandmarks): number {
  return convs.filter(isSpatial).length;
}

function isSpatial({ op }: ForeignNode<"conv">): boolean {
  return op.kernel[0] > 1 || op.kernel[1] > 1;
}

/** Whether a 3×3 convolution computes a value: a stream, while a pointwise one computes a gate. */
function isSpatialResult(node: ForeignNode): boolean {
  const conv = convBefore(node);
  return conv !== undefined && isSpatial(conv);
}

/** Operators between a convolution and the next: norms, an activation, and extra ones in a broken file. */
const NORM_STEPS = 12;

/**
 * Maximum number of paths that are followed backwards, since a decomposed activation or norm branches and joins.
 */
const WAYS = 64;

/** The convolution that a value is computed from, if nothing else contributes to it. */
function convBefore(node: ForeignNode): ForeignNode<"conv"> | undefined {
  let ways = WAYS;
  const origin = (current: ForeignNode | undefined, steps: number): ForeignNode<"conv"> | undefined => {
    if (!current || isKind(current, "conv")) return current;
    if (steps === 0 || ways-- === 0) return undefined;
    const [first, ...others] = current.inputs.map((input) => origin(input, steps - 1));
    return others.every((other) => other === first) ? first : undefined;
  };
  return origin(node, NORM_STEPS);
}

/** Where a convolution's result meets another value in an operation other than a sum, such as a difference. */
function meetingAfter(graph: ForeignGraph, conv: ForeignNode<"conv">): ForeignNode | undefined {
  let current: ForeignNode = conv;
  for (let steps = 0; steps < NORM_STEPS; steps++) {
    const readers: readonly ForeignNode[] = graph.consumers.get(current) ?? [];
    const meeting = readers.find(
      (reader) =>
        isKind(reader, "other", "scale") &&
        reader.inputs.length === 2 &&
        reader.inputs.some((input) => input.form.rank === "map" && convBefore(input) !== conv),
    );
    if (meeting) return meeting;
    const onward = onwardFrom(graph, current);
    if (!onward) return undefined;
    current = onward;
  }
  return undefined;
}

/** The next node of a kind, through operations of one input. */
export function next(
  graph: ForeignGraph,
  from: ForeignNode,
  kind: ForeignNode["op"]["kind"],
): ForeignNode | undefined {
  let current = from;
  for (let steps = 0; steps < NORM_STEPS; steps++) {
    const readers: readonly ForeignNode[] = graph.consumers.get(current) ?? [];
    const inserted = isKind(from, "conv") ? computedFrom(readersIn(graph), current) : undefined;
    const wanted = readers.find(
      (reader) => reader.op.kind === kind && !(kind === "add" && inserted?.has(reader)),
    );
    if (wanted) return wanted;
    const onward = onwardFrom(graph, current);
    if (!onward) return undefined;
    current = onward;
  }
  return undefined;
}

/** The next value if there is only one path: its reader, or the end of operators that nothing else reads. */
function onwardFrom(graph: ForeignGraph, from: ForeignNode): ForeignNode | undefined {
  const readers: readonly ForeignNode[] = graph.consumers.get(from) ?? [];
  const [only] = readers;
  if (only && readers.length === 1 && only.inputs.length === 1)
    return isKind(only, "conv") ? undefined : only;
  const inside = computedFrom(readersIn(graph), from);
  if (!readers.every((reader) => inside.has(reader))) return undefined;
  const ends = [...inside].filter((node) => graph.consumers.get(node)?.some((reader) => !inside.has(reader)));
  return ends.length === 1 ? ends[0] : undefined;
}

function readersIn({ consumers }: ForeignGraph): (node: ForeignNode) => readonly ForeignNode[] {
  return (node) => consumers.get(node) ?? [];
}

/** A node and those that it is computed from, up to a source. */
export function nodesUpTo(source: ForeignNode, last: ForeignNode): ReadonlySet<ForeignNode> {
  const found = new Set<ForeignNode>();
  const pending = [last];
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (node === source || found.has(node)) continue;
    found.add(node);
    pending.push(...node.inputs);
  }
  return found;
}

/** Layers with weights and pools, which no decomposition of a norm or an activation contains. */
const OUTSIDE: readonly ForeignNode["op"]["kind"][] = ["conv", "linear", "flatten", "maxPool", "avgPool"];

/** Maximum number of operators in the decomposition of a norm or an activation. */
const MAX_INSIDE = 64;

/**
 * The nodes that are computed from one value alone, nearest first, up to layers with weights and, unless requested,
 * pools.
 */
export function computedFrom(
  consumersOf: (node: ForeignNode) => readonly ForeignNode[],
  from: ForeignNode,
  accepts: (node: ForeignNode) => boolean = () => true,
  withPools = false,
): ReadonlySet<ForeignNode> {
  const inside = new Set<ForeignNode>();
  const pending: ForeignNode[] = [from];
  for (let node = pending.shift(); node && inside.size < MAX_INSIDE; node = pending.shift())
    for (const reader of consumersOf(node)) {
      if (inside.has(reader) || !accepts(reader)) continue;
      if (OUTSIDE.includes(reader.op.kind) && !(withPools && isKind(reader, "maxPool", "avgPool"))) continue;
      if (!reader.inputs.every((input) => input === from || inside.has(input))) continue;
      inside.add(reader);
      pending.push(reader);
    }
  return inside;
}

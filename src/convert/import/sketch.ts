import type {
  BlockSpec,
  Dialect,
  GateSpec,
  InstanceNormPlacement,
  OsnetSpec,
  StageSpec,
} from "../../arch/index.js";
import { type BlockLandmarks, computedFrom, next } from "./landmarks.js";
import { type ForeignGraph, type ForeignNode, hasBias, isKind } from "./operators/foreign.js";

/**
 * Infers the architecture from a graph. As with a state dict, the result is a first guess: matching compares all of it
 * afterwards. Undefined if the graph has no stem before its blocks.
 *
 * A graph does not show module names. Instance norms inside the residual occur in `osnet_ain` only; without any, the
 * two dialects are the same network, and `osnet` is assumed unless the caller says otherwise.
 */
export function sketchGraph(
  graph: ForeignGraph,
  blocks: readonly BlockLandmarks[],
  dialect?: Dialect,
): OsnetSpec | undefined {
  const stem = graph.nodes.find((node) => isKind(node, "conv"));
  const [first] = blocks;
  if (!stem || !isKind(stem, "conv") || !first) return undefined;
  const common = commonDepth(blocks.map(({ streams }) => Math.max(...streams.keys())));
  const sketches = blocks.map((block) => sketchBlock(graph, block, common));
  const inside = sketches.some(({ instanceNorm }) => instanceNorm === "inside" || instanceNorm === "both");
  const { embedding, head, pooling } = sketchTail(graph, blocks);
  return {
    dialect: dialect ?? (inside ? "osnet_ain" : "osnet"),
    stem: { channels: stem.op.outChannels, norm: readBy(graph, stem, "instanceNorm") ? "instance" : "batch" },
    stages: stagesOf(graph, blocks, sketches),
    gate: sketchGate(blocks),
    pooling,
    embedding,
    head,
  };
}

function sketchBlock(
  graph: ForeignGraph,
  { conv1, conv3, sum, streams }: BlockLandmarks,
  common: number | undefined,
): BlockSpec {
  const { outChannels } = conv3.op;
  return {
    inChannels: conv1.op.inChannels,
    outChannels,
    streams: common ?? Math.max(...streams.keys()),
    reduction: Math.max(1, Math.floor(outChannels / conv1.op.outChannels)),
    instanceNorm: placement(graph, conv3, sum),
  };
}

/**
 * The depth that all blocks but one have, if there are at least four: the other one lost its deepest stream, or has
 * one too many.
 */
function commonDepth(depths: readonly number[]): number | undefined {
  const distinct = [...new Set(depths)];
  return depths.length >= 4 && distinct.length === 2
    ? distinct.find((depth) => countOf(depths, depth) === depths.length - 1)
    : undefined;
}

/**
 * An instance norm inside the residual replaces conv3's batch norm; one outside is in addition to it. If the two clues
 * disagree, the norm was moved, and the batch norm shows where it belongs.
 */
function placement(
  graph: ForeignGraph,
  conv3: ForeignNode,
  sum: ForeignNode | undefined,
): InstanceNormPlacement {
  const before = next(graph, conv3, "instanceNorm") !== undefined;
  const after = sum !== undefined && readBy(graph, sum, "instanceNorm");
  if (before && after) return "both";
  if (!before && !after) return "none";
  const hasBatchNorm = hasBias(conv3) || readBy(graph, conv3, "batchNorm") || readBy(graph, conv3, "affine");
  return hasBatchNorm ? "outside" : "inside";
}

/** A stage ends at a transition, or where the width changes. */
function stagesOf(
  graph: ForeignGraph,
  blocks: readonly BlockLandmarks[],
  sketches: readonly BlockSpec[],
): readonly StageSpec[] {
  const stages: { blocks: BlockSpec[]; transition: boolean }[] = [];
  sketches.forEach((sketch, index) => {
    const before = blocks[index - 1];
    const input = blocks[index]?.input;
    const transition = before !== undefined && input !== undefined && !leadsTo(graph, before.output, input);
    const last = stages.at(-1);
    if (last && !transition && sketch.inChannels === sketch.outChannels) last.blocks.push(sketch);
    else {
      if (last) last.transition = transition;
      stages.push({ blocks: [sketch], transition: false });
    }
  });
  const [last, end] = [stages.at(-1), blocks.at(-1)];
  if (last && end) last.transition = tailOf(graph, end.output).some((node) => isKind(node, "avgPool"));
  return stages;
}

/** Whether a block reads another's output, possibly through operators without weights. */
function leadsTo({ consumers }: ForeignGraph, output: ForeignNode, input: ForeignNode): boolean {
  return input === output || computedFrom((node) => consumers.get(node) ?? [], output).has(input);
}

/** The operations of one input that follow a node, up to a branch. */
function tailOf(graph: ForeignGraph, from: ForeignNode): readonly ForeignNode[] {
  const tail: ForeignNode[] = [];
  for (let current: ForeignNode | undefined = from; current; ) {
    const readers: readonly ForeignNode[] = graph.consumers.get(current) ?? [];
    // If the embedding is both normalised and classified, follow the classifier.
    const onward = readers.find((reader) => isKind(reader, "linear")) ?? readers[0];
    current = onward?.inputs.length === 1 ? onward : undefined;
    if (current) tail.push(current);
  }
  return tail;
}

function sketchTail(
  graph: ForeignGraph,
  blocks: readonly BlockLandmarks[],
): Pick<OsnetSpec, "embedding" | "head" | "pooling"> {
  const end = blocks.at(-1);
  const tail = end ? tailOf(graph, end.output) : [];
  const pooling = tail.some((node) => isKind(node, "globalMaxPool")) ? "max" : "avg";
  const embedding: number[] = [];
  let head: OsnetSpec["head"] = null;
  tail.forEach((node, index) => {
    if (!isKind(node, "linear") || head) return;
    const [after, later] = [tail[index + 1], tail[index + 2]];
    const normed = after !== undefined && isKind(after, "batchNorm", "affine");
    const active = normed ? later : after;
    if (normed || (active && isKind(active, "relu"))) embedding.push(node.op.outFeatures);
    else
      head = {
        classes: node.op.outFeatures,
        loss: active && isKind(active, "sigmoid") ? "sigmoid" : "softmax",
      };
  });
  return { embedding, head, pooling };
}

function sketchGate(blocks: readonly BlockLandmarks[]): GateSpec {
  const gates = blocks.flatMap(({ streams }) =>
    [...streams.values()].flatMap(({ product }) => gateOf(product) ?? []),
  );
  const most = <T>(values: readonly T[], fallback: T): T =>
    [...new Set(values)].sort((a, b) => countOf(values, b) - countOf(values, a))[0] ?? fallback;
  const explains = (reduction: number): boolean =>
    gates.every(({ channels, hidden }) => Math.floor(channels / reduction) === hidden);
  const largest = Math.max(1, ...gates.map(({ channels }) => channels));
  const smallest = Array.from({ length: Math.min(largest, 65_536) }, (_, index) => index + 1).find(explains);
  return {
    reduction: explains(16) ? 16 : (smallest ?? 16),
    activation: most(
      gates.map(({ activation }) => activation),
      "sigmoid",
    ),
    layerNorm: most(
      gates.map(({ layerNorm }) => layerNorm),
      false,
    ),
  };
}

interface GateSketch extends Omit<GateSpec, "reduction"> {
  readonly channels: number;
  readonly hidden: number;
}

/** Reads a gate from its product back to its pooling. */
function gateOf(product: ForeignNode | undefined): GateSketch | undefined {
  const last = product?.inputs[1];
  const chain: ForeignNode[] = [];
  for (let node = last; node && !isKind(node, "globalAvgPool") && chain.length < 16; node = node.inputs[0])
    chain.push(node);
  const [fc2, fc1] = chain.filter((node) => isKind(node, "conv"));
  if (!last || !fc1 || !fc2 || !isKind(fc1, "conv")) return undefined;
  return {
    channels: fc1.op.inChannels,
    hidden: fc1.op.outChannels,
    activation: last === fc2 ? "linear" : isKind(last, "relu") ? "relu" : "sigmoid",
    layerNorm: chain.some((node) => isKind(node, "layerNorm")),
  };
}

function countOf<T>(values: readonly T[], wanted: T): number {
  return values.filter((value) => value === wanted).length;
}

function readBy(graph: ForeignGraph, node: ForeignNode, kind: ForeignNode["op"]["kind"]): boolean {
  return (graph.consumers.get(node) ?? []).some((reader) => reader.op.kind === kind);
}

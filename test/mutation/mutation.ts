import type { LayerNode, OpKind } from "../../src/arch/index.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import type { TfjsGraphModel } from "../../src/convert/formats/tfjs/model.js";
import type { Cause } from "../../src/verify/explain/index.js";
import type { Fault } from "../../src/verify/outcome/report.js";
import type { FaultyNetwork, Network } from "./network.js";

/** One thing that is wrong with a network, and what a verifier must say of it. */
export interface Mutation {
  /** The row of the table that it is counted in. */
  readonly operator: string;
  /** What exactly, for messages. */
  readonly says: string;
  /** The layers that may be blamed, and no other; those that a batch norm absorbs are blamed as that. */
  readonly layers: readonly string[];
  /** The right words for what is found in the values. */
  readonly causes: readonly Cause[];
  /** What it may be called in a file whose constants and structure are looked at too. */
  readonly kinds: readonly Fault["kind"][];
  /** What it computes: lowered to files as far as the architecture can say it, and run as it is for recordings. */
  readonly network: FaultyNetwork;
  /** The rest of it in an ONNX file; needed where `network.instead` is. */
  readonly onnx?: (model: OnnxModel) => OnnxModel;
  /** Likewise in a graph model. */
  readonly tfjs?: (model: TfjsGraphModel) => TfjsGraphModel;
  /** Whether it can be in files only whose batch norms stand for themselves. */
  readonly unfolded?: true;
  /** Whether a layers model cannot have it: there the gate is one layer, which all streams call in turn. */
  readonly notInLayers?: true;
  /** Whether it is a mistake only where layers have names: else it is what a file does to its input, and is told so. */
  readonly named?: true;
}

/** Ways of making one kind of mistake in a network. */
export type Operator = (network: Network) => readonly Mutation[];

/** Layers of a kind, spread over the network: the first, and others at equal distances. */
export function spread(
  { graph }: Network,
  kind: OpKind,
  count: number,
  accepts: (node: LayerNode) => boolean = () => true,
): readonly LayerNode[] {
  const nodes = graph.nodes.filter((node) => node.op.kind === kind && accepts(node));
  const chosen = Array.from({ length: count }, (_, i) => nodes[Math.floor((i * nodes.length) / count)]);
  return [...new Set(chosen)].flatMap((node) => node ?? []);
}

/** The layers that read a parameter: all streams' calls of a gate's module. */
export function readersOf({ graph }: Network, path: string): readonly string[] {
  return graph.nodes
    .filter(({ parameters }) => Object.values(parameters).includes(path))
    .map(({ name }) => name);
}

/** The layers that read a layer's output. */
export function readersBehind({ graph }: Network, layer: string): readonly string[] {
  return graph.nodes.filter(({ inputs }) => inputs.includes(layer)).map(({ name }) => name);
}

/** A place among so many, for each turn: multiples of the golden ratio are spread evenly, however many there are. */
export function spreadOver(length: number, turn: number): number {
  return Math.floor(((turn * GOLDEN_RATIO) % 1) * length);
}

const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

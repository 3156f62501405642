import { readersOf } from "../../arch/graph.js";
import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { compareOps, type Difference, difference, nameOf } from "./differences.js";
import type { Constants, ForeignGraph, ForeignNode } from "./foreign.js";
import { type Anchors, anchorsOf, type BlockLandmarks } from "./landmarks.js";

/** How far a walk has come: which nodes are layers by now, and what was noted on the way. */
export interface Trail {
  readonly anchors: Anchors;
  /** Layers to the nodes that compute them, or that what reads them reads instead. */
  readonly found: ReadonlyMap<string, ForeignNode>;
  readonly absorbed: Set<string>;
  readonly products: Map<string, Constants>;
  readonly skipped: ReadonlySet<string>;
  /** What reads a layer instead of its own node, where operators stand between the two. */
  readonly behind: ReadonlyMap<string, ForeignNode>;
  /** Whether no convolution of the file has a batch norm behind it. */
  readonly foldsAll: boolean;
  /** Whether most have none: then a product or sum behind one of the others was put there. */
  readonly foldsMost: boolean;
  /** What the layers that read a layer read. */
  sourceOf(layer: string): ForeignNode | undefined;
  /** The layers that read a layer. */
  readersOf(layer: LayerNode): readonly LayerNode[];
  consumersOf(node: ForeignNode): readonly ForeignNode[];
  /** What the file gives. */
  readonly outputs: readonly ForeignNode[];
  /** Whether a node is no layer yet. */
  isFree(node: ForeignNode): boolean;
  /** What findings call a node: the layer that it is, or its kind. */
  nameOf(node: ForeignNode): string;
  /** A node is a layer, and how it differs from that is a finding. */
  accept(layer: LayerNode, node: ForeignNode): void;
  /** A node is a layer as well as the one before, whose constants have its own in them. */
  merge(layer: LayerNode, node: ForeignNode): void;
  /** What reads a layer reads this, which is computed of it. */
  pass(layer: LayerNode, node: ForeignNode): void;
  /** The file lacks a layer: what reads it reads this. */
  skip(layer: LayerNode, node: ForeignNode): void;
  /** A finding, told at the end, when every node that it may name has its name. */
  note(layer: LayerNode, found: string | (() => string), expected: string): void;
  findings(): readonly Difference[];
}

export function startTrail(
  layers: LayerGraph,
  foreign: ForeignGraph,
  blocks: readonly BlockLandmarks[],
): Trail {
  const found = new Map<string, ForeignNode>();
  const owners = new Map<ForeignNode, string>();
  const skipped = new Set<string>();
  const findings: (() => readonly Difference[])[] = [];
  const readers = readersOf(layers);
  const behind = new Map<string, ForeignNode>();
  const convs = foreign.nodes.filter(({ op }) => op.kind === "conv").length;
  const normed = foreign.nodes.filter(
    ({ op, inputs: [input] }) =>
      (op.kind === "batchNorm" || op.kind === "affine") && input?.op.kind === "conv",
  ).length;
  return {
    anchors: anchorsOf(layers, blocks),
    found,
    absorbed: new Set(),
    products: new Map(),
    skipped,
    behind,
    foldsAll: normed === 0,
    foldsMost: 8 * normed < convs,
    sourceOf: (layer) => behind.get(layer) ?? found.get(layer),
    readersOf: ({ name }) => readers.get(name) ?? [],
    outputs: foreign.outputs.flatMap(({ node }) => node ?? []),
    consumersOf: (node) => foreign.consumers.get(node) ?? [],
    isFree: (node) => !owners.has(node),
    nameOf: (node) => owners.get(node) ?? nameOf(node),
    accept(layer, node) {
      found.set(layer.name, node);
      owners.set(node, layer.name);
      findings.push(() => compareOps(layer, node));
    },
    merge(layer, node) {
      found.set(layer.name, node);
      owners.set(node, layer.name);
    },
    pass(layer, node) {
      behind.set(layer.name, node);
    },
    skip(layer, node) {
      found.set(layer.name, node);
      skipped.add(layer.name);
    },
    note(layer, what, expected) {
      findings.push(() => [difference(layer, typeof what === "string" ? what : what(), expected)]);
    },
    findings: () => findings.flatMap((tell) => tell()),
  };
}

import { readersOf } from "../../arch/graph.js";
import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { formatShape } from "../../core/tensor.js";
import type { StoredTensor } from "../formats/tfjs/model.js";
import {
  compareOps,
  type Difference,
  difference,
  isPadding,
  NOTHING_INSTEAD,
  nameOf,
  nameOfKind,
} from "./differences.js";
import { type Anchors, anchorsOf, type BlockLandmarks, computedFrom, nodesUpTo } from "./landmarks.js";
import {
  type Constants,
  type ForeignGraph,
  type ForeignKind,
  type ForeignNode,
  isKind,
} from "./operators/foreign.js";

/** The state of a walk: which nodes are matched with layers, and what was noted. */
export interface Trail {
  readonly anchors: Anchors;
  /**
   * By layer, the node that computes it; for a layer that is missing, the node that its readers read instead.
   */
  readonly found: ReadonlyMap<string, ForeignNode>;
  readonly absorbed: Set<string>;
  readonly products: Map<string, Constants>;
  readonly factors: Map<string, StoredTensor>;
  /** Layers whose value is not in the file although their constants are. */
  readonly unnamed: Set<string>;
  readonly skipped: ReadonlySet<string>;
  /** By layer, the last of the operators inserted after it, which its readers read. */
  readonly afterInserted: ReadonlyMap<string, ForeignNode>;
  /** Whether all batch norms are folded: no convolution is followed by one. */
  readonly foldsAll: boolean;
  /** Whether most are folded, so that a product or sum after a convolution is an inserted operator. */
  readonly foldsMost: boolean;
  /** Whether values may be in half precision. */
  readonly isHalf: boolean;
  /** The node whose value the readers of a layer read. */
  sourceOf(layer: string): ForeignNode | undefined;
  readersOf(layer: LayerNode): readonly LayerNode[];
  consumersOf(node: ForeignNode): readonly ForeignNode[];
  /** The nodes of the file's outputs. */
  readonly outputs: readonly ForeignNode[];
  isFree(node: ForeignNode): boolean;
  /** Whether a landmark says which layer a node is. */
  isMarked(node: ForeignNode): boolean;
  /** The name of a node in findings: that of its layer, or its kind. */
  nameOf(node: ForeignNode): string;
  /** Matches a layer with a node, and notes how they differ. */
  accept(layer: LayerNode, node: ForeignNode): void;
  /** Matches a layer with the node of the layer before it, whose constants include this layer's. */
  merge(layer: LayerNode, node: ForeignNode): void;
  /** Sets the last of the operators inserted after a layer. */
  pass(layer: LayerNode, node: ForeignNode): void;
  /** Skips a layer that the file lacks: its readers read this node instead. */
  skip(layer: LayerNode, node: ForeignNode): void;
  /**
   * Notes a difference. Functions are evaluated at the end, when every node that was matched has its layer's name.
   */
  note(layer: LayerNode, found: string | (() => string), expected: string): void;
  /** Notes operators that the architecture does not have before a layer, or after it. */
  noteInserted(layer: LayerNode, nodes: readonly ForeignNode[], where: "before" | "after"): void;
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
  const noted: Noted[] = [];
  const readers = readersOf(layers);
  const afterInserted = new Map<string, ForeignNode>();
  const convs = foreign.nodes.filter(({ op }) => op.kind === "conv").length;
  const normed = foreign.nodes.filter(
    ({ op, inputs: [input] }) =>
      (op.kind === "batchNorm" || op.kind === "affine") && input?.op.kind === "conv",
  ).length;
  const anchors = anchorsOf(layers, blocks);
  const marked = new Set<ForeignNode | "absent">(anchors.values());
  const padsImages = foreign.preprocess.unknown.includes(nameOfKind("pad"));
  return {
    anchors,
    found,
    absorbed: new Set(),
    products: new Map(),
    factors: new Map(),
    unnamed: new Set(),
    skipped,
    afterInserted,
    foldsAll: normed === 0,
    foldsMost: 8 * normed < convs,
    isHalf: foreign.preprocess.isHalf,
    sourceOf: (layer) => afterInserted.get(layer) ?? found.get(layer),
    readersOf: ({ name }) => readers.get(name) ?? [],
    outputs: foreign.outputs.flatMap(({ node }) => node ?? []),
    consumersOf: (node) => foreign.consumers.get(node) ?? [],
    isFree: (node) => !owners.has(node),
    isMarked: (node) => marked.has(node),
    nameOf: (node) => owners.get(node) ?? nameOf(node),
    accept(layer, node) {
      found.set(layer.name, node);
      owners.set(node, layer.name);
      const isPadded = node.inputs.some((input) => (input === foreign.input ? padsImages : isPadding(input)));
      noted.push({ layer, differences: () => compareOps(layer, node, isPadded) });
    },
    merge(layer, node) {
      found.set(layer.name, node);
      owners.set(node, layer.name);
    },
    pass(layer, node) {
      afterInserted.set(layer.name, node);
    },
    skip(layer, node) {
      found.set(layer.name, node);
      skipped.add(layer.name);
    },
    note(layer, what, expected) {
      const found = (): string => (typeof what === "string" ? what : what());
      noted.push({ layer, differences: () => [difference(layer, found(), expected)] });
    },
    noteInserted(layer, nodes, where) {
      const found = `${namesOf(nodes)} ${where} it`;
      const kind = where === "after" ? "inserted" : undefined;
      const differences = (): readonly Difference[] => [difference(layer, found, "none", kind)];
      noted.push({ layer, differences, inserted: { nodes, where } });
    },
    findings: () => differencesOf(noted, skipped),
  };
}

/** What was noted of a layer. */
interface Noted {
  readonly layer: LayerNode;
  readonly differences: () => readonly Difference[];
  readonly inserted?: { readonly nodes: readonly ForeignNode[]; readonly where: "before" | "after" };
}

/**
 * All differences. A layer that is missing in one place of a block and inserted in another was moved. Operators before a layer and behind it, or
 * behind its flattening, belong together, such as the powers of a generalised mean.
 */
function differencesOf(noted: readonly Noted[], skipped: ReadonlySet<string>): readonly Difference[] {
  const isMoved = ({ layer: { name, block, op } }: Noted, { layer, inserted }: Noted): boolean =>
    skipped.has(name) &&
    block === layer.block &&
    inserted?.nodes.length === 1 &&
    inserted.nodes[0]?.op.kind === op.kind;
  const isAround = (before: Noted, { layer, inserted }: Noted): boolean =>
    before.inserted?.where === "before" &&
    inserted?.where === "after" &&
    (layer === before.layer || (layer.op.kind === "flatten" && layer.inputs[0] === before.layer.name));
  return noted.flatMap((one, at) => {
    const around = noted.findIndex((each) => isAround(one, each) || isAround(each, one));
    if (around >= 0) {
      const [before, after] = (around > at ? [one, noted[around]] : [noted[around], one]).map((each) =>
        namesOf(each?.inserted?.nodes ?? []),
      );
      return [
        difference(
          one.layer,
          `${before} before it and ${after} after it`,
          "none",
          around < at ? "second" : undefined,
        ),
      ];
    }
    const other = noted.findIndex((each) => isMoved(one, each) || isMoved(each, one));
    const [lost, found] = one.inserted ? [noted[other], one] : [one, noted[other]];
    if (!lost || !found?.inserted) return one.differences();
    const place = `${nameOfKind(lost.layer.op.kind)} ${found.inserted.where} ${found.layer.name}`;
    return [
      difference(one.layer, place, `one after ${lost.layer.inputs[0]}`, other < at ? "second" : undefined),
    ];
  });
}

/**
 * Recovery: a layer that none of its input's readers matches was replaced, or follows inserted operators. Either is
 * noted, and the walk continues after it.
 */

/**
 * Kinds that replace each other: a node of one kind in the place of another is matched with the layer, and the kind
 * is the finding.
 */
const CONV: readonly ForeignKind[] = ["conv", "other"];
const FAMILIES: readonly (readonly ForeignKind[])[] = [
  CONV,
  ["relu", "sigmoid", "other"],
  ["batchNorm", "trainingNorm", "instanceNorm", "layerNorm", "other"],
  ["maxPool", "avgPool", "globalAvgPool", "globalMaxPool", "other"],
];

/**
 * Whether any block was recognised. If so, only an unknown operator may replace a convolution; otherwise anything
 * may.
 */
function hasBlocks({ anchors }: Trail): boolean {
  return [...anchors.values()].some((anchor) => anchor !== "absent");
}

/** Matches a layer that no reader of its input is, or skips it. */
export function recover(trail: Trail, layer: LayerNode, source: ForeignNode): void {
  if (acceptAfterInserted(trail, layer, source)) return;
  const family = FAMILIES.find(
    (kinds) => kinds.includes(layer.op.kind) && (kinds !== CONV || hasBlocks(trail)),
  );
  const instead =
    family &&
    (resultBefore(trail, trail.readersOf(layer), source) ??
      resultAtEnd(trail, layer, source) ??
      pooledOtherwise(trail, layer, source) ??
      replacementOf(trail, layer, source, family));
  const isOne = instead?.inputs.length === 1 && instead.inputs[0] === source;
  const part = instead && differingPart(insertedBetween(trail, source, instead), layer.op.kind);
  // A convolution before an instance norm has no bias of its own.
  const isFolded = layer.op.kind === "instanceNorm" && isKind(source, "conv") && source.constants.bias;
  // What else reads the same value, such as the product of a gate, is not in the layer's place.
  const needed = instead && nodesUpTo(source, instead);
  const read = trail.consumersOf(source).filter((node) => trail.isFree(node) && (needed?.has(node) ?? true));
  const reads = read.map((node) => nameWithStack(trail, node)).join(" and ");
  const isLeftOut = !instead && family && leadsOn(trail, trail.readersOf(layer), source);
  const found =
    instead && isOne
      ? nameInPlace(trail, instead)
      : isLeftOut
        ? isFolded
          ? nameOfKind("batchNorm")
          : NOTHING_INSTEAD
        : reads || "the end of the graph";
  const joint = layer.op.kind === "flatten" ? trail.consumersOf(source).find(isJoint) : undefined;
  if (joint && isKind(source, "globalAvgPool", "globalMaxPool")) {
    // What a pool is combined with is part of another pooling.
    const names = (): string => `${nameOf(joint)} of ${joint.inputs.map(trail.nameOf).join(" and ")}`;
    trail.note({ ...layer, name: layer.inputs[0] ?? "" }, names, nameOfKind(source.op.kind));
    return;
  }
  trail.note(layer, part === undefined ? found : `${found} with ${part}`, nameOfKind(layer.op.kind));
  if (instead) trail.accept(layer, instead);
  else if (family) trail.skip(layer, source);
}

/** Whether a value combines several others. */
function isJoint(node: ForeignNode): boolean {
  return node.inputs.length > 1;
}

/**
 * The only part by which operators differ from an operation of a kind; undefined if there is more than one candidate.
 */
export function differingPart(nodes: readonly ForeignNode[] = [], kind: ForeignKind): string | undefined {
  const parts = nodes.flatMap(({ nearMisses = [] }) => nearMisses.filter((miss) => miss.kind === kind));
  const [part, ...others] = new Set(parts.map(({ has }) => has));
  return others.length === 0 ? part : undefined;
}

/** Operators that are layers if their weights are constants of the usual form. */
const WITH_WEIGHTS: ReadonlySet<string> = new Set(["Conv", "Gemm", "MatMul"]);

/** The names of an operator and, if it begins a stack of several values, of what reads the stack. */
function nameWithStack({ consumersOf }: Trail, node: ForeignNode): string {
  const stack = isKind(node, "other") && node.op.opType === "Unsqueeze" ? consumersOf(node) : [];
  const joints = stack.filter(isJoint);
  return namesOf([node, ...joints, ...joints.flatMap(consumersOf)]);
}

function nameInPlace(trail: Trail, node: ForeignNode): string {
  const name = nameWithStack(trail, node);
  if (WITH_WEIGHTS.has(name)) return `a ${name} whose weights are computed or of another form`;
  const axes = isKind(node, "other") && name.startsWith("Reduce") ? node.op.axes : undefined;
  return axes ? `${name} over axes ${formatShape(axes)}` : name;
}

/**
 * Notes that a layer located by a landmark has another input: operators were inserted before it, or it reads another
 * value.
 */
export function recoverInput(trail: Trail, layer: LayerNode, anchor: ForeignNode, source: ForeignNode): void {
  const [input] = anchor.inputs;
  const inserted = input && insertedBetween(trail, source, input);
  if (inserted) trail.noteInserted(layer, inserted, "before");
  else
    trail.note(layer, () => `${input ? trail.nameOf(input) : "nothing"} as its input`, layer.inputs[0] ?? "");
}

/** Accepts a layer that follows inserted operators. */
function acceptAfterInserted(trail: Trail, layer: LayerNode, source: ForeignNode): boolean {
  const { consumersOf, isFree, isMarked } = trail;
  const following = kindsAfter(trail, layer);
  for (const last of insertedAfter(trail, source)) {
    const match = consumersOf(last).find(
      (node) => node.op.kind === layer.op.kind && isFree(node) && !isMarked(node),
    );
    const inserted = match && insertedBetween(trail, source, last);
    if (!inserted || inserted.includes(match) || inserted.some(({ op }) => following.includes(op.kind)))
      continue;
    // If other operators come before and after it, all of them together are another operation in the layer's
    // place, such as a generalised mean.
    const next = trail.readersOf(layer);
    const isAnother = inserted.length > 1 || resultBefore(trail, next, source) !== undefined;
    if (isAnother && next.length > 0 && !leadsOn(trail, next, match)) continue;
    trail.noteInserted(layer, inserted, "before");
    trail.accept(layer, match);
    return true;
  }
  return false;
}

/**
 * Operators inserted between a layer and its readers. If there are several readers, or the only one is a convolution,
 * they are one finding at this layer; otherwise the reader reports them.
 */
export function passInserted(trail: Trail, layer: LayerNode): void {
  const source = trail.sourceOf(layer.name);
  const next = trail.readersOf(layer);
  if (!source || trail.skipped.has(layer.name) || leadsOn(trail, next, source)) return;
  const [only] = next;
  if (next.length < 2 && only?.op.kind !== "conv" && only?.op.kind !== "linear") return;
  for (const last of insertedAfter(trail, source)) {
    const inserted = leadsOn(trail, next, last) ? insertedBetween(trail, source, last) : undefined;
    // Padding is a finding at the layer that reads it.
    if (!inserted || inserted.every(isPadding)) continue;
    trail.noteInserted(layer, inserted, "after");
    trail.pass(layer, last);
    return;
  }
}

/** Whether each of these layers may be one of a node's readers. */
export function leadsOn(trail: Trail, next: readonly LayerNode[], node: ForeignNode): boolean {
  const reads = ({ op, name }: LayerNode, reader: ForeignNode): boolean =>
    reader === trail.anchors.get(name) ||
    (trail.isFree(reader) && op.kind === reader.op.kind && !trail.isMarked(reader));
  // Both the gate and the product of a stream must read it: inside x · σ(x), only a product does.
  return (
    next.length > 0 && next.every((layer) => trail.consumersOf(node).some((reader) => reads(layer, reader)))
  );
}

/** The unmatched nodes that are computed from one value alone. */
function insertedAfter(trail: Trail, source: ForeignNode): ReadonlySet<ForeignNode> {
  return computedFrom(trail.consumersOf, source, (node) => trail.isFree(node) && !trail.isMarked(node), true);
}

/** The operators between a value and another that depends on it alone, in the order of computation. */
export function insertedBetween(
  trail: Trail,
  source: ForeignNode,
  last: ForeignNode,
): readonly ForeignNode[] | undefined {
  const inserted = insertedAfter(trail, source);
  if (!inserted.has(last)) return undefined;
  const needed = nodesUpTo(source, last);
  return [...inserted].filter((node) => needed.has(node));
}

/** Names the first of some operators. */
function namesOf(nodes: readonly ForeignNode[]): string {
  const names = [...new Set(nodes.map(nameOf))];
  return names.length > MAX_NAMED ? `${names.slice(0, MAX_NAMED).join(", ")} …` : names.join(" and ");
}

const MAX_NAMED = 4;

function replacementOf(
  trail: Trail,
  layer: LayerNode,
  source: ForeignNode,
  family: readonly ForeignKind[],
): ForeignNode | undefined {
  const following = kindsAfter(trail, layer);
  return trail
    .consumersOf(source)
    .find(
      (node) =>
        node.inputs.length === 1 &&
        trail.isFree(node) &&
        family.includes(node.op.kind) &&
        (isKind(node, "other") || !following.includes(node.op.kind)),
    );
}

/** What the layers after a last pool and its flattening read, if other operators are in the place of both, or of the pool. */
function pooledOtherwise(trail: Trail, layer: LayerNode, source: ForeignNode): ForeignNode | undefined {
  const [flatten, ...others] = trail.readersOf(layer);
  if (flatten?.op.kind !== "flatten" || others.length > 0) return undefined;
  const last = resultBefore(trail, trail.readersOf(flatten), source);
  const isFlat = last && isFlattening(last) && last.inputs[0] !== source;
  return isFlat ? last.inputs[0] : last;
}

/** Whether an operator that is not known flattens a value. */
export function isFlattening(node: ForeignNode): boolean {
  return isKind(node, "other") && ["Flatten", "Reshape", "Squeeze"].includes(node.op.opType);
}

/** The node that the next layers read, if one operator or several are in the place of the layer before them. */
function resultBefore(
  trail: Trail,
  next: readonly LayerNode[],
  source: ForeignNode,
): ForeignNode | undefined {
  const { consumersOf, isFree, isMarked } = trail;
  // A sum of values computed from the same one, such as x + |x|, is part of an activation.
  const isInside = (node: ForeignNode): boolean =>
    isFree(node) && !isMarked(node) && (!isKind(node, ...OUTSIDE) || node.pieces?.of === source);
  const seen = new Set<ForeignNode>();
  let reached = consumersOf(source);
  for (let steps = 0; steps < REPLACED_STEPS && seen.size < MAX_REPLACED; steps++) {
    const found = reached.find((node) => isInside(node) && leadsOn(trail, next, node));
    if (found) return found;
    reached = reached
      .filter((node) => isInside(node) && !seen.has(node))
      .flatMap((node) => {
        seen.add(node);
        return consumersOf(node);
      });
  }
  return undefined;
}

/** An output that is computed by pointwise operators from the input of the network's last layer alone. */
function resultAtEnd(trail: Trail, layer: LayerNode, source: ForeignNode): ForeignNode | undefined {
  if (layer.op.kind !== "relu" && layer.op.kind !== "sigmoid") return undefined;
  return trail.outputs.find((output) => {
    const pending = [output];
    const seen = new Set<ForeignNode>();
    for (let node = pending.pop(); node; node = pending.pop()) {
      if (node === source || seen.has(node)) continue;
      if (seen.size > MAX_REPLACED || !trail.isFree(node) || !isKind(node, ...POINTWISE)) return false;
      seen.add(node);
      pending.push(...node.inputs);
    }
    return seen.size > 0;
  });
}

/** Operators that may be part of the decomposition of an activation. */
const POINTWISE: readonly ForeignKind[] = ["relu", "sigmoid", "affine", "scale", "add", "other"];

function kindsAfter(trail: Trail, layer: LayerNode): readonly string[] {
  return trail.readersOf(layer).map(({ op }) => op.kind);
}

/** Limits on the decomposition of a norm or an activation: operators in total, and in a row. */
const MAX_REPLACED = 64;
const REPLACED_STEPS = 16;

/** Kinds that no decomposition of a norm or an activation contains. */
const OUTSIDE: readonly ForeignKind[] = ["conv", "linear", "add", "flatten"];

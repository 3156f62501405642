import type { LayerNode } from "../../arch/index.js";
import { nameOf, nameOfKind } from "./differences.js";
import { type ForeignKind, type ForeignNode, isKind } from "./foreign.js";
import type { Trail } from "./trail.js";

/** Where a layer is not what reads its input: what was put before it, or took its place, is noted, and the walk goes on. */

/** Kinds that may be taken for each other: a file that has one of them where another belongs has replaced it. */
const FAMILIES: readonly (readonly ForeignKind[])[] = [
  ["relu", "sigmoid", "other"],
  ["batchNorm", "trainingNorm", "instanceNorm", "layerNorm", "other"],
  ["maxPool", "avgPool", "globalAvgPool", "globalMaxPool", "other"],
];

/** A layer of which nothing that reads its input is one. */
export function recover(trail: Trail, layer: LayerNode, source: ForeignNode): void {
  if (acceptBehindInserted(trail, layer, source)) return;
  const family = FAMILIES.find((kinds) => kinds.includes(layer.op.kind));
  const reads = trail.consumersOf(source).filter(trail.isFree).map(nameOf).join(" and ");
  const instead =
    family &&
    (resultBefore(trail, layer, source) ??
      resultAtEnd(trail, layer, source) ??
      replacementOf(trail, layer, source, family));
  const isOne = instead?.inputs.length === 1 && instead.inputs[0] === source;
  trail.note(
    layer,
    instead && isOne ? nameOf(instead) : reads || "the end of the graph",
    nameOfKind(layer.op.kind),
  );
  if (instead) trail.accept(layer, instead);
  else if (family) trail.skip(layer, source);
}

/** A landmark that does not read what it should: something stands between, or it reads another value. */
export function recoverInput(trail: Trail, layer: LayerNode, anchor: ForeignNode, source: ForeignNode): void {
  const [input] = anchor.inputs;
  if (input && trail.isFree(input) && input.inputs.includes(source))
    trail.note(layer, `${nameOf(input)} before it`, "none");
  else
    trail.note(layer, () => `${input ? trail.nameOf(input) : "nothing"} as its input`, layer.inputs[0] ?? "");
}

/** A layer that is there, behind one operator that should not be. */
function acceptBehindInserted(trail: Trail, layer: LayerNode, source: ForeignNode): boolean {
  const { consumersOf, isFree } = trail;
  const unary = consumersOf(source).filter((node) => node.inputs.length === 1 && isFree(node));
  const following = kindsBehind(trail, layer);
  for (const inserted of unary) {
    const match = consumersOf(inserted).find((node) => node.op.kind === layer.op.kind && isFree(node));
    if (!match || following.includes(inserted.op.kind)) continue;
    trail.note(layer, `${nameOf(inserted)} before it`, "none");
    trail.accept(layer, match);
    return true;
  }
  return false;
}

/** One operator in a layer's place, wherever it leads. */
function replacementOf(
  trail: Trail,
  layer: LayerNode,
  source: ForeignNode,
  family: readonly ForeignKind[],
): ForeignNode | undefined {
  const following = kindsBehind(trail, layer);
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

/** What the next layer reads, where one operator or several have taken a layer's place. */
function resultBefore(trail: Trail, layer: LayerNode, source: ForeignNode): ForeignNode | undefined {
  const { anchors, consumersOf, isFree } = trail;
  const placed = new Set(anchors.values());
  const next = trail.readersOf(layer);
  const reads = ({ op, name }: LayerNode, reader: ForeignNode): boolean =>
    reader === anchors.get(name) || (isFree(reader) && op.kind === reader.op.kind);
  // Of a stream both its gate and its product read the result, and inside x · σ(x) only a product does.
  const leads = (node: ForeignNode): boolean =>
    next.length > 0 && next.every((layer) => consumersOf(node).some((reader) => reads(layer, reader)));
  const isInside = (node: ForeignNode): boolean =>
    isFree(node) && !placed.has(node) && !isKind(node, ...OUTSIDE);
  const seen = new Set<ForeignNode>();
  let reached = consumersOf(source);
  for (let steps = 0; steps < REPLACED_STEPS && seen.size < MOST_REPLACED; steps++) {
    const found = reached.find((node) => isInside(node) && leads(node));
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

/** An output of the file that is computed from what the network's last layer reads, and from nothing else. */
function resultAtEnd(trail: Trail, layer: LayerNode, source: ForeignNode): ForeignNode | undefined {
  if (layer.op.kind !== "relu" && layer.op.kind !== "sigmoid") return undefined;
  return trail.outputs.find((output) => {
    const pending = [output];
    const seen = new Set<ForeignNode>();
    for (let node = pending.pop(); node; node = pending.pop()) {
      if (node === source || seen.has(node)) continue;
      if (seen.size > MOST_REPLACED || !trail.isFree(node) || !isKind(node, ...POINTWISE)) return false;
      seen.add(node);
      pending.push(...node.inputs);
    }
    return seen.size > 0;
  });
}

/** What an activation may be spelled out in. */
const POINTWISE: readonly ForeignKind[] = ["relu", "sigmoid", "affine", "scale", "add", "other"];

function kindsBehind(trail: Trail, layer: LayerNode): readonly string[] {
  return trail.readersOf(layer).map(({ op }) => op.kind);
}

/** Operators that a norm or an activation is spelled out in, at most, and how many in a row. */
const MOST_REPLACED = 64;
const REPLACED_STEPS = 16;

/** What no norm or activation has inside. */
const OUTSIDE: readonly ForeignKind[] = ["conv", "linear", "add", "flatten"];

import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { compareOps, type Difference, difference, nameOf, nameOfKind } from "./differences.js";
import {
  type Constants,
  type ForeignGraph,
  type ForeignKind,
  type ForeignNode,
  hasBias,
  isKind,
} from "./foreign.js";
import { type BlockLandmarks, type StreamLandmarks, termsOf } from "./landmarks.js";
import { productOf } from "./products.js";

/** Which node of a foreign graph computes each layer. */
export interface Walk {
  /** Layers to the nodes that compute them; a folded layer's batch norm to the layer's own node. */
  readonly nodes: ReadonlyMap<string, ForeignNode>;
  /** Layers whose value the file does not hold, because the next layer absorbed them. */
  readonly absorbed: ReadonlySet<string>;
  /** Constants that are not the node's own: of a batch norm and the layer before that has a share in them. */
  readonly products: ReadonlyMap<string, Constants>;
  /** Layers that the file lacks, so that what reads them reads what they read. */
  readonly skipped: ReadonlySet<string>;
  readonly differences: readonly Difference[];
}

/** Kinds that may be taken for each other: a file that has one of them where another belongs has replaced it. */
const FAMILIES: readonly (readonly ForeignKind[])[] = [
  ["relu", "sigmoid", "other"],
  ["batchNorm", "trainingNorm", "instanceNorm", "layerNorm", "other"],
  ["maxPool", "avgPool", "globalAvgPool", "globalMaxPool", "other"],
];

/**
 * Follows the data through the layer graph and the foreign graph side by side. Where the way parts (streams, shortcuts)
 * the landmarks tell which is which; elsewhere a layer is what reads its input and is of its kind. What is missing,
 * replaced or added is noted, and the walk goes on behind it.
 */
export function walk(layers: LayerGraph, foreign: ForeignGraph, blocks: readonly BlockLandmarks[]): Walk {
  const found = new Map<string, ForeignNode>();
  const owners = new Map<ForeignNode, string>();
  const absorbed = new Set<string>();
  const skipped = new Set<string>();
  const products = new Map<string, Constants>();
  // Told at the end, when every node that a finding may name has its name.
  const findings: (() => readonly Difference[])[] = [];
  const lost = new Set<string>();
  const anchors = anchorsOf(layers, blocks);
  const placed = new Set(anchors.values());
  const names = blockNames(layers);
  const readers = successors(layers);
  const kindsBehind = (layer: LayerNode): readonly string[] =>
    (readers.get(layer.name) ?? []).map(({ op }) => op.kind);

  const consumersOf = (node: ForeignNode): readonly ForeignNode[] => foreign.consumers.get(node) ?? [];
  const free = (node: ForeignNode): boolean => !owners.has(node);
  const note = (layer: LayerNode, what: string | (() => string), expected: string): void => {
    findings.push(() => [difference(layer, typeof what === "string" ? what : what(), expected)]);
  };
  const accept = (layer: LayerNode, node: ForeignNode): void => {
    found.set(layer.name, node);
    owners.set(node, layer.name);
    findings.push(() => compareOps(layer, node));
  };
  const skip = (layer: LayerNode, node: ForeignNode): void => {
    found.set(layer.name, node);
    skipped.add(layer.name);
  };
  const named = (node: ForeignNode): string => owners.get(node) ?? nameOf(node);

  for (const layer of layers.nodes) {
    if (layer.op.kind === "input") accept(layer, foreign.input);
    else if (layer.op.kind === "add") matchSum(layer);
    else if (layer.op.kind === "scale") matchProduct(layer);
    else if (layer.op.kind === "batchNorm") matchBatchNorm(layer);
    else matchUnary(layer);
  }
  return { nodes: found, absorbed, products, skipped, differences: findings.flatMap((tell) => tell()) };

  function matchUnary(layer: LayerNode): void {
    const anchor = anchors.get(layer.name);
    const [input = ""] = layer.inputs;
    const source = found.get(input);
    if (anchor === "absent") {
      noteLost(layer);
      return;
    }
    if (anchor) {
      if (source && anchor.inputs[0] !== source) recoverInput(layer, anchor, source);
      accept(layer, anchor);
      return;
    }
    if (!source) return;
    const matches = consumersOf(source).filter((node) => node.op.kind === layer.op.kind && free(node));
    // Of several gates that read a stream, its own is the one that it is multiplied by.
    const product = matches.length > 1 ? anchors.get(productOfStream(layer)) : undefined;
    const own = product && product !== "absent" ? matches.find((node) => reaches(node, product)) : undefined;
    const [match] = own ? [own] : matches;
    if (match) accept(layer, match);
    else recover(layer, source);
  }

  /** Whether a gate's pool is what a product multiplies by. */
  function reaches(pool: ForeignNode, product: ForeignNode): boolean {
    let reached: readonly ForeignNode[] = [pool];
    for (let steps = 0; steps < GATE_STEPS; steps++) {
      if (reached.includes(product)) return true;
      reached = reached.flatMap((node) => (consumersOf(node).length > MOST_READERS ? [] : consumersOf(node)));
      if (reached.length > MOST_READERS) return false;
    }
    return false;
  }

  /** A landmark that does not read what it should: something stands between, or it reads another value. */
  function recoverInput(layer: LayerNode, anchor: ForeignNode, source: ForeignNode): void {
    const [input] = anchor.inputs;
    if (input && free(input) && input.inputs.includes(source))
      note(layer, `${nameOf(input)} before it`, "none");
    else note(layer, () => `${input ? named(input) : "nothing"} as its input`, layer.inputs[0] ?? "");
  }

  /** A stream that the block lacks is one finding, not one for each of its layers. */
  function noteLost(layer: LayerNode): void {
    const key = `${layer.block} ${layer.stream}`;
    if (lost.has(key) || layer.stream === undefined) return;
    lost.add(key);
    const block = blocks[names.indexOf(layer.block ?? "")];
    const depths = block ? [...block.streams.keys(), ...block.surplus.map(depthOf)].sort().join(", ") : "";
    note(
      layer,
      block ? `streams of depth ${depths}` : `${blocks.length} blocks with gates`,
      block ? `a stream of depth ${layer.stream}` : `${names.length}`,
    );
  }

  function recover(layer: LayerNode, source: ForeignNode): void {
    const unary = consumersOf(source).filter((node) => node.inputs.length === 1 && free(node));
    const following = kindsBehind(layer);
    for (const inserted of unary) {
      const match = consumersOf(inserted).find((node) => node.op.kind === layer.op.kind && free(node));
      if (!match || following.includes(inserted.op.kind)) continue;
      note(layer, `${nameOf(inserted)} before it`, "none");
      accept(layer, match);
      return;
    }
    const family = FAMILIES.find((kinds) => kinds.includes(layer.op.kind));
    const reads = consumersOf(source).filter(free).map(nameOf).join(" and ");
    const instead = family && (resultBefore(layer, source) ?? replacementOf(layer, source, family));
    const isOne = instead?.inputs.length === 1 && instead.inputs[0] === source;
    note(
      layer,
      instead && isOne ? nameOf(instead) : reads || "the end of the graph",
      nameOfKind(layer.op.kind),
    );
    if (instead) accept(layer, instead);
    else if (family) skip(layer, source);
  }

  /** One operator in a layer's place, wherever it leads. */
  function replacementOf(
    layer: LayerNode,
    source: ForeignNode,
    family: readonly ForeignKind[],
  ): ForeignNode | undefined {
    const following = kindsBehind(layer);
    return consumersOf(source).find(
      (node) =>
        node.inputs.length === 1 &&
        free(node) &&
        family.includes(node.op.kind) &&
        (isKind(node, "other") || !following.includes(node.op.kind)),
    );
  }

  /** What the next layer reads, where one operator or several have taken a layer's place. */
  function resultBefore(layer: LayerNode, source: ForeignNode): ForeignNode | undefined {
    const next = readers.get(layer.name) ?? [];
    const landmarks = next.map(({ name }) => anchors.get(name));
    const leads = (node: ForeignNode): boolean =>
      consumersOf(node).some(
        (reader) =>
          landmarks.includes(reader) || (free(reader) && next.some(({ op }) => op.kind === reader.op.kind)),
      );
    const isInside = (node: ForeignNode): boolean =>
      free(node) && !placed.has(node) && !isKind(node, ...OUTSIDE);
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

  function matchBatchNorm(layer: LayerNode): void {
    const [input = ""] = layer.inputs;
    const source = found.get(input);
    if (!source) return;
    const next = consumersOf(source).filter(free);
    // A factor on one of several ways on is no batch norm, where the convolution has its bias already.
    const isFolded = isKind(source, "conv") && hasBias(source) && next.length > 1;
    const norm = next.find((node) => isKind(node, "batchNorm") || (isKind(node, "affine") && !isFolded));
    if (norm) {
      if (isKind(source, "conv") && hasBias(source)) note(layer, "a bias before it", "none");
      accept(layer, norm);
      const product = isKind(source, "linear") && isKind(norm, "affine") && productOf(source, norm);
      if (!product) return;
      products.set(layer.name, product);
      products.set(input, { ...(product.weight ? { weight: product.weight } : {}) });
      absorbed.add(input);
    } else if (isKind(source, "linear") || (isKind(source, "conv") && source.constants.bias)) {
      found.set(layer.name, source);
      owners.set(source, layer.name);
      absorbed.add(input);
    } else recover(layer, source);
  }

  function matchProduct(layer: LayerNode): void {
    const [stream, gate] = layer.inputs.map((input) => found.get(input));
    const anchor = anchors.get(layer.name);
    if (anchor === "absent") {
      noteLost(layer);
      return;
    }
    const candidates = stream
      ? consumersOf(stream).filter((node) => isKind(node, "scale") && free(node))
      : [];
    const match = candidates.find((node) => gate && node.inputs.includes(gate)) ?? anchor ?? candidates[0];
    if (!match) {
      if (!stream) return;
      note(layer, "no product with a gate", nameOfKind("scale"));
      skip(layer, stream);
      return;
    }
    const strangers = match.inputs.filter((node) => node !== stream && node !== gate);
    if (strangers.length > 0 && stream)
      note(layer, () => `a product with ${strangers.map(named).join(" and ")}`, `with ${layer.inputs[1]}`);
    accept(layer, match);
  }

  function matchSum(layer: LayerNode): void {
    const anchor = anchors.get(layer.name);
    if (anchor === "absent") return;
    const terms = layer.inputs.map((input) => ({ input, node: found.get(input) }));
    const [first] = terms;
    const match = anchor ?? (first?.node && consumersOf(first.node).find((node) => isKind(node, "add")));
    if (!match) {
      if (!first?.node) return;
      note(layer, consumersOf(first.node).map(nameOf).join(" and "), nameOfKind("add"));
      skip(layer, first.node);
      return;
    }
    // Inner sums are terms of this one unless they are layers themselves.
    const parts = match.inputs.flatMap((node) => (owners.has(node) ? [node] : termsOf(node)));
    const missing = terms.filter(({ node }) => node && !parts.includes(node));
    const surplus = parts.filter((part) => !terms.some(({ node }) => node === part));
    const unexplained = surplus.length > terms.filter(({ node }) => !node).length;
    if (missing.length > 0 || unexplained)
      note(layer, () => `a sum of ${parts.map(named).join(", ")}`, `of ${layer.inputs.join(", ")}`);
    accept(layer, match);
  }
}

/** Layers that landmarks place, or know to be absent. */
function anchorsOf(
  layers: LayerGraph,
  blocks: readonly BlockLandmarks[],
): ReadonlyMap<string, ForeignNode | "absent"> {
  const anchors = new Map<string, ForeignNode | "absent">();
  const members = new Map<string, LayerNode[]>(blockNames(layers).map((name) => [name, []]));
  for (const layer of layers.nodes) members.get(layer.block ?? "")?.push(layer);
  blockNames(layers).forEach((name, index) => {
    const block = blocks[index];
    const place = (layer: string, node: ForeignNode | undefined): void => {
      anchors.set(layer, node ?? "absent");
    };
    place(`${name}.conv1.conv`, block?.conv1);
    place(`${name}.conv3.conv`, block?.conv3);
    if (block?.downsample) place(`${name}.downsample.conv`, block.downsample);
    place(`${name}.aggregate`, block?.aggregate);
    if (block?.sum) place(`${name}.add`, block.sum);
    const placed = new Map<number, number>();
    for (const { name: layer, stream: t, op } of members.get(name) ?? []) {
      if (t === undefined) continue;
      const stream = block?.streams.get(t);
      if (!stream) place(layer, undefined);
      else if (op.kind === "scale" && stream.product) place(layer, stream.product);
      else if (op.kind === "conv" && !layer.includes(".gate[")) {
        const count = placed.get(t) ?? 0;
        placed.set(t, count + 1);
        place(layer, stream.convs[count]);
      }
    }
  });
  return anchors;
}

/** Operators that a norm or an activation is spelled out in, at most, and how many in a row. */
const MOST_REPLACED = 64;
const REPLACED_STEPS = 16;

/** What no norm or activation has inside. */
const OUTSIDE: readonly ForeignKind[] = ["conv", "linear", "add", "flatten"];

/** From a gate's pool to the product: two convolutions, activations, and a norm. */
const GATE_STEPS = 8;

/** A gate's values have one reader each, or as many as a block has streams where one gate serves all. */
const MOST_READERS = 32;

/** The name of the product that a layer of a gate belongs to: `conv2.0.gate[1]`. */
function productOfStream({ name }: LayerNode): string {
  return /^.*\.gate\[\d+\]/.exec(name)?.[0] ?? "";
}

/** Paths of the residual blocks, in order. */
function blockNames({ nodes }: LayerGraph): readonly string[] {
  return [...new Set(nodes.flatMap(({ block }) => block ?? []))];
}

/** The layers that read each layer. */
function successors({ nodes }: LayerGraph): ReadonlyMap<string, readonly LayerNode[]> {
  const readers = new Map<string, LayerNode[]>();
  for (const node of nodes)
    for (const input of node.inputs) readers.set(input, [...(readers.get(input) ?? []), node]);
  return readers;
}

function depthOf({ convs }: StreamLandmarks): number {
  return convs.filter(({ op }) => op.kernel[0] > 1 || op.kernel[1] > 1).length;
}

import { scaleRows } from "../../arch/batch-norm.js";
import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { toReal } from "../../core/tensor-cast.js";
import type { StoredTensor } from "../formats/tfjs/model.js";
import { type Difference, nameOf, nameOfKind } from "./differences.js";
import { alignedBlocks, type BlockLandmarks, blockNames, depthOf, termsOf } from "./landmarks.js";
import { uniform } from "./operators/constants.js";
import { type Constants, type ForeignGraph, type ForeignNode, hasBias, isKind } from "./operators/foreign.js";
import {
  insertedBetween,
  isFlattening,
  leadsOn,
  passInserted,
  recover,
  recoverInput,
  startTrail,
  type Trail,
} from "./trail.js";

/** Which node of a foreign graph computes each layer. */
export interface Walk {
  /**
   * By layer, the node that computes it. A folded batch norm has the node of its convolution or linear layer.
   */
  readonly nodes: ReadonlyMap<string, ForeignNode>;
  /** Layers whose value is not in the file, because the next layer absorbed them. */
  readonly absorbed: ReadonlySet<string>;
  /**
   * By layer, constants that differ from the node's own, because those of a batch norm and the layer before it were
   * multiplied.
   */
  readonly products: ReadonlyMap<string, Constants>;
  /** By batch norm with such products, the factor that the file applies after the linear layer. */
  readonly factors: ReadonlyMap<string, StoredTensor>;
  /** Layers whose value is not in the file although their constants are. */
  readonly unnamed: ReadonlySet<string>;
  /** By layer, the last of the operators inserted after it, which its readers read. */
  readonly afterInserted: ReadonlyMap<string, ForeignNode>;
  /** Layers that the file lacks. Their readers read the input of the missing layer. */
  readonly skipped: ReadonlySet<string>;
  readonly differences: readonly Difference[];
}

/**
 * Follows the data through the layer graph and the file's graph in parallel. At branches (streams, shortcuts) the
 * landmarks decide which is which; elsewhere a layer is the reader of its input that has its kind. Missing, replaced
 * and added operators are noted, and the walk continues after them.
 */
export function walk(layers: LayerGraph, foreign: ForeignGraph, blocks: readonly BlockLandmarks[]): Walk {
  const trail = startTrail(layers, foreign, blocks);
  const aligned = alignedBlocks(layers, blocks);
  const noteLost = lostStreams(trail, aligned);
  const isLost = lostBlocks(layers, aligned);
  // Operators before the network are findings of their own.
  const isOtherInput = (foreign.preprocess?.unknown.length ?? 0) > 0;
  for (const layer of layers.nodes) {
    if (layer.op.kind === "input") trail.accept(layer, foreign.input);
    else if (isLost(layer)) skipBlock(trail, layer);
    else if (layer.op.kind === "add") matchSum(trail, layer);
    else if (trail.anchors.get(layer.name) === "absent") noteLost(layer);
    else if (layer.op.kind === "scale") matchProduct(trail, layer);
    else if (layer.op.kind === "batchNorm") matchBatchNorm(trail, layer);
    else if (!isReplacedHead(trail, layer, layers.outputs)) matchUnary(trail, layer, isOtherInput);
    passInserted(trail, layer);
  }
  const { found, absorbed, products, factors, unnamed, afterInserted, skipped } = trail;
  return {
    nodes: found,
    absorbed,
    products,
    factors,
    unnamed,
    afterInserted,
    skipped,
    differences: trail.findings(),
  };
}

function matchUnary(trail: Trail, layer: LayerNode, isOtherInput: boolean): void {
  const anchor = placed(trail, layer.name);
  const [input = ""] = layer.inputs;
  const source = trail.sourceOf(input);
  if (anchor) {
    if (source && anchor.inputs[0] !== source) recoverInput(trail, layer, anchor, source);
    trail.accept(layer, anchor);
    return;
  }
  if (!source) return;
  const matches = trail
    .consumersOf(source)
    .filter((node) => node.op.kind === layer.op.kind && trail.isFree(node));
  // If several gates read a stream, choose the one whose product multiplies it.
  const product = matches.length > 1 ? placed(trail, productOfStream(trail, layer)) : undefined;
  const own = product && matches.find((node) => reaches(trail, node, product));
  const [match] = own ? [own] : matches;
  // What replaced a pool may have flattened it.
  if (
    !matches[0] &&
    layer.op.kind === "flatten" &&
    isOther(source) &&
    leadsOn(trail, trail.readersOf(layer), source)
  ) {
    trail.skip(layer, source);
    return;
  }
  const instead =
    layer.op.kind === "flatten" &&
    trail.consumersOf(source).find((node) => isFlattening(node) && trail.isFree(node));
  if (match) trail.accept(layer, match);
  else if (instead) {
    // A missing global pool is the finding, or an unknown operator after which axes are a guess; the flattening after it
    // must not be a second one, although it is an unknown operator.
    const isConsequence =
      source.form.rank === "map" || (source.form.isGuess && (isOtherInput || trail.findings().length > 0));
    if (!isConsequence) trail.note(layer, nameOf(instead), nameOfKind("flatten"));
    trail.accept(layer, instead);
  } else recover(trail, layer, source);
}

/**
 * Whether a layer is the classifier of a network that is used without it, and the file has a linear layer of another size in
 * its place, such as a projection: an operator between the embedding and an output.
 */
function isReplacedHead(
  trail: Trail,
  { name, op, inputs: [input = ""] }: LayerNode,
  { logits, evaluation }: LayerGraph["outputs"],
): boolean {
  const source = trail.sourceOf(input);
  if (name !== logits || evaluation !== "features" || op.kind !== "linear" || !source) return false;
  const linear = trail.consumersOf(source).filter((node) => isKind(node, "linear"));
  return linear.length > 0 && linear.every((node) => node.op.outFeatures !== op.outFeatures);
}

function isOther(node: ForeignNode): boolean {
  return isKind(node, "other", "avgPool", "maxPool");
}

/** The node that a landmark says a layer is. */
function placed({ anchors }: Trail, layer: string): ForeignNode | undefined {
  const anchor = anchors.get(layer);
  return anchor === "absent" ? undefined : anchor;
}

/** Whether a gate's pool is what a product multiplies by. */
function reaches({ consumersOf }: Trail, pool: ForeignNode, product: ForeignNode): boolean {
  let reached: readonly ForeignNode[] = [pool];
  for (let steps = 0; steps < GATE_STEPS; steps++) {
    if (reached.includes(product)) return true;
    reached = reached.flatMap((node) => (consumersOf(node).length > MAX_READERS ? [] : consumersOf(node)));
    if (reached.length > MAX_READERS) return false;
  }
  return false;
}

function matchBatchNorm(trail: Trail, layer: LayerNode): void {
  const [input = ""] = layer.inputs;
  const source = trail.sourceOf(input);
  if (!source) return;
  const next = trail.consumersOf(source).filter(trail.isFree);
  // A factor on one of several branches is not a batch norm if the layer already has a bias, or if no other layer has
  // one.
  const isFolded =
    isKind(source, "conv", "linear") &&
    hasBias(source) &&
    (next.length > 1 || (isKind(source, "conv") && trail.foldsMost));
  const norm = next.find((node) => isKind(node, "batchNorm") || (isKind(node, "affine") && !isFolded));
  if (norm) {
    const steps = isKind(norm, "affine") ? stepsOf(trail, norm) : [];
    const isShifted = isKind(source, "conv") && hasBias(source);
    const whole =
      steps.length > 0 &&
      (steps.length > 1 || isShifted) &&
      wholeOf(trail, isShifted ? [source, ...steps] : steps);
    if (whole) {
      trail.accept(layer, steps.at(-1) ?? norm);
      trail.products.set(layer.name, whole);
      if (isShifted) trail.unnamed.add(input);
      return;
    }
    if (isShifted) trail.note(layer, "a bias before it", "none");
    trail.accept(layer, norm);
    const product =
      isKind(source, "linear") && isKind(norm, "affine") && productOf(source, norm, trail.isHalf);
    if (!product || !norm.constants.weight) return;
    trail.products.set(layer.name, product);
    trail.factors.set(layer.name, norm.constants.weight);
    trail.absorbed.add(input);
  } else if (isKind(source, "linear") || (isKind(source, "conv") && isFoldedInto(trail, source, next))) {
    trail.merge(layer, source);
    trail.absorbed.add(input);
  } else if (isKind(source, "other") && trail.foldsAll && !trail.skipped.has(input) && !next.some(isNorm)) {
    // An operator that replaced a convolution may have the batch norm folded in as well.
    trail.merge(layer, source);
    trail.absorbed.add(input);
  } else recover(trail, layer, source);
}

/** A batch norm as it is defined, in several products and sums: (x − μ) / σ · γ + β. */
function stepsOf({ consumersOf, isFree, outputs }: Trail, first: ForeignNode): readonly ForeignNode[] {
  const steps = [first];
  for (let last = first; steps.length < MAX_STEPS_OF_NORM && !outputs.includes(last); ) {
    const [only, ...others] = consumersOf(last);
    // A product with one number is an operator of its own.
    const isStep = only && isKind(only, "affine") && others.length === 0 && isFree(only) && !isUniform(only);
    if (!isStep) break;
    steps.push(only);
    last = only;
  }
  return steps;
}

const MAX_STEPS_OF_NORM = 4;

function isUniform({ constants }: ForeignNode): boolean {
  return Object.values(constants).every((tensor) => uniform(tensor) !== undefined);
}

/** Products and sums one after another as one product and one sum; undefined if numbers may overflow on the way. */
function wholeOf({ isHalf }: Trail, steps: readonly ForeignNode[]): Constants | undefined {
  const { channels = 0 } = steps[0]?.form ?? {};
  const [scale, shift] = [new Float64Array(channels).fill(1), new Float64Array(channels)];
  for (const { op, constants } of steps) {
    const [factors, terms] = [op.kind === "affine" ? constants.weight : undefined, constants.bias].map(
      (tensor) => tensor && toReal(tensor, "constant").data,
    );
    for (const tensor of [factors, terms])
      if (tensor && (tensor.length !== channels || tensor.some((value) => !(Math.abs(value) <= MAX_STEP))))
        return undefined;
    for (let at = 0; at < channels; at++) {
      const factor = factors?.[at] ?? 1;
      scale[at] = (scale[at] ?? 0) * factor;
      shift[at] = (shift[at] ?? 0) * factor + (terms?.[at] ?? 0);
    }
  }
  const vector = (data: Float64Array): StoredTensor => ({
    dtype: "float32",
    shape: [channels],
    data: Float32Array.from(data),
  });
  return isHalf ? undefined : { weight: vector(scale), bias: vector(shift) };
}

/** Larger than the factors and means of trained norms are; its square times any activation is finite. */
const MAX_STEP = 2 ** 16;

function isNorm(node: ForeignNode): boolean {
  return isKind(node, "trainingNorm", "instanceNorm", "layerNorm");
}

/**
 * Whether a convolution has the following batch norm folded into its constants: a bias shows it, or the absence of one
 * if all are folded and no other norm is in its place. Exporters omit a bias of zeros, which untrained batch norms
 * give.
 */
function isFoldedInto(
  { foldsAll }: Trail,
  { constants }: ForeignNode<"conv">,
  next: readonly ForeignNode[],
): boolean {
  if (constants.bias) return true;
  return foldsAll && !next.some(isNorm);
}

function matchProduct(trail: Trail, layer: LayerNode): void {
  const [stream, gate] = layer.inputs.map(trail.sourceOf);
  const candidates = stream
    ? trail.consumersOf(stream).filter((node) => isKind(node, "scale") && trail.isFree(node))
    : [];
  const match =
    candidates.find((node) => gate && node.inputs.includes(gate)) ??
    placed(trail, layer.name) ??
    candidates[0];
  if (!match) {
    if (!stream) return;
    trail.note(layer, "no product with a gate", nameOfKind("scale"));
    trail.skip(layer, stream);
    return;
  }
  if (!isKind(match, "scale")) trail.note(layer, nameOf(match), nameOfKind("scale"));
  const strangers = match.inputs.filter((node) => node !== stream && node !== gate);
  if (strangers.length > 0 && stream)
    trail.note(
      layer,
      () => `a product with ${strangers.map(trail.nameOf).join(" and ")}`,
      "with the stream's own gate",
    );
  trail.accept(layer, match);
}

function matchSum(trail: Trail, layer: LayerNode): void {
  if (trail.anchors.get(layer.name) === "absent") return;
  const terms = layer.inputs.map((input) => ({ input, node: trail.sourceOf(input) }));
  const [first] = terms;
  const match =
    placed(trail, layer.name) ??
    (first?.node && trail.consumersOf(first.node).find((node) => isKind(node, "add")));
  if (!match) {
    if (!first?.node) return;
    trail.note(layer, trail.consumersOf(first.node).map(nameOf).join(" and "), nameOfKind("add"));
    trail.skip(layer, first.node);
    return;
  }
  const instead = isKind(match, "add") ? undefined : match;
  if (instead && isKind(instead, "scale"))
    trail.note(
      layer,
      () => `a product of ${instead.inputs.map(trail.nameOf).join(" and ")}`,
      nameOfKind("add"),
    );
  else if (instead && instead.inputs.length > 1) trail.note(layer, nameOf(instead), nameOfKind("add"));
  else if (instead) trail.note(layer, chainOf(instead).map(nameOf).join(" and "), nameOfKind("add"));
  // Nested sums are flattened unless they are layers themselves.
  const isTerm = (node: ForeignNode): boolean => terms.some((term) => term.node === node);
  const parts = match.inputs.flatMap((node) =>
    trail.isFree(node) && !isTerm(node) ? termsOf(node) : [node],
  );
  const missing = terms.filter(({ node }) => node && !parts.includes(node));
  const surplus = parts.filter((part) => !terms.some(({ node }) => node === part));
  const unexplained = surplus.length > terms.filter(({ node }) => !node).length;
  const [lost, stranger] = missing.length === 1 && surplus.length === 1 ? [missing[0], surplus[0]] : [];
  const inserted = lost?.node && stranger && insertedBetween(trail, lost.node, stranger);
  if (!instead && inserted) trail.noteInserted(layer, inserted, "before");
  else if (!instead && (missing.length > 0 || unexplained))
    trail.note(
      layer,
      () => `a sum of ${parts.map(trail.nameOf).join(", ")}`,
      `of ${layer.inputs.join(", ")}`,
    );
  trail.accept(layer, match);
}

/** A node and those of one input before it, in the order of computation, from one of several inputs. */
function chainOf(last: ForeignNode): readonly ForeignNode[] {
  const chain = [last];
  for (let node = last; node.inputs.length === 1 && chain.length < MAX_CHAIN; chain.unshift(node))
    node = node.inputs[0] ?? node;
  return chain;
}

const MAX_CHAIN = 4;

/** Whether a layer is in a block that the file lacks, unless it lacks most of them. */
function lostBlocks(
  layers: LayerGraph,
  aligned: ReadonlyMap<string, BlockLandmarks>,
): (layer: LayerNode) => boolean {
  const lost = new Set(blockNames(layers).filter((name) => !aligned.has(name)));
  return ({ block }) => block !== undefined && lost.size <= aligned.size && lost.has(block);
}

/** The readers of a missing block read what it would read. */
function skipBlock(trail: Trail, layer: LayerNode): void {
  const [input = ""] = layer.inputs;
  const source = trail.sourceOf(input);
  if (source) trail.skip(layer, source);
  if (layer.name === layer.block) trail.note(layer, "no streams with gates", "a block of streams");
}

/** Notes a missing stream once, instead of once for each of its layers. */
function lostStreams(trail: Trail, aligned: ReadonlyMap<string, BlockLandmarks>): (layer: LayerNode) => void {
  const lost = new Set<string>();
  return (layer) => {
    const key = `${layer.block} ${layer.stream}`;
    if (lost.has(key) || layer.stream === undefined) return;
    lost.add(key);
    const block = aligned.get(layer.block ?? "");
    const depths = block ? [...block.streams.keys(), ...block.surplus.map(depthOf)].sort().join(", ") : "";
    trail.note(
      layer,
      block ? `streams of depth ${depths}` : "no streams with gates",
      `a stream of depth ${layer.stream}`,
    );
  };
}

/** Maximum number of steps from a gate's pool to its product: two convolutions, activations, and a norm. */
const GATE_STEPS = 8;

/** Maximum number of readers of a gate's value: one for each stream of a block if all share one gate. */
const MAX_READERS = 32;

/** The name of the product that a layer of a gate leads to: `conv2.0.gate[1]`; empty for a layer outside of gates. */
function productOfStream(trail: Trail, layer: LayerNode): string {
  let at: LayerNode | undefined = layer;
  while (at?.part === "gate" && at.op.kind !== "scale") [at] = trail.readersOf(at);
  return at?.part === "gate" ? at.name : "";
}

/**
 * A linear layer and the batch norm after it, written as a matrix product, a product and a sum, as constant folding
 * leaves it: W · s and t of (W·x) · s + t.
 */
function productOf(
  { constants: { weight, bias } }: ForeignNode<"linear">,
  { constants: { weight: scale, bias: shift } }: ForeignNode<"affine">,
  isHalf: boolean,
): Constants | undefined {
  if (bias || !weight || !scale || !shift) return undefined;
  const [rows, factors] = [toReal(weight, "weight").data, toReal(scale, "scale").data];
  // Otherwise the product with the weight alone may overflow, which nothing judges.
  const most = MAX_WEIGHT[isHalf ? "half" : "single"];
  if (rows.some((value) => !(Math.abs(value) <= most))) return undefined;
  const data = scaleRows(rows, factors, new Float32Array(rows.length));
  return { weight: { dtype: "float32", shape: weight.shape, data }, bias: shift };
}

/** Larger than trained weights are; times any activation below the largest number of the type. */
const MAX_WEIGHT = { single: 2 ** 32, half: 2 ** 6 };

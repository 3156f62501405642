import type { LayerGraph } from "../../arch/index.js";
import { type ForeignGraph, type ForeignNode, isKind, type NormFloor } from "./foreign.js";
import type { Walk } from "./walk.js";

/** What a file may do to a layer before it gives it as an output, and still be said to give that layer. */
export type OutputOperation =
  | { readonly kind: "l2Normalize"; readonly floors: readonly NormFloor[] }
  | { readonly kind: "softmax" }
  | { readonly kind: "sigmoid" }
  | { readonly kind: "flatten" };

/** A file's output: the layer that it is, and what the file does to it afterwards. */
export interface MatchedOutput {
  /** The file's name of it. */
  readonly name: string;
  /** Where several layers lead to the output, the last of them. */
  readonly layer: string;
  /** Operators between the layer and the output, such as a division by the L2 norm. */
  readonly tail: readonly string[];
  /** The tail by what it means; undefined if some of it has no meaning here. */
  readonly operations: readonly OutputOperation[] | undefined;
}

/** What comes after a network's result has none of these: behind them, the way to the result was lost. */
const INNER: ReadonlySet<string> = new Set(["conv", "linear"]);

/**
 * The layer behind an output: its own, or the nearest that it is computed from. An output that layers with weights part
 * from all that was found stands for the network's result, which then is missing. Undefined if no layer leads to it.
 */
export function matchOutput(
  graph: LayerGraph,
  { nodes: foreign }: ForeignGraph,
  { nodes, skipped, absorbed }: Walk,
  { name, node: output, reading }: ForeignGraph["outputs"][number],
): MatchedOutput | undefined {
  const layers = new Map<ForeignNode, string>();
  const { features, logits, probabilities, evaluation } = graph.outputs;
  const evaluated = graph.outputs[evaluation] ?? features;
  for (const { name: layer } of graph.nodes) {
    const node = nodes.get(layer);
    if (!node || absorbed.has(layer)) continue;
    const earlier = layers.get(node);
    // A file that lacks an activation at its end still means to give the layer that the activation would be.
    const isResult = earlier !== undefined && [features, logits, probabilities].includes(earlier);
    if (!skipped.has(layer) || !isResult) layers.set(node, layer);
  }
  const behind = output && behindOutput(output, layers);
  if (!behind || behind.ends.size === 0) return undefined;
  const order = graph.nodes.map(({ name: layer }) => layer);
  const nearest = [...behind.ends].sort((a, b) => order.indexOf(b) - order.indexOf(a))[0] ?? evaluated;
  const tail = foreign.filter((node) => behind.between.has(node));
  const isLost = tail.some(({ op }) => INNER.has(op.kind));
  const isQuantised = reading?.quantised !== undefined;
  return {
    name,
    layer: isLost ? evaluated : nearest,
    tail: [...tail.map(nameOfOperator), ...(isQuantised ? ["QuantizeLinear"] : [])],
    operations: isLost || isQuantised || behind.ends.size > 1 ? undefined : meaningOf(tail),
  };
}

/** The nodes between an output and the layers that lead to it. */
function behindOutput(
  output: ForeignNode,
  layers: ReadonlyMap<ForeignNode, string>,
): { readonly between: ReadonlySet<ForeignNode>; readonly ends: ReadonlySet<string> } {
  const between = new Set<ForeignNode>();
  const ends = new Set<string>();
  const pending = [output];
  for (let node = pending.pop(); node; node = pending.pop()) {
    const layer = layers.get(node);
    if (layer !== undefined) ends.add(layer);
    else if (!between.has(node)) {
      between.add(node);
      pending.push(...node.inputs);
    }
  }
  return { between, ends };
}

/** Operators of one input in a row that all have a meaning here. */
function meaningOf(tail: readonly ForeignNode[]): readonly OutputOperation[] | undefined {
  const operations = tail.map(operationOf);
  const known = operations.flatMap((operation) => operation ?? []);
  return known.length === tail.length ? known : undefined;
}

function operationOf(node: ForeignNode): OutputOperation | undefined {
  // A product or sum that the operator has taken up is no part of its meaning.
  if (Object.keys(node.constants).length > 0) return undefined;
  const { op } = node;
  if (isKind(node, "l2Normalize")) return { kind: "l2Normalize", floors: node.op.floors };
  if (op.kind === "softmax" || op.kind === "sigmoid" || op.kind === "flatten") return { kind: op.kind };
  return undefined;
}

function nameOfOperator(node: ForeignNode): string {
  return node.op.kind === "other" ? node.op.opType : node.op.kind;
}

import type { LayerGraph, LayerNode, Op, ParameterRole } from "../../arch/graph.js";

/** The operations whose weights can absorb a batch norm: each output channel has weights of its own. */
type Foldable = LayerNode<Op<"conv" | "linear">>;

/**
 * The same network with every batch norm merged into the convolution or linear layer before it, where that layer feeds
 * nothing else. The merged node stands where the batch norm stood and has its name, because it computes its output;
 * it has a bias, the layer's own parameters, and the batch norm's under `foldedBatchNorm`. `nodeWeights` does the
 * arithmetic. The layer's own output no longer exists: aliases of it are dropped.
 *
 * A layer that is one of the network's results, or a gate vector, keeps its output and is not folded.
 */
export function foldBatchNorm(graph: LayerGraph): LayerGraph {
  const consumers = countConsumers(graph);
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const foldedInto = new Map<string, LayerNode>();
  const absorbed = new Set<string>();
  for (const norm of graph.nodes) {
    const layer = layers.get(norm.inputs[0] ?? "");
    if (norm.op.kind !== "batchNorm" || !layer || !isFoldable(layer) || consumers.get(layer.name) !== 1)
      continue;
    foldedInto.set(norm.name, merge(layer, norm, norm.op.epsilon));
    absorbed.add(layer.name);
  }
  return {
    ...graph,
    nodes: graph.nodes
      .filter(({ name }) => !absorbed.has(name))
      .map((node) => foldedInto.get(node.name) ?? node),
    aliases: new Map([...graph.aliases].filter(([, layer]) => !absorbed.has(layer))),
  };
}

function merge(layer: Foldable, norm: LayerNode, epsilon: number): LayerNode {
  return {
    ...norm,
    op: layer.op.kind === "conv" ? { ...layer.op, bias: true } : layer.op,
    inputs: layer.inputs,
    parameters: layer.parameters,
    foldedBatchNorm: {
      from: layer.name,
      epsilon,
      // A batch norm's node always has all four roles.
      parameters: norm.parameters as Record<ParameterRole, string>,
    },
  };
}

/** How often each layer's output is needed; a result of the network or a gate vector counts as a use. */
function countConsumers(graph: LayerGraph): ReadonlyMap<string, number> {
  const { features, logits, probabilities } = graph.outputs;
  const uses = [
    ...graph.nodes.flatMap(({ inputs }) => inputs),
    ...graph.gates.map(({ layer }) => layer),
    ...[features, logits, probabilities].filter((name) => name !== undefined),
  ];
  const counts = new Map<string, number>();
  for (const name of uses) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function isFoldable(node: LayerNode): node is Foldable {
  return node.op.kind === "conv" || node.op.kind === "linear";
}

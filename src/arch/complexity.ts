import { elementCount, type Shape } from "../tensor.js";
import type { LayerGraph, LayerNode } from "./graph.js";
import { outputShapes } from "./shapes.js";

/**
 * Multiply-adds of one forward pass over images [batch, 3, height, width] to the network's
 * evaluation output: the embedding, or the probabilities of an attribute model.
 *
 * Counted as `torchreid.utils.compute_model_complexity` counts, which is how the papers' tables were made: convolutions
 * and linear layers only, a bias as one more per output element (divided by the groups), the gate once per stream.
 */
export function multiplyAdds(graph: LayerGraph, images: Shape): number {
  const shapes = outputShapes(graph, images);
  const needed = ancestors(graph, graph.outputs[graph.outputs.evaluation] ?? graph.outputs.features);
  return graph.nodes
    .filter((node) => needed.has(node.name))
    .reduce((sum, node) => sum + layerMultiplyAdds(node, shapes.get(node.name) ?? []), 0);
}

/** A layer's share of them, for an output of this shape. */
export function layerMultiplyAdds({ op }: LayerNode, output: Shape): number {
  if (op.kind === "conv") {
    const perElement = op.kernel[0] * op.kernel[1] * op.inChannels + (op.bias ? 1 : 0);
    return Math.trunc((perElement * elementCount(output)) / op.groups);
  }
  if (op.kind === "linear") return (op.inFeatures + 1) * elementCount(output);
  return 0;
}

/** Names of the layers that the given ones are computed from, themselves included. */
export function ancestors(graph: LayerGraph, ...names: readonly string[]): ReadonlySet<string> {
  const needed = new Set(names);
  for (const node of graph.nodes.toReversed())
    if (needed.has(node.name)) for (const input of node.inputs) needed.add(input);
  return needed;
}

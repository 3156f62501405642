import type { LayerGraph } from "../../arch/index.js";

/**
 * The layers that a candidate computes only as part of the batch norm after them: what the batch norm reads is nowhere
 * in the candidate, and its own value is a convolution's or a matrix product's. A layer that is merely missing is not
 * folded.
 *
 * @param isComputed whether the candidate has a value of this layer's name
 * @param isProduct whether it computes that value by a convolution or matrix product
 */
export function foldedLayers(
  graph: LayerGraph,
  isComputed: (layer: string) => boolean,
  isProduct: (layer: string) => boolean,
): ReadonlySet<string> {
  return new Set(
    graph.nodes.flatMap(({ name, op, inputs: [source] }) =>
      op.kind === "batchNorm" && source !== undefined && !isComputed(source) && isProduct(name)
        ? [source]
        : [],
    ),
  );
}

import type { LayerGraph } from "../../arch/index.js";
import type { StateDict } from "../../core/tensor.js";
import { evaluate } from "../reference/evaluate.js";
import type { Backend, LayerOutput } from "./backend.js";

/**
 * The network as its definition computes it, in float64. A tensor's memory is used again once the next is asked for.
 */
export function referenceBackend(graph: LayerGraph, stateDict: StateDict): Backend {
  return {
    name: "reference",
    layers: graph.nodes.map(({ name }) => name),
    network: stateDict,
    async *run(images): AsyncGenerator<LayerOutput> {
      yield* evaluate(graph, stateDict, images, { reuseMemory: true });
    },
  };
}

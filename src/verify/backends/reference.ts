import { type LayerGraph, outputShapes } from "../../arch/index.js";
import { elementCount, type StateDict, type Tensor } from "../../core/tensor.js";
import { type EvaluatedLayer, evaluate } from "../reference/evaluate.js";
import type { Backend, LayerOutput } from "./backend.js";

/** Maximum bytes of a run that is kept: of a small network, or small images. */
const KEPT_BYTES = 48 * 2 ** 20;

/**
 * The last run of a network that was small enough to keep. Suites verify many files of one network on the same images.
 */
interface KeptRun {
  readonly graph: LayerGraph;
  readonly images: Tensor<"float32">;
  readonly layers: readonly EvaluatedLayer[];
}

const keptRuns = new WeakMap<StateDict, KeptRun>();

/**
 * The network as defined, in float64. Read a tensor before asking for the next, and do not modify it: its memory is
 * reused.
 */
export function referenceBackend(graph: LayerGraph, stateDict: StateDict): Backend {
  return {
    name: "reference",
    layers: graph.nodes.map(({ name }) => name),
    network: stateDict,
    async *run(images): AsyncGenerator<LayerOutput> {
      const kept = keptRuns.get(stateDict);
      if (kept && kept.graph === graph && isSame(kept.images, images)) {
        yield* kept.layers;
        return;
      }
      if (!isSmall(graph, images)) {
        yield* evaluate(graph, stateDict, images, { reuseMemory: true });
        return;
      }
      const layers: EvaluatedLayer[] = [];
      for (const layer of evaluate(graph, stateDict, images)) {
        layers.push(layer);
        yield layer;
      }
      keptRuns.set(stateDict, { graph, images: { ...images, data: images.data.slice() }, layers });
    },
  };
}

function isSmall(
  graph: LayerGraph,
  { shape: [count = 0, channels = 0, height = 0, width = 0], ...images }: Tensor<"float32">,
): boolean {
  // Invalid images are refused by whoever computes them.
  if (channels !== 3 || images.data.length !== count * 3 * height * width) return false;
  const shapes = outputShapes(graph, [count, channels, height, width]);
  return [...shapes.values()].reduce((bytes, shape) => bytes + 8 * elementCount(shape), 0) <= KEPT_BYTES;
}

function isSame(a: Tensor<"float32">, b: Tensor<"float32">): boolean {
  return (
    a.shape.join() === b.shape.join() &&
    a.data.length === b.data.length &&
    a.data.every((value, index) => Object.is(value, b.data[index]))
  );
}

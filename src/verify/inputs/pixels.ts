import type { LayerGraph } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/preprocess.js";
import type { Tensor } from "../../core/tensor.js";
import type { Backend } from "../backends/backend.js";
import type { Candidate } from "../candidate/candidate.js";
import { pixelsOf } from "./images.js";

/**
 * A model that normalises images itself: it is given the raw pixels of the images that the reference is given
 * normalised, and what it makes of them is a layer to compare, the network's input.
 */
export function feedPixels(candidate: Candidate, order: PixelOrder | undefined): Candidate {
  if (order === undefined) return candidate;
  const { backend, plain } = candidate;
  return {
    ...candidate,
    pixels: order,
    backend: { ...backend, run: (images) => backend.run(pixelsOf(images, order)) },
    ...(plain
      ? {
          plain: {
            ...plain,
            load(options) {
              const { run, release } = plain.load(options);
              return { run: (images) => run(pixelsOf(images, order)), release };
            },
          },
        }
      : {}),
  };
}

/** A recording holds its images apart from its layers; here they are the first of these. */
export function withImages(backend: Backend, graph: LayerGraph): Backend {
  const input = graph.nodes.find(({ op }) => op.kind === "input")?.name;
  if (input === undefined || backend.layers.includes(input)) return backend;
  return {
    ...backend,
    layers: [input, ...backend.layers],
    async *run(images: Tensor<"float32">) {
      yield { name: input, tensor: images };
      yield* backend.run(images);
    },
  };
}

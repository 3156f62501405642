import { expand } from "../../../src/arch/expand.js";
import type { LayerGraph } from "../../../src/arch/graph.js";
import { parametersOf } from "../../../src/arch/parameters.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { elementCount } from "../../../src/core/tensor.js";
import { randomNumbers } from "./random.js";

/** A network small enough for a test, with two streams, both kinds of norm, a transition and an embedding. */
export const SMALL_NETWORK: LayerGraph = expand({
  dialect: "osnet",
  stem: { channels: 6, norm: "instance" },
  stages: [
    {
      blocks: [{ inChannels: 6, outChannels: 20, streams: 2, reduction: 4, instanceNorm: "inside" }],
      transition: true,
    },
  ],
  gate: { reduction: 2, activation: "sigmoid", layerNorm: true },
  pooling: "avg",
  embedding: [7],
  head: { classes: 3, loss: "softmax" },
});

/** Random float32 parameters of a network: weights that neither explode nor vanish, variances near one. */
export function randomParameters(graph: LayerGraph, seed: number): StateDict {
  const next = randomNumbers(seed);
  return new Map(
    parametersOf(graph)
      .filter(({ dtype }) => dtype === "float32")
      .map(({ path, shape }) => {
        const size = elementCount(shape);
        const spread = shape.length > 1 ? Math.sqrt((3 * (shape[0] ?? 1)) / size) : 1;
        const offset = path.endsWith("running_var") ? 1.5 : 0;
        const data = new Float32Array(size).map(() => offset + spread * next());
        return [path, { dtype: "float32", shape, data }];
      }),
  );
}

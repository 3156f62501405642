import { bench, describe } from "vitest";
import { expand } from "../src/arch/expand.js";
import { outputShapes } from "../src/arch/shapes.js";
import { variant } from "../src/arch/variants.js";
import type { Tensor } from "../src/core/tensor.js";
import { scalarEngine } from "../src/verify/reference/engine.js";
import { evaluate } from "../src/verify/reference/evaluate.js";
import { evaluateLayer, float64Parameters, Workspace } from "../src/verify/reference/evaluate-layer.js";
import { vectorEngine } from "../src/verify/reference/vector-engine.js";
import { randomParameters } from "../test/verify/reference/network.js";
import { randomTensor } from "../test/verify/reference/random.js";

/**
 * The float64 reference on osnet_x1_0, 256×128, a batch of two: 2 · 979 M multiply-adds, 62 M activations (497 MB).
 * `npx vitest bench --run bench/reference.bench.ts`; the column to read is `min`, in milliseconds.
 */
const graph = expand(variant("osnet_x1_0"));
const parameters = randomParameters(graph, 1);
const images = randomTensor(2, [2, 3, 256, 128]);
const options = { iterations: 5, time: 0, warmupIterations: 0, warmupTime: 0 };

describe("all layers of osnet_x1_0, batch 2", () => {
  for (const [name, engine] of Object.entries({ vectorEngine, scalarEngine }))
    for (const reuseMemory of [true, false])
      bench(
        `${name}, ${reuseMemory ? "memory reused" : "tensors copied"}`,
        () => {
          for (const _ of evaluate(graph, parameters, images, { engine, reuseMemory }));
        },
        options,
      );

  const shapes = outputShapes(graph, images.shape);
  const source = float64Parameters(parameters);
  const single = new Map<string, Tensor<"float32">>();
  bench(
    "layer by layer from float32 inputs",
    () => {
      const workspace = new Workspace();
      for (const node of graph.nodes) {
        const inputs =
          node.op.kind === "input" ? [images] : node.inputs.map((name) => single.get(name) ?? images);
        evaluateLayer(node, inputs, source, shapes.get(node.name) ?? [], workspace);
      }
    },
    {
      ...options,
      setup: () => {
        for (const { name, tensor } of evaluate(graph, parameters, images, { reuseMemory: true }))
          single.set(name, { dtype: "float32", shape: tensor.shape, data: Float32Array.from(tensor.data) });
      },
    },
  );
});

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-wasm";
import { loadGraphModel } from "@tensorflow/tfjs-converter";
import { loadLayersModel } from "@tensorflow/tfjs-layers";
import { bench, describe } from "vitest";
import { expand, type LayerGraph, variant } from "../src/arch/index.js";
import { lowerToTfjs, type TfjsOptions } from "../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../src/convert/export/tfjs-layers-model.js";
import { encodeTfjs } from "../src/convert/formats/tfjs/codec.js";
import type { TfjsFiles, TfjsGraphModel } from "../src/convert/formats/tfjs/model.js";
import { randomParameters } from "../test/verify/reference/network.js";
import { channelsFirst, explicitlyPadded, prePadded } from "./layouts/padding.js";
import { centeredNorms, otherRelus } from "./layouts/pointwise.js";
import { denseDepthwise, pointwiseAsMatMul, wholeMeans } from "./layouts/products.js";
import { gatesTogether, mergedStreams, sumsAtOnce } from "./layouts/streams.js";

/** A way to write a network: other options, or other nodes that compute the same. */
interface Layout {
  readonly options?: TfjsOptions;
  readonly rewrite?: (model: TfjsGraphModel) => TfjsGraphModel;
  /** A layers model. */
  readonly layers?: true;
}

/**
 * Layouts of one network in tfjs's WebAssembly (SIMD, one thread): one image of 256×128. They take turns, so that whatever
 * else the machine does falls on all; what each took at least, in milliseconds of the clock and of the processor, is
 * printed at the end: `npx vitest bench --run bench/tfjs.bench.ts`.
 */
const layoutsOf = (graph: LayerGraph): Readonly<Record<string, Layout>> => ({
  "folded, fused (default)": {},
  "biases and ReLUs apart": { options: { fuse: false } },
  "batch norms kept": { options: { fold: false } },
  "images of any size": { options: { size: "dynamic" } },
  "raw pixels": { options: { preprocess: "rgb" } },
  "layers model": { layers: true },
  "explicit padding": { rewrite: explicitlyPadded },
  "padded before convolutions": { rewrite: prePadded },
  "channels first": { rewrite: channelsFirst },
  "depthwise convolutions as dense ones": { rewrite: denseDepthwise },
  "convolutions of one pixel as matrix products": { rewrite: pointwiseAsMatMul(graph, "all") },
  "gates as matrix products": { rewrite: pointwiseAsMatMul(graph, "gates") },
  "gates of a block at once": { rewrite: gatesTogether },
  "first convolutions of streams at once": { rewrite: mergedStreams("pointwise") },
  "first layers of streams at once": { rewrite: mergedStreams("depthwise") },
  "sums of streams at once": { rewrite: sumsAtOnce },
  "means by one pool": { rewrite: wholeMeans("pool") },
  "means by Mean": { rewrite: wholeMeans("Mean") },
  "other ReLUs": { rewrite: otherRelus },
  "instance norms centered": { rewrite: centeredNorms },
});

const ROUNDS = 25;

interface Runnable {
  readonly layout: string;
  readonly predict: () => Float32Array;
}

await tf.setBackend("wasm");
await tf.ready();
const images = tf.randomNormal([1, 256, 128, 3]);
const pixels = tf.randomUniform([1, 256, 128, 3], 0, 255);

for (const name of ["osnet_x1_0", "osnet_ain_x1_0"] as const) {
  const graph = expand(variant(name));
  const parameters = randomParameters(graph, 1);
  const models = await Promise.all(
    Object.entries(layoutsOf(graph)).map(
      async ([layout, { options = {}, rewrite, layers }]): Promise<Runnable> => {
        const model = lowerToTfjs(graph, parameters, options);
        const files = encodeTfjs(layers ? lowerToTfjsLayers(graph, parameters) : (rewrite?.(model) ?? model));
        const artifacts = { load: async () => artifactsOf(files) };
        const loaded = layers ? await loadLayersModel(artifacts) : await loadGraphModel(artifacts);
        const input = options.preprocess ? pixels : images;
        return {
          layout,
          predict() {
            const features = loaded.predict(input) as tf.Tensor;
            const data = features.dataSync() as Float32Array;
            features.dispose();
            return data;
          },
        };
      },
    ),
  );
  const [first] = models;
  for (const { layout, predict } of models)
    if (layout !== "raw pixels") expectSame(layout, first?.predict(), predict());
  const least = models.map(({ layout }) => ({ layout, clock: Infinity, processor: Infinity }));
  describe(name, () => {
    bench(
      "all layouts in turn",
      () => {
        for (const [index, { predict }] of models.entries()) {
          const [clock, before] = [performance.now(), process.cpuUsage()];
          predict();
          const { user, system } = process.cpuUsage(before);
          const row = least[index];
          if (!row) continue;
          row.clock = Math.min(row.clock, performance.now() - clock);
          row.processor = Math.min(row.processor, (user + system) / 1e3);
        }
      },
      {
        iterations: ROUNDS,
        time: 0,
        warmupIterations: 3,
        warmupTime: 0,
        teardown(_task, mode) {
          if (mode === "run") console.table(least);
        },
      },
    );
  });
}

function artifactsOf({ json, shards }: TfjsFiles): tf.io.ModelArtifacts {
  const { weightsManifest, ...document } = JSON.parse(new TextDecoder().decode(json)) as tf.io.ModelJSON;
  const weightSpecs = weightsManifest.flatMap(({ weights }) => weights);
  const weightData = [...shards.values()].map((bytes) => bytes.slice().buffer as ArrayBuffer);
  return { ...document, weightSpecs, weightData };
}

/** A layout that computes something else is not one. */
function expectSame(layout: string, expected: Float32Array = new Float32Array(), actual: Float32Array): void {
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const off = expected.reduce(
    (max, value, index) => Math.max(max, Math.abs(value - (actual[index] ?? NaN))),
    0,
  );
  if (!(off <= 1e-4 * largest)) throw new Error(`${layout} is off by ${off / largest} of the largest value`);
}

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-wasm";
import { loadGraphModel } from "@tensorflow/tfjs-converter";
import { bench, describe } from "vitest";
import { expand, variant } from "../src/arch/index.js";
import { encodeTfjs, type TfjsGraphModel } from "../src/convert/formats/tfjs/index.js";
import { lowerToTfjs, type TfjsOptions } from "../src/convert/lower/tfjs/index.js";
import { randomParameters } from "../test/verify/reference/network.js";
import { denseDepthwise, prePadded, samePadded } from "./layouts.js";

/**
 * Layouts of one network in tfjs's WebAssembly (SIMD, one thread): one image of 256×128.
 * `npx vitest bench --run bench/tfjs.bench.ts`; the column to read is `min`, in milliseconds.
 */
const LAYOUTS: Readonly<
  Record<
    string,
    { readonly options?: TfjsOptions; readonly rewrite?: (model: TfjsGraphModel) => TfjsGraphModel }
  >
> = {
  "folded, fused (default)": {},
  "biases and ReLUs apart": { options: { fuse: false } },
  "batch norms kept": { options: { fold: false } },
  "padded before convolutions": { rewrite: prePadded },
  "SAME padding at strides of 1": { rewrite: samePadded },
  "depthwise convolutions as dense ones": { rewrite: denseDepthwise },
  "images of any size": { options: { size: "dynamic" } },
  "raw pixels": { options: { preprocess: "rgb" } },
};

await tf.setBackend("wasm");
await tf.ready();
const images = tf.randomNormal([1, 256, 128, 3]);

for (const name of ["osnet_x1_0", "osnet_ain_x1_0"] as const) {
  const graph = expand(variant(name));
  const parameters = randomParameters(graph, 1);
  const models = await Promise.all(
    Object.entries(LAYOUTS).map(
      async ([layout, { options = {}, rewrite = (model: TfjsGraphModel) => model }]) => {
        const { json, shards } = encodeTfjs(rewrite(lowerToTfjs(graph, parameters, options)));
        const { weightsManifest, ...document } = JSON.parse(
          new TextDecoder().decode(json),
        ) as tf.io.ModelJSON;
        const weightSpecs = weightsManifest.flatMap(({ weights }) => weights);
        const weightData = [...shards.values()].map((bytes) => bytes.slice().buffer as ArrayBuffer);
        const model = await loadGraphModel({ load: async () => ({ ...document, weightSpecs, weightData }) });
        return { layout, model };
      },
    ),
  );
  describe(name, () => {
    for (const { layout, model } of models)
      bench(
        layout,
        () => {
          const features = model.predict(images) as tf.Tensor;
          features.dataSync();
          features.dispose();
        },
        { iterations: 20, time: 0, warmupIterations: 3, warmupTime: 0 },
      );
  });
}

/** Suite files to start from, as JSON: YAML is read by the same rules, after its parser. */

import type { Seed } from "../mutate/index.js";

const SUITES = [
  {
    name: "parity",
    defaults: { tolerance: "auto", input: "seed:0", batch: 2, size: "256x128" },
    models: { seeded: { arch: "osnet_x0_25", seed: 1 }, market: { checkpoint: "w.pth", key: "model" } },
    candidates: {
      onnx: { convert: "onnx", options: { opset: 17 } },
      graph: { convert: "tfjs-graph", backends: ["tfjs-wasm", "tfjs-cpu"] },
      shipped: { file: "dist/{model}.onnx", models: ["market"] },
    },
    matrix: {
      exclude: [{ model: "market", backend: "tfjs-cpu" }],
      include: [{ model: "market", candidate: "onnx", tolerance: 1e-4 }],
    },
  },
  { models: { a: { arch: "osnet_x1_0", seed: 0 } }, candidates: { onnx: { convert: "onnx" } } },
];

export const SUITE_SEEDS: readonly Seed[] = SUITES.map((suite, index) => ({
  name: `suite ${index}`,
  kind: "json",
  parts: [{ kind: "json", bytes: new TextEncoder().encode(JSON.stringify(suite)) }],
  assemble: ([bytes]) => bytes ?? new Uint8Array(0),
}));

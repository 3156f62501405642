import { describe, expect, it } from "vitest";
import { lowerToTfjs, type TfjsOptions } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsModel, TfjsWeight } from "../../../src/convert/formats/tfjs/model.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { gatesOfDense, gatesOfProducts } from "../../convert/import/tfjs/gates.js";
import { anonymous } from "../../convert/import/tfjs/models.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { openReference, SMALL } from "../../support/osnet.js";

/** TensorFlow.js models without our names, held against the checkpoint that they came from. */

const checkpoint = tinyCheckpoint("block");
const { graph, stateDict } = checkpoint;

async function report(
  lower: typeof lowerToTfjs | typeof lowerToTfjsLayers,
  options: TfjsOptions = {},
  change: (model: TfjsModel) => TfjsModel = (model) => model,
): Promise<ParityReport> {
  const model = change(anonymous(lower(graph, stateDict, { size: SMALL, ...options })));
  const { json, shards } = encodeTfjs(model);
  // As a converter's folder is read: nothing of ours is left in it.
  expect(decodeTfjs({ json, shards }, { subject: "theirs" }).metadata).toBeUndefined();
  const reference = openReference(checkpoint);
  // Nothing in the folder says so.
  const order = options.preprocess ? { inputOrder: options.preprocess } : {};
  return verify(await openVerification({ name: "theirs", bytes: json, beside: shards }, reference, order));
}

const lowerWithProducts: typeof lowerToTfjs = (network, weights, options) =>
  gatesOfProducts(lowerToTfjs(network, weights, { ...options, fuse: false }));
const lowerWithDense: typeof lowerToTfjsLayers = (network, weights, options) =>
  gatesOfDense(lowerToTfjsLayers(network, weights, options));

describe("a TensorFlow.js model of another converter", () => {
  it.each([
    ["graph, unfused", lowerToTfjs, { fuse: false }, 55, 44, "proven"],
    // What a fused convolution computes inside is no value, but its constants are compared.
    ["graph, fused", lowerToTfjs, {}, 41, 44, "proven"],
    ["graph of pixels", lowerToTfjs, { preprocess: "bgr" }, 42, 44, "proven"],
    ["layers, unfolded", lowerToTfjsLayers, { fold: false }, 68, 84, "proven"],
    ["graph with gates of products of vectors", lowerWithProducts, {}, 55, 44, "sampled"],
    ["layers with gates of products of vectors", lowerWithDense, {}, 55, 44, "sampled"],
  ] as const)("is verified layer by layer: %s", async (_what, lower, options, layers, constants, status) => {
    const { passed, faults, weights, coverage, proof, layers: judged } = await report(lower, options);
    expect(faults).toEqual([]);
    expect([passed, coverage.missing, judged.length, weights?.identical, proof?.status]).toEqual([
      true,
      [],
      layers,
      constants,
      status,
    ]);
  });

  it.each(["uint8", "float16"] as const)(
    "stored as %s is held against the numbers that are left",
    async (quantize) => {
      const { passed, faults, weights, quantization, proof } = await report(lowerToTfjs, { quantize });
      expect(faults).toEqual([]);
      expect([passed, quantization?.tensors]).toEqual([true, 21]);
      // A gate's tensors are constants of each of its streams.
      expect(weights).toMatchObject({ compared: 44, identical: 19, rounded: 25 });
      expect(proof?.grounds).toContain("25 of 44 constants have fewer bits than the checkpoint's");
    },
  );

  it.each([
    ["graph", lowerWithProducts],
    ["layers", lowerWithDense],
  ] as const)("fails by a gate whose product is another: %s", async (_what, lower) => {
    const { passed, faults } = await report(lower, {}, (model) => {
      const matrix = ([, { tensor }]: readonly [string, TfjsWeight]) => String(tensor.shape) === "4,8";
      const [name = "", weight] = [...model.weights].find(matrix) ?? [];
      const data = Float32Array.from(weight?.tensor.data as Float32Array, (value) => -value);
      const tensor = { dtype: "float32", shape: [4, 8], data } as const;
      return { ...model, weights: new Map(model.weights).set(name, { tensor }) };
    });
    expect(passed).toBe(false);
    expect(faults[0]).toMatchObject({ kind: "weights", layer: "conv2.0.gate[1].fc2" });
  });

  it.each([
    ["graph", lowerToTfjs, '["0","0","3","3","3","3","0","0"]', '["0","0","9000","9000","3","3","0","0"]'],
    ["layers", lowerToTfjsLayers, "[[3,3],[3,3]]", "[[9000,9000],[3,3]]"],
  ] as const)(
    "fails by a padding that takes much memory, and is not run: %s",
    async (_what, lower, right, wrong) => {
      for (const named of [true, false]) {
        const model = lower(graph, stateDict, { size: SMALL });
        const { json, shards } = encodeTfjs(named ? model : anonymous(model));
        const bytes = new TextEncoder().encode(new TextDecoder().decode(json).replace(right, wrong));
        const reference = openReference(checkpoint);
        const found = await verify(
          await openVerification({ name: "theirs", bytes, beside: shards }, reference),
        );
        expect(found.faults, String(named)).toMatchObject([{ kind: "structure", layer: "conv1.conv" }]);
        expect(JSON.stringify(found)).toMatch(/found a map of [\d]{4,}×\d+ on images/);
        expect(found.layers).toEqual([]);
      }
    },
  );

  it("fails by its structure, and by a weight, naming the layer", async () => {
    const broken = await report(lowerToTfjs, { fuse: false }, (model) => {
      if (model.format !== "graph-model") throw new Error("no graph");
      const sigmoid = model.nodes.findLast(({ op }) => op === "Sigmoid");
      const nodes = model.nodes.map((node) => (node === sigmoid ? { ...node, op: "Relu" } : node));
      return { ...model, nodes };
    });
    expect(broken.faults[0]).toMatchObject({
      layer: "conv2.0.gate[1].gate_activation",
      kind: "structure",
      explanation: expect.stringMatching(/^found a ReLU, expected a sigmoid/),
    });
    const nudged = await report(lowerToTfjs, {}, (model) => {
      const [name = "", weight] =
        [...model.weights].find(([, { tensor }]) => tensor.shape.length === 4) ?? [];
      const data = Float32Array.from(weight?.tensor.data as Float32Array);
      data[3] = (data[3] ?? 0) + 1e-3;
      const tensor = { dtype: "float32", shape: weight?.tensor.shape ?? [], data } as const;
      return { ...model, weights: new Map(model.weights).set(name, { tensor }) };
    });
    expect(nudged.passed).toBe(false);
    expect(nudged.faults[0]?.kind).toBe("weights");
    expect(nudged.faults[0]?.explanation).toMatch(/1 of \d+ values differ/);
  });
});

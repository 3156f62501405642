import { describe, expect, it } from "vitest";
import { lowerToTfjs, type TfjsOptions } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsFiles, TfjsGraphModel, TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import { fingerprintFolded, fingerprintWeights } from "../../../src/convert/inspect/inspection.js";
import { inspectModel, type TfjsInspection } from "../../../src/convert/inspect/model-inspection.js";
import { renderModelInspection } from "../../../src/convert/inspect/text.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { openFixture, SMALL } from "../../support/osnet.js";
import { anonymous } from "../import/tfjs/models.js";

const { graph, stateDict } = openFixture();
const small = tinyCheckpoint("block");
const ours = (options: TfjsOptions = {}): TfjsGraphModel =>
  lowerToTfjs(graph, stateDict, { size: SMALL, ...options });
const inspectFiles = ({ json, shards }: TfjsFiles): Promise<TfjsInspection> =>
  inspectModel("tfjs", { name: "m", bytes: json, beside: shards });
const inspect = (model: TfjsModel): Promise<TfjsInspection> => inspectFiles(encodeTfjs(model));

describe("inspectModel, of TensorFlow.js models", () => {
  it.each([
    ["graph", lowerToTfjs],
    ["layers", lowerToTfjsLayers],
  ] as const)("finds a checkpoint's fingerprints in a %s model, whatever its names", async (_, lower) => {
    const { graph, stateDict } = small;
    const [kept, folded] = [
      await inspect(anonymous(lower(graph, stateDict, { size: SMALL, fold: false }))),
      await inspect(anonymous(lower(graph, stateDict, { size: SMALL }))),
    ];
    const expected = await fingerprintFolded(graph, stateDict);
    expect(kept.weights).toMatchObject({
      fingerprint: await fingerprintWeights(graph, stateDict),
      foldedFingerprint: expected,
      reparameterised: 0,
    });
    expect(folded.weights?.foldedFingerprint).toBe(expected);
    expect([kept.model.batchNorms?.folded, folded.model.batchNorms?.folded]).toEqual([0, 13]);
  });

  it("says how a model is stored and used", async () => {
    const model = ours({ quantize: "uint8", preprocess: "bgr", batch: 4, output: "both" });
    const files = encodeTfjs(model);
    const inspection = await inspectFiles(files);
    const shards = [...files.shards].map(([name, { length }]) => ({ name, bytes: length }));
    const stored = [...model.weights.values()].filter((weight) => weight.stored).length;
    expect(inspection.model).toMatchObject({
      format: "graph-model",
      ...{ batch: 4, size: { height: 64, width: 32 }, shards, stored: { uint8: stored }, differences: [] },
      results: [{ kind: "features" }, { kind: "logits" }],
      preprocess: expect.stringContaining("channels in the order 2, 1, 0"),
    });
    expect(stored).toBeGreaterThan(100);
    expect(inspection.network).toMatchObject({ variant: "osnet_x0_25", classes: 16 });
    expect(renderModelInspection(inspection)).toMatch(
      /^m: TensorFlow\.js graph model, [\s\S]*\n {2}weights {8}in 1 shard, [\d,]+ bytes\n {2}stored {9}\d+ as uint8\n/,
    );
  });

  describe("without all of its weight files", () => {
    /** A model whose only file is cut after so many bytes, of which the first part is missing. */
    const headless = (model: TfjsModel, bytes: number): TfjsFiles => {
      const { json, shards } = encodeTfjs(model);
      const [whole = new Uint8Array()] = shards.values();
      const document = JSON.parse(new TextDecoder().decode(json));
      document.weightsManifest[0].paths = ["a.bin", "b.bin"];
      return {
        json: new TextEncoder().encode(JSON.stringify(document)),
        shards: new Map([["b.bin", whole.subarray(bytes)]]),
      };
    };

    it("finds the network of a layers model from its topology", async () => {
      const { json } = encodeTfjs(lowerToTfjsLayers(graph, stateDict, { size: SMALL }));
      const inspection = await inspectFiles({ json, shards: new Map() });
      const { network, weights, refusal, model } = inspection;
      expect([network?.variant, weights, refusal, model.differences]).toEqual([
        "osnet_x0_25",
        null,
        undefined,
        [],
      ]);
      expect(model.shards).toEqual([{ name: "group1-shard1of1.bin", bytes: null }]);
      expect(renderModelInspection(inspection)).toMatch(
        /\n {2}weights {8}needs group1-shard1of1\.bin beside it\n/,
      );
    });

    it("finds that of a graph model whose axes and shapes are in the files that are there", async () => {
      const [first] = ours().weights.values();
      const inspection = await inspectFiles(headless(ours(), first?.tensor.data.byteLength ?? 0));
      expect([inspection.network?.variant, inspection.weights, inspection.refusal]).toEqual([
        "osnet_x0_25",
        null,
        undefined,
      ]);
    });

    it("asks for the files of a graph that cannot be read without them", async () => {
      const { json } = encodeTfjs(ours());
      const inspection = await inspectFiles({ json, shards: new Map() });
      expect([inspection.network, inspection.model.differences]).toEqual([null, undefined]);
      expect(inspection.model.operators).toMatchObject({ _FusedConv2D: expect.any(Number) });
      expect(inspection.refusal).toBe(
        "m: found no group1-shard1of1.bin beside it, expected all weight files, since the graph's axes and shapes are in them; pass the model's whole folder.",
      );
    });

    it("refuses files that are longer than all weights", async () => {
      const files = headless(ours(), 0);
      const shards = new Map([["b.bin", new Uint8Array([...(files.shards.get("b.bin") ?? []), 0])]]);
      await expect(inspectFiles({ ...files, shards })).rejects.toThrow(/bytes in its 2 files/);
    });
  });

  it("lists the differences between a model and an OSNet", async () => {
    const model = ours();
    const nodes = model.nodes.map((node) => (node.op === "MaxPool" ? { ...node, op: "AvgPool" } : node));
    const { model: facts, weights, network } = await inspect({ ...model, nodes });
    expect([network?.variant, weights]).toEqual(["osnet_x0_25", null]);
    expect(facts.differences).toMatchObject([{ layer: "maxpool" }]);
  });

  it("says what a model is like that is no OSNet, in words for its users", async () => {
    const { refusal, network, model } = await inspect({
      ...ours(),
      metadata: {},
      nodes: [
        { name: "x", op: "Placeholder", inputs: [], attributes: new Map() },
        { name: "y", op: "Relu", inputs: ["x"], attributes: new Map() },
      ],
      signature: { inputs: new Map(), outputs: new Map([["y", { name: "y:0" }]]) },
    });
    expect([network, model.operators]).toEqual([null, { Placeholder: 1, Relu: 1 }]);
    expect(refusal).toMatch(/^m: found another network of 0 Conv, .*; use an OSNet model\.$/);
  });

  it("keeps control characters of a file from the terminal", async () => {
    const text = renderModelInspection(
      await inspect({
        ...ours(),
        generatedBy: "\u001b[2J",
        convertedBy: "\u009b",
        metadata: { "a\u0007": "b" },
      }),
    );
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });
});

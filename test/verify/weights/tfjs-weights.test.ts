import { describe, expect, it } from "vitest";
import { lowerToTfjs, type TfjsOptions } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import { splitShards } from "../../../src/convert/formats/tfjs/manifest.js";
import type { TfjsGraphModel, TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { openReference, SMALL } from "../../support/osnet.js";

const CHECKPOINT = tinyCheckpoint("block");

/** A converted model with something changed in it, held against its checkpoint. */
async function report(
  options: TfjsOptions,
  change: (model: TfjsGraphModel) => TfjsGraphModel = (model) => model,
): Promise<ParityReport> {
  const { graph, stateDict } = CHECKPOINT;
  return reportOf(change(lowerToTfjs(graph, stateDict, { size: SMALL, ...options })));
}

async function reportOf(model: TfjsModel): Promise<ParityReport> {
  const { json, shards } = encodeTfjs(model);
  const reference = openReference(CHECKPOINT);
  return verify(await openVerification({ name: "model", bytes: json, beside: shards }, reference));
}

/** One value of a weight a little off. */
const nudge =
  (name: string) =>
  (model: TfjsGraphModel): TfjsGraphModel => {
    const tensor = model.weights.get(name)?.tensor;
    if (!tensor) throw new Error(`no ${name}`);
    const data = Float32Array.from(tensor.data as Float32Array);
    data[3] = (data[3] ?? 0) * 1.000001;
    return {
      ...model,
      weights: new Map(model.weights).set(name, { tensor: { ...tensor, dtype: "float32", data } }),
    };
  };

/** The same graph with every reading of one constant replaced by another. */
const reread =
  (from: string, to: string) =>
  (model: TfjsGraphModel): TfjsGraphModel => ({
    ...model,
    nodes: model.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map((input) => (input === from ? to : input)),
    })),
  });

/** The same graph with biases of four axes, as Keras 3 has them. */
const broad = (model: TfjsGraphModel): TfjsGraphModel => {
  const biases = new Set(
    model.nodes.flatMap(({ op, inputs }) => (op === "_FusedConv2D" ? inputs.slice(2) : [])),
  );
  return {
    ...model,
    weights: new Map(
      Array.from(model.weights, ([name, { tensor }]) => [
        name,
        { tensor: biases.has(name) ? { ...tensor, shape: [1, 1, 1, tensor.data.length] } : tensor },
      ]),
    ),
  };
};

describe("constants of a TensorFlow.js model", () => {
  it.each<readonly [string, (model: TfjsGraphModel) => TfjsGraphModel]>([
    ["with a signature", broad],
    // Then the outputs are the nodes that no other reads.
    ["without one", (model) => ({ ...broad(model), signature: { ...model.signature, outputs: new Map() } })],
  ])("run in tfjs-cpu where tfjs-wasm does not support them, %s", async (_, change) => {
    const { passed, faults, backend } = await report({}, change);
    expect({ passed, faults, backend }).toEqual({
      passed: true,
      faults: [],
      backend: "tfjs-cpu",
    });
  });

  it.each([
    ["folded", {}, { compared: 44, identical: 44, folded: 13 }],
    ["folded, TensorFlow's own operators", { fuse: false }, { compared: 44, identical: 44, folded: 13 }],
    ["unfolded", { fold: false }, { compared: 84, identical: 84, folded: 0 }],
  ])("are all the checkpoint's: %s", async (_what, options, weights) => {
    const { passed, faults, weights: found } = await report(options);
    expect({ passed, faults, found }).toEqual({ passed: true, faults: [], found: weights });
  });

  it.each([
    ["folded", true, { compared: 44, identical: 44, folded: 13 }],
    ["unfolded", false, { compared: 84, identical: 84, folded: 0 }],
  ])("are all the checkpoint's: layers model, %s", async (_what, fold, weights) => {
    const model = lowerToTfjsLayers(CHECKPOINT.graph, CHECKPOINT.stateDict, { size: SMALL, fold });
    const { passed, faults, weights: found } = await reportOf(model);
    expect({ passed, faults, found }).toEqual({ passed: true, faults: [], found: weights });
  });

  it.each([
    ["conv2.0.gate.fc1.weight", "conv2.0.gate[1].fc1"],
    ["fc.0.weight", "fc.0"],
    ["conv1.bn.running_mean", "conv1.bn"],
    ["fc.1.running_var", "fc.1"],
  ])("show one changed value of %s at %s", async (name, layer) => {
    const { passed, faults } = await report({ fold: false }, nudge(name));
    expect(passed).toBe(false);
    expect(faults[0]).toMatchObject({ layer, kind: "weights" });
    expect(faults[0]?.explanation).toMatch(/1 of \d+ values differ/);
  });

  it("show the right tensor at the wrong layer", async () => {
    const swap = reread("conv2.0.conv2b.0.bn.folded.weight", "conv2.0.conv2b.1.bn.folded.weight");
    const { faults } = await report({}, swap);
    expect(faults.map(({ layer, kind }) => [layer, kind])).toEqual([["conv2.0.conv2b.0.bn", "weights"]]);
    expect(faults[0]?.margin).toBeGreaterThan(1000);
  });
});

describe("a model with its weights in several files", () => {
  const LOWER = { "graph model": lowerToTfjs, "layers model": lowerToTfjsLayers } as const;

  /** A model whose files have this many bytes, some of them changed. */
  async function inFiles(
    form: keyof typeof LOWER,
    change: (files: readonly Uint8Array[]) => readonly Uint8Array[],
    size = 1200,
  ): Promise<ParityReport["faults"]> {
    const { graph, stateDict } = CHECKPOINT;
    const { json, shards } = encodeTfjs(LOWER[form](graph, stateDict, { size: SMALL }));
    const files = [...splitShards([...shards.values()], size).values()];
    const named = new Map(change(files).map((bytes, at) => [`w${at}.bin`, bytes]));
    const text = new TextDecoder().decode(json);
    const paths = `"paths":${JSON.stringify([...named.keys()])}`;
    const bytes = new TextEncoder().encode(text.replace(/"paths":\[[^\]]*\]/, paths));
    const { faults } = await verify(
      await openVerification({ name: "model", bytes, beside: named }, openReference(CHECKPOINT)),
    );
    return faults;
  }

  const zeros = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.length);

  it.each(["graph model", "layers model"] as const)("of which one is of zeros: %s", async (form) => {
    const faults = await inFiles(form, (files) =>
      files.map((bytes, at) => (at === 5 ? zeros(bytes) : bytes)),
    );
    expect(faults).toMatchObject([{ kind: "weights" }]);
    expect(faults[0]?.explanation).toMatch(/^(\d+) of \1 constants in the weight file w5\.bin differ/);
  });

  it("of which two are exchanged", async () => {
    const faults = await inFiles("graph model", (files) =>
      files.map((bytes, at) => (at === 5 || at === 6 ? (files[11 - at] ?? bytes) : bytes)),
    );
    expect(faults).toHaveLength(1);
    expect(faults[0]?.explanation).toMatch(/weight files w[56]\.bin, w[56]\.bin differ/);
  });

  it("in whose files one number is another", async () => {
    const faults = await inFiles("graph model", (files) =>
      files.map((bytes, at) => {
        if (at !== 5) return bytes;
        const other = new Uint8Array(bytes);
        new DataView(other.buffer).setFloat32(400, 3, true);
        return other;
      }),
    );
    expect(faults).toMatchObject([{ kind: "weights" }]);
    expect(faults[0]?.explanation).not.toContain("w5.bin");
  });
});

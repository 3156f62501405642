import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-backend-wasm";
import { GraphModel } from "@tensorflow/tfjs-converter";
import { describe, expect, it, vi } from "vitest";
import {
  expand,
  type LayerGraph,
  type LayerNode,
  type Op,
  type ParameterRole,
} from "../../../src/arch/index.js";
import { lowerToTfjs, type TfjsOptions } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { VALUE_NAMES } from "../../../src/convert/export/tfjs-names.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsFiles, TfjsGraphModel } from "../../../src/convert/formats/tfjs/model.js";
import { InputError } from "../../../src/core/errors.js";
import { permute, type StateDict, type Tensor } from "../../../src/core/tensor.js";
import type { RuntimeName } from "../../../src/verify/backends/backend.js";
import { tfjsBackend } from "../../../src/verify/backends/tfjs.js";
import { runTfjs } from "../../../src/verify/backends/tfjs-runtime.js";
import { type Candidate, segmentsOf } from "../../../src/verify/candidate/candidate.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { joinByName } from "../../../src/verify/judge/compare-layers.js";
import { measure } from "../../../src/verify/outcome/metrics.js";
import { evaluate } from "../../../src/verify/reference/evaluate.js";
import { tfjsNames } from "../../../src/verify/weights/located.js";
import { float32, graphOf, parametersFor, SMALL_SPEC } from "../../convert/export/graphs.js";
import { tfjsCandidate } from "../../support/candidates.js";

function candidateOf(
  graph: LayerGraph,
  stateDict: StateDict,
  options: TfjsOptions,
  backend: RuntimeName = "tfjs-wasm",
  change: (model: TfjsGraphModel) => TfjsGraphModel = (model) => model,
): Candidate {
  const files: TfjsFiles = encodeTfjs(change(lowerToTfjs(graph, stateDict, options)));
  const model = decodeTfjs(files, { subject: "model.json" });
  return tfjsCandidate(files, model, graph, { name: "model.json", format: "tfjs" }, backend);
}

/** How far each layer is from the float64 reference, as a share of its largest value. */
async function errors(
  candidate: Candidate,
  graph: LayerGraph,
  stateDict: StateDict,
  images: Tensor<"float32">,
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  const wanted = new Set(candidate.backend.layers);
  const reference = evaluate(graph, stateDict, images);
  for await (const { name, expected, actual } of joinByName(
    toAsync(reference),
    candidate.backend.run(images),
    wanted,
  )) {
    expect(actual.shape, name).toEqual([...expected.shape]);
    found.set(name, measure(expected, actual).relMax);
  }
  return found;
}

async function collect<T>(values: AsyncIterable<T>): Promise<readonly T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

async function* toAsync<T>(values: Iterable<T> | AsyncIterable<T>): AsyncGenerator<T> {
  yield* values;
}

function layer(
  name: string,
  op: Op,
  inputs: readonly string[],
  ...roles: readonly ParameterRole[]
): LayerNode {
  return { name, op, inputs, parameters: Object.fromEntries(roles.map((role) => [role, `${name}.${role}`])) };
}

const maxPool: Op = { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
const BACKENDS = ["tfjs-wasm", "tfjs-cpu"] as const;

describe.each(BACKENDS)("%s", (backend) => {
  it.each([
    ["even, folded", 64, 32, {}],
    ["odd, folded", 67, 45, {}],
    ["odd, unfolded", 67, 45, { fold: false }],
    ["odd, TensorFlow's own operators", 45, 67, { fuse: false }],
    ["odd, any size", 67, 45, { size: "dynamic" }],
  ] as const)("computes every layer: %s", async (_what, height, width, options) => {
    const graph = expand({
      ...SMALL_SPEC,
      stem: { channels: 8, norm: "instance" },
      gate: { ...SMALL_SPEC.gate, layerNorm: true },
    });
    const stateDict = parametersFor(graph);
    const candidate = candidateOf(
      graph,
      stateDict,
      { size: { height, width }, output: "both", ...options },
      backend,
    );
    const found = await errors(candidate, graph, stateDict, seededImages(3, 3, height, width));
    const expected = graph.nodes.filter(({ name, op }) => op.kind !== "input" && !candidate.folded.has(name));
    expect([...found.keys()]).toEqual(expected.map(({ name }) => name));
    expect(Math.max(...found.values())).toBeLessThan(2e-5);
  });

  it("pools maxima of negative numbers: padding never wins", async () => {
    const graph = graphOf(layer("pool", maxPool, ["images"]));
    const images = float32(
      [1, 3, 3, 2],
      Array.from({ length: 18 }, (_, index) => -1e30 * (index + 1)),
    );
    const candidate = candidateOf(graph, new Map(), { size: { height: 3, width: 2 } }, backend);
    const found = await errors(candidate, graph, new Map(), images);
    expect([...found]).toEqual([["pool", 0]]);
  });

  it.each([
    [1, 1],
    [1, 4],
    [5, 1],
  ])("takes the mean of %i×%i pixels", async (height, width) => {
    const graph = graphOf(layer("mean", { kind: "globalAvgPool" }, ["images"]));
    const images = float32(
      [1, 3, height, width],
      Array.from({ length: 3 * height * width }, (_, index) => index),
    );
    const candidate = candidateOf(graph, new Map(), { size: { height, width } }, backend);
    expect((await errors(candidate, graph, new Map(), images)).get("mean")).toBeLessThan(1e-7);
  });

  it("gives all memory back, and leaves tfjs's own backend as it was", async () => {
    await tf.setBackend(backend === "tfjs-wasm" ? "cpu" : "wasm");
    const before = [tf.getBackend(), tf.memory().numTensors];
    const graph = expand(SMALL_SPEC);
    const candidate = candidateOf(graph, parametersFor(graph), { size: { height: 64, width: 32 } }, backend);
    const images = seededImages(0, 1, 64, 32);
    for await (const { name } of candidate.backend.run(images)) expect(name).not.toBe("");
    for await (const { name } of candidate.backend.run(images)) if (name === "conv1.relu") break;
    await candidate.program?.load().run(images);
    expect([tf.getBackend(), tf.memory().numTensors]).toEqual(before);
  });
});

describe("tfjs models as candidates", () => {
  const graph = expand(SMALL_SPEC);
  const stateDict = parametersFor(graph);
  const images = seededImages(0, 2, 64, 32);
  const options: TfjsOptions = { size: { height: 64, width: 32 } };

  it("gives the same with and without its inner values as outputs", async () => {
    const candidate = candidateOf(graph, stateDict, options);
    const [plain] = (await candidate.program?.load().run(images)) ?? [];
    let tapped: unknown;
    for await (const { name, tensor } of candidate.backend.run(images)) if (name === "fc.2") tapped = tensor;
    expect(candidate.program?.outputs).toMatchObject([{ layer: "fc.2", operations: [] }]);
    expect(plain).toEqual(tapped);
  });

  it.each([
    ["a graph model, which goes on from what it has", lowerToTfjs, true],
    ["a layers model, which computes all again", lowerToTfjsLayers, false],
  ] as const)("gives the same to the bit in segments: %s", async (_what, lower, continues) => {
    const files = encodeTfjs(lower(graph, stateDict, options));
    const { input = "", has, tapped } = tfjsNames(decodeTfjs(files, { subject: "m" }), graph, "m");
    const names = VALUE_NAMES[continues ? "graph-model" : "layers-model"];
    const shown = graph.nodes.filter(({ name, op }) => op.kind !== "input" && has(names.of(name)));
    const nodes = new Map(shown.map(({ name }) => [name, names.of(name)]));
    const program = { files: tapped(files), input };
    const backend = tfjsBackend("tfjs-wasm", { files, outputs: 1, tapped: program, nodes, continues }, "m");
    const before = tf.memory().numTensors;

    const whole = await collect(backend.run(images));
    expect(whole.map(({ name }) => name)).toEqual(backend.layers);
    const segments = segmentsOf(graph, backend.layers, images.shape, 5_000);
    expect(segments.length).toBeGreaterThan(5);
    const segmented = await collect(backend.run(images, segments));
    expect(segmented.filter(({ again }) => !again)).toEqual(whole);
    const again = segmented.filter((output) => output.again);
    const byName = new Map(whole.map((output) => [output.name, output.tensor]));
    expect(again.map(({ tensor }) => tensor)).toEqual(again.map(({ name }) => byName.get(name)));
    expect(again.map(({ name }) => name)).toEqual(continues ? [] : segments.flatMap(({ others }) => others));

    // Nobody reads on, though a later segment would read what is kept.
    for await (const { name } of backend.run(images, segments)) if (name === segments[2]?.layers[0]) break;
    expect(tf.memory().numTensors).toBe(before);
  });

  it("refuses a layers model whose weights tfjs changes when it loads them", async () => {
    const files = encodeTfjs(lowerToTfjsLayers(graph, stateDict, options));
    const text = new TextDecoder().decode(files.json);
    const constraint = '{"class_name":"MaxNorm","config":{"max_value":0.1,"axis":[0]}}';
    const json = new TextEncoder().encode(
      text.replace('"use_bias":true', `"use_bias":true,"kernel_constraint":${constraint}`),
    );
    const changed = { json, shards: files.shards };
    const program = { files: changed, input: "" };
    const backend = tfjsBackend(
      "tfjs-wasm",
      { files: changed, outputs: 1, tapped: program, nodes: new Map() },
      "m",
    );
    const before = tf.memory().numTensors;
    await expect(backend.load([], {}).run(images)).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringMatching(/^m: found values in tfjs-wasm that differ .* "conv1\.bn\/kernel"/),
    });
    // tfjs itself never gives back what a constraint makes of a weight.
    expect(tf.memory().numTensors).toBe(before + 1);
  });

  it.each([
    ['"use_bias":true', '"use_bias":false', /no target variable: .*; convert it again/],
    [
      '"weightsManifest"',
      '"trainingConfig":{"loss":"mse","metrics":[],"optimizer_config":{"class_name":"SGD","config":{}}},"weightsManifest"',
      /loss mse.*; save it without its training configuration/,
    ],
  ])("names what tfjs cannot load, whatever the images are: %s as %s", async (text, other, message) => {
    const { json, shards } = encodeTfjs(lowerToTfjsLayers(graph, stateDict, options));
    const changed = new TextEncoder().encode(new TextDecoder().decode(json).replace(text, other));
    const files = { json: changed, shards };
    const taps = { files, outputs: 1, tapped: { files, input: "" }, nodes: new Map() };
    await expect(tfjsBackend("tfjs-wasm", taps, "m").load([], {}).run(images)).rejects.toMatchObject({
      code: "tensor",
      message: expect.stringMatching(message),
    });
  });

  it("refuses a graph model of which tfjs has loaded other weights", async () => {
    const files = encodeTfjs(lowerToTfjs(graph, stateDict, options));
    const [name = ""] = decodeTfjs(files, { subject: "m" }).weights.keys();
    const other = vi
      .spyOn(GraphModel.prototype, "weights", "get")
      .mockReturnValue({ [name]: [tf.scalar(0.123)] });
    const program = { files, input: "" };
    const backend = tfjsBackend("tfjs-wasm", { files, outputs: 1, tapped: program, nodes: new Map() }, "m");
    await expect(backend.load([], {}).run(images)).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringContaining(`tfjs-wasm that differ from the file's, for the weight "${name}"`),
    });
    other.mockRestore();
  });

  it("computes a segment from the values of others, not again", async () => {
    const files = encodeTfjs(lowerToTfjs(graph, stateDict, options));
    const { input = "", tapped } = tfjsNames(decodeTfjs(files, { subject: "m" }), graph, "m");
    const program = { files: tapped(files), input };
    const executed = vi.spyOn(GraphModel.prototype, "execute");
    const segments = [
      { values: ["conv1.relu", "maxpool"], from: [] },
      { values: ["conv2.0.conv1.relu"], from: ["maxpool"] },
    ];
    for await (const { shape } of runTfjs("tfjs-wasm", program, permute(images, [0, 2, 3, 1]), segments))
      expect(shape).toHaveLength(4);
    expect(executed.mock.calls.map(([feed]) => Object.keys(feed))).toEqual([
      ["images"],
      ["images", "maxpool"],
    ]);
    executed.mockRestore();
  });

  it("does not take a layer for folded that the graph computes by anything but a product", () => {
    const without = (model: TfjsGraphModel): TfjsGraphModel => ({
      ...model,
      nodes: model.nodes
        .filter(({ name }) => name !== "conv1.conv")
        .map((node) =>
          node.name === "conv1.relu"
            ? node
            : { ...node, inputs: node.inputs.map((input) => (input === "conv1.conv" ? "images" : input)) },
        ),
    });
    const unfolded = candidateOf(graph, stateDict, { ...options, fold: false }, "tfjs-wasm", without);
    expect(unfolded.folded.has("conv1.conv")).toBe(false);
    expect(unfolded.backend.layers).not.toContain("conv1.conv");
  });

  it("says which images a model does not take", async () => {
    const candidate = candidateOf(graph, stateDict, options);
    const run = async (): Promise<void> =>
      void (await candidate.program?.load().run(seededImages(0, 1, 128, 64)));
    await expect(run()).rejects.toThrow(InputError);
    await expect(run()).rejects.toThrow(/tfjs-wasm failed on images \[1, 3, 128, 64\]/);
  });

  it("says how to install a backend that is not there", async () => {
    const candidate = candidateOf(graph, stateDict, options, "tfjs-node");
    const run = async (): Promise<void> => void (await candidate.program?.load().run(images));
    await expect(run()).rejects.toThrow(
      "tfjs-node: is not installed; npm install --ignore-scripts=false @tensorflow/tfjs-node.",
    );
  });

  it("says how to install one again whose library is missing", async () => {
    vi.doMock("@tensorflow/tfjs-node", () => {
      throw new Error("The Node.js native addon module (tfjs_binding.node) can not be found.\nTry it again.");
    });
    const candidate = candidateOf(graph, stateDict, options, "tfjs-node");
    const run = async (): Promise<void> => void (await candidate.program?.load().run(images));
    await expect(run()).rejects.toThrow(/^tfjs-node: failed to load \(.*\); npm install --ignore/);
    vi.doUnmock("@tensorflow/tfjs-node");
  });

  it("refuses a model none of whose outputs is a layer", () => {
    const rename = (model: TfjsGraphModel): TfjsGraphModel => ({
      ...model,
      signature: { ...model.signature, outputs: new Map([["y", { name: "StatefulPartitionedCall:0" }]]) },
    });
    expect(() => candidateOf(graph, stateDict, options, "tfjs-wasm", rename)).toThrow(
      /StatefulPartitionedCall/,
    );
  });
});

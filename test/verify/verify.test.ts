import { beforeAll, describe, expect, it } from "vitest";
import type { OnnxOptions } from "../../src/convert/export/onnx.js";
import type { OnnxModel, OnnxNode } from "../../src/convert/formats/onnx/model.js";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import type { Tensor } from "../../src/core/tensor.js";
import { referenceBackend } from "../../src/verify/backends/references.js";
import { type Candidate, DEFAULT_TOLERANCE } from "../../src/verify/candidate/candidate.js";
import { seededImages } from "../../src/verify/inputs/images.js";
import { type OpenOptions, openVerification } from "../../src/verify/open.js";
import type { Fault, ParityReport } from "../../src/verify/outcome/report.js";
import { renderText } from "../../src/verify/reports/text.js";
import { verify } from "../../src/verify/verify.js";
import { readFixture } from "../fixtures.js";
import { tinyCheckpoint } from "../mutation/families.js";
import {
  convert,
  openFixture,
  openReference,
  rewriteOnnx,
  withTensor,
  withValues,
} from "../support/osnet.js";

/** Holds an ONNX file against the checkpoint that it comes from, on 64×32 images. */
async function hold(
  bytes: Uint8Array,
  checkpoint: Checkpoint,
  options: OpenOptions = {},
): Promise<ParityReport> {
  const reference = openReference(checkpoint);
  return verify(await openVerification({ name: "model.onnx", bytes }, reference, options));
}

let osnet: Checkpoint;
let ain: Checkpoint;
beforeAll(() => {
  osnet = tinyCheckpoint("block");
  ain = tinyCheckpoint("ain block");
});

describe("a correct file passes", () => {
  it.each<readonly [name: string, onnx: OnnxOptions, options: OpenOptions]>([
    ["folded", {}, {}],
    ["unfolded", { fold: false }, {}],
    ["with gates", { gates: true }, {}],
    ["with logits alone", { output: "logits" }, {}],
    ["with both results", { output: "both" }, {}],
    ["of any batch, with one image", {}, { batch: 1 }],
    ["of any batch, with three", {}, { batch: 3 }],
    ["of a fixed batch", { batch: 3 }, {}],
    ["of any size", { size: "dynamic" }, { size: { height: 48, width: 40 } }],
  ])("%s", async (_, onnx, options) => {
    const report = await hold(convert(osnet, onnx), osnet, options);
    expect(report.faults).toEqual([]);
    expect(report.passed).toBe(true);
    expect(report.gates).toHaveLength(3);
    const { expected, compared, folded } = report.coverage;
    expect(folded).toHaveLength(onnx.fold === false ? 0 : 13);
    expect(compared).toBe(expected - folded.length);
    expect(report.weights?.identical).toBe(report.weights?.compared);
    expect(report.output?.layer).toBe(onnx.output === "logits" ? "classifier" : "fc.2");
  });

  it("gates are those that the network applied", async () => {
    const { gates } = await hold(convert(osnet), osnet);
    for (const { min, mean, max, maxAbs } of gates) {
      expect(min).toBeGreaterThan(0);
      expect(mean).toBeGreaterThan(min);
      expect(max).toBeGreaterThan(mean);
      expect(max).toBeLessThanOrEqual(1);
      expect(maxAbs).toBeLessThan(1e-5);
    }
    expect(gates.map(({ block, stream }) => [block, stream])).toEqual([
      ["conv2.0", 1],
      ["conv2.0", 2],
      ["conv2.0", 3],
    ]);
  });
});

const changeNode = (model: OnnxModel, output: string, change: (node: OnnxNode) => OnnxNode): OnnxModel => {
  const nodes = model.graph.nodes.map((node) => (node.outputs.includes(output) ? change(node) : node));
  expect(nodes, output).not.toEqual(model.graph.nodes);
  return { ...model, graph: { ...model.graph, nodes } };
};
const changeWeight = (
  model: OnnxModel,
  name: string,
  values: (tensor: Tensor) => Readonly<Record<number, number>>,
): OnnxModel => {
  const initializers = withTensor(model.graph.initializers, name, (tensor) =>
    withValues(tensor, values(tensor)),
  );
  return { ...model, graph: { ...model.graph, initializers } };
};

/** One thing changed in a file, and the first fault that must be named for it. */
interface Mutant {
  readonly name: string;
  readonly family?: "ain";
  readonly unfolded?: true;
  readonly change: (model: OnnxModel) => OnnxModel;
  readonly fault: Pick<Fault, "layer" | "kind"> & Partial<Fault>;
  /** How many faults there are in all, if not one. */
  readonly faults?: number;
}

const MUTANTS: readonly Mutant[] = [
  {
    name: "a stream that takes another stream's gate",
    change: (model) =>
      changeNode(model, "conv2.0.gate[2]", (node) => ({
        ...node,
        inputs: node.inputs.map((input) => input.replace("gate[2]", "gate[3]")),
      })),
    fault: { layer: "conv2.0.gate[2]", kind: "numeric", stream: 2 },
  },
  {
    name: "a Relu that is not there",
    change: (model) =>
      changeNode(model, "conv2.0.conv2b.1.relu", (node) => ({ ...node, opType: "Identity" })),
    fault: { layer: "conv2.0.conv2b.1.relu", kind: "numeric", stream: 2 },
  },
  {
    name: "an instance norm of another epsilon",
    family: "ain",
    change: (model) =>
      changeNode(model, "conv2.0.IN", (node) => ({
        ...node,
        attributes: new Map([["epsilon", { type: "float", value: 1e-3 }]]),
      })),
    fault: { layer: "conv2.0.IN", kind: "numeric" },
  },
  {
    name: "a batch norm of another epsilon",
    unfolded: true,
    change: (model) =>
      changeNode(model, "conv3.bn", (node) => ({
        ...node,
        attributes: new Map([["epsilon", { type: "float", value: 1e-2 }]]),
      })),
    fault: { layer: "conv3.bn", kind: "numeric" },
  },
  {
    name: "a folded weight 1 % larger",
    change: (model) =>
      changeWeight(model, "conv2.0.conv1.bn.folded.weight", ({ data }) => ({ 0: Number(data[0]) * 1.01 })),
    fault: { layer: "conv2.0.conv1.bn", kind: "weights" },
  },
  {
    name: "a NaN in a bias",
    change: (model) => changeWeight(model, "fc.1.folded.bias", () => ({ 7: Number.NaN })),
    fault: { layer: "fc.1", kind: "weights", margin: null },
  },
  {
    name: "a max-pool padded on one side only",
    change: (model) =>
      changeNode(model, "maxpool", (node) => ({
        ...node,
        attributes: new Map([...node.attributes, ["pads", { type: "ints", value: [0, 0, 2, 2] }]]),
      })),
    fault: { layer: "maxpool", kind: "numeric" },
  },
  {
    name: "a max-pool of another size",
    change: (model) =>
      changeNode(model, "maxpool", (node) => ({
        ...node,
        attributes: new Map([...node.attributes, ["pads", { type: "ints", value: [1, 1, 2, 2] }]]),
      })),
    fault: { layer: "maxpool", kind: "structure" },
    faults: Number.NaN,
  },
  {
    name: "a value of another name",
    change: (model) => renameValue(model, "conv2.0.add", "conv2.0.sum"),
    fault: {
      layer: "conv2.0.add",
      kind: "missing",
      explanation: "one side has no value with this name",
    },
  },
  {
    name: "a layer beside a copy with other weights, which the network reads",
    change(model) {
      const named = model.graph.nodes.find(({ outputs }) => outputs[0] === "conv2.0.conv1.bn");
      const [x = "", weight = "", ...others] = named?.inputs ?? [];
      const tensor = model.graph.initializers.get(weight) as Tensor<"float32">;
      const nodes = model.graph.nodes.flatMap((node) => {
        const inputs = node.inputs.map((name) => (name === "conv2.0.conv1.bn" ? "copy" : name));
        const copy = { ...node, name: "copy", inputs: [x, "other", ...others], outputs: ["copy"] };
        return node === named ? [node, copy] : [{ ...node, inputs }];
      });
      const other = { ...tensor, data: tensor.data.map((value) => value * (1 + 2 ** -20)) };
      const initializers = new Map(model.graph.initializers).set("other", other);
      return { ...model, graph: { ...model.graph, nodes, initializers } };
    },
    fault: { layer: "conv2.0.conv1.bn", kind: "weights" },
    // The ReLU does not read what has the name.
    faults: 2,
  },
  {
    name: "a stream that is not there, nor in the sum",
    change: (model) => {
      const isGone = (name: string): boolean =>
        /^conv2\.0\.(conv2c|gate\[3\])/.test(name) || name === "conv2.0.aggregate";
      const nodes = model.graph.nodes.filter(({ name }) => !isGone(name));
      return renameValue(
        { ...model, graph: { ...model.graph, nodes } },
        "conv2.0.aggregate.partial[2]",
        "conv2.0.aggregate",
      );
    },
    fault: { layer: "conv2.0.aggregate", kind: "numeric", cause: "term-missing" },
  },
  {
    name: "two streams in exchange",
    change: (model) =>
      renameValue(
        renameValue(renameValue(model, "conv2.0.gate[1]", "x"), "conv2.0.gate[2]", "conv2.0.gate[1]"),
        "x",
        "conv2.0.gate[2]",
      ),
    fault: { layer: "conv2.0.gate[1]", kind: "numeric" },
    faults: 2,
  },
];

function renameValue(model: OnnxModel, from: string, to: string): OnnxModel {
  const rename = (name: string): string => (name === from ? to : name);
  const nodes = model.graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  }));
  expect(nodes).not.toEqual(model.graph.nodes);
  return { ...model, graph: { ...model.graph, nodes } };
}

describe("a faulty file fails at its fault", () => {
  it.each(MUTANTS)("$name", async ({ family, unfolded, change, fault, faults = 1 }) => {
    const checkpoint = family === "ain" ? ain : osnet;
    const bytes = rewriteOnnx(convert(checkpoint, { fold: !unfolded }), change);
    const report = await hold(bytes, checkpoint);
    expect(report.passed).toBe(false);
    expect(report.faults[0]).toMatchObject(fault);
    if (!Number.isNaN(faults)) expect(report.faults).toHaveLength(faults);
  });

  it("says how far off a layer is, on what the candidate fed it", async () => {
    const bytes = rewriteOnnx(convert(osnet), (model) =>
      changeNode(model, "conv3.relu", (node) => ({ ...node, opType: "Cos" })),
    );
    const [fault] = (await hold(bytes, osnet)).faults;
    expect(fault?.explanation).toMatch(
      /^found Cos, expected a ReLU; off by [\d.]+ on the candidate's own inputs, [\d.]+e[+-]\d+ times its rounding bound$/,
    );
    expect(fault?.margin).toBeGreaterThan(1000);
  });

  it("names a NaN where it arises, and nothing that it spreads to", async () => {
    const bytes = rewriteOnnx(convert(osnet, { fold: false }), (model) =>
      changeWeight(model, "conv2.0.gate.fc2.bias", () => ({ 0: Number.NaN })),
    );
    const { faults, layers, output } = await hold(bytes, osnet);
    expect(faults.map(({ layer, streams, kind, margin }) => [layer, streams, kind, margin])).toEqual([
      ["conv2.0.gate[1].fc2", [1, 2, 3], "weights", null],
    ]);
    expect(layers.find(({ name }) => name === "conv2.0.gate[1].fc2")?.nonFinite).toBe(2);
    expect(output?.status).toBe("fail");
  });

  it("blames nothing downstream, though all of it differs from the reference network", async () => {
    const bytes = rewriteOnnx(convert(osnet), (model) =>
      changeNode(model, "conv1.relu", (node) => ({ ...node, opType: "Identity" })),
    );
    const { faults, layers } = await hold(bytes, osnet);
    expect(faults.map(({ layer }) => layer)).toEqual(["conv1.relu"]);
    expect(layers.filter(({ status }) => status === "fail")).toHaveLength(1);
    expect(layers.filter(({ relMax }) => relMax !== null && relMax > 1e-4).length).toBeGreaterThan(40);
  });

  it("by a constant tolerance, says that what feeds it agrees", async () => {
    const bytes = rewriteOnnx(convert(osnet), (model) =>
      changeNode(model, "conv1.relu", (node) => ({ ...node, opType: "Identity" })),
    );
    const reference = openReference(osnet);
    const verification = await openVerification({ name: "model.onnx", bytes }, reference);
    const { faults, layers } = await verify({ ...verification, tolerance: DEFAULT_TOLERANCE });
    expect(faults.map(({ layer }) => layer)).toEqual(["conv1.relu"]);
    expect(faults[0]?.explanation).toMatch(
      /^max \|actual − expected\| [\d.]+, [\d.]+e[+-]\d+ of max, over the tolerance 0\.0001; its inputs agree$/,
    );
    expect(layers.filter(({ status }) => status === "fail").length).toBeGreaterThan(40);
  });
});

describe("recordings", () => {
  it("judge a file by what they hold, and the report says how much that was", async () => {
    const recording = { name: "r.npz", bytes: readFixture("osnet_x0_25.64x32.npz") };
    const model = { name: "model.onnx", bytes: convert(openFixture()) };
    const report = await verify(await openVerification(model, recording));
    expect(report).toMatchObject({
      passed: true,
      input: { source: "the recording", shape: [1, 3, 64, 32] },
      weights: null,
      coverage: { expected: 445, compared: 365, missing: [] },
    });
    expect(report.gates).toHaveLength(24);
    expect(report.output?.relMax).toBeLessThan(1e-5);
  });
});

describe("what could not be judged", () => {
  it("has not passed, though nothing is wrong", async () => {
    const { graph, stateDict } = osnet;
    const right = referenceBackend(graph, stateDict);
    const result = graph.outputs.features;
    const candidate: Candidate = {
      party: { name: "m.onnx", format: "onnx" },
      results: [result],
      folded: new Set(graph.nodes.map(({ name }) => name).filter((name) => name !== result)),
      backend: {
        ...right,
        // It is to show what the result is computed from, and does not.
        layers: ["conv1.conv", result],
        async *run(images) {
          for await (const output of right.run(images)) if (output.name === result) yield output;
        },
      },
    };
    const report = await verify({
      graph,
      candidate,
      reference: { party: { name: "w.pth", format: "pth" }, backend: right },
      images: seededImages(0, 2, 64, 32),
      imagesSource: "seed:0",
      parameters: stateDict,
    });
    expect(report.layers.map(({ name, status }) => [name, status])).toEqual([[result, "untested"]]);
    expect(report.faults).toEqual([]);
    expect(report.passed).toBe(false);
    expect(renderText(report).split("\n").at(-1)).toBe("FAIL  no layer could be judged");
  });
});

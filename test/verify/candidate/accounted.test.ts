import { describe, expect, it } from "vitest";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import {
  int,
  ints,
  type OnnxAttributeRecord,
  type OnnxModel,
  onnxNode,
} from "../../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { type OpenOptions, openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous } from "../../convert/import/graphs.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { followed, replaced } from "../../mutation/onnx-edits.js";
import { convert, openReference, rewriteOnnx, SMALL, withTensor, withValues } from "../../support/osnet.js";

/** What stands before, behind and beside the network in a file is stated, computed as well, or a fault. */

const checkpoint = tinyCheckpoint("block");
const HONEST = convert(checkpoint);
const REFERENCE = openReference(checkpoint);
const [FEATURES = 0] = checkpoint.spec.embedding;

async function report(
  bytes: Uint8Array,
  options: OpenOptions = {},
  reference = REFERENCE,
): Promise<ParityReport> {
  return verify(await openVerification({ name: "m.onnx", bytes }, reference, options));
}

type Step = readonly [opType: string, constants?: readonly Tensor[], attributes?: OnnxAttributeRecord];

const floats = (...values: readonly number[]): Tensor => ({
  dtype: "float32",
  shape: values.length === 1 ? [] : [values.length],
  data: Float32Array.from(values),
});
const wholes = (...values: readonly number[]): Tensor => ({
  dtype: "int64",
  shape: [values.length],
  data: BigInt64Array.from(values, BigInt),
});

/** The file with operators behind its output, each of which reads the one before; `&` stands for two of the same. */
function withTail(steps: readonly Step[], names: "ours" | "theirs"): Uint8Array {
  return rewriteOnnx(HONEST, (model) => {
    const [output] = model.graph.outputs;
    if (!output) throw new Error("no output");
    const initializers = new Map(model.graph.initializers);
    const nodes = [...model.graph.nodes];
    let value = output.name;
    steps.forEach(([opType, constants = [], attributes = {}], at) => {
      const read = constants.map((tensor, index) => {
        initializers.set(`tail.${at}.${index}`, tensor);
        return `tail.${at}.${index}`;
      });
      const inputs = opType === "Concat" ? [value, value] : [value, ...read];
      nodes.push(onnxNode(`tail.${at}`, opType, inputs, attributes));
      value = `tail.${at}`;
    });
    const changed: OnnxModel = {
      ...model,
      graph: { ...model.graph, nodes, initializers, outputs: [{ name: value, dtype: "float32" }] },
    };
    return names === "ours" ? changed : anonymous(changed);
  });
}

const FLOAT16 = { to: int(10) };
const FLOAT32 = { to: int(1) };

/** In turn with our names and with others: what stands behind the network is found in the same way. */
const inTurn = <T extends readonly unknown[]>(cases: readonly T[]): readonly [...T, "ours" | "theirs"][] =>
  cases.map((one, turn) => [...one, turn % 2 === 0 ? "ours" : "theirs"]);

const BEHIND: readonly (readonly [opType: string, steps: readonly Step[]])[] = [
  ["Mul", [["Mul", [floats(2)]]]],
  ["Mul", [["Mul", [floats(1.0001)]]]],
  ["Neg", [["Neg"]]],
  ["Softplus", [["Softplus"]]],
  ["Clip", [["Clip", [floats(-1e9), floats(1e9)]]]],
  ["Concat", [["Concat", [], { axis: int(1) }]]],
  [
    "Gather",
    [
      [
        "Gather",
        [wholes(...Array.from({ length: FEATURES }, (_, at) => FEATURES - 1 - at))],
        { axis: int(1) },
      ],
    ],
  ],
  ["Slice", [["Slice", [wholes(0), wholes(FEATURES / 2), wholes(1)]]]],
  ["ReduceMean", [["ReduceMean", [], { axes: ints(0), keepdims: int(1) }]]],
  [
    "Cast",
    [
      ["Cast", [], FLOAT16],
      ["Cast", [], FLOAT32],
    ],
  ],
];

describe("an end that is another", () => {
  /** Without names, but with the output's. */
  const ended = (edit: (model: OnnxModel) => OnnxModel): Uint8Array =>
    rewriteOnnx(HONEST, (model) => {
      const changed = anonymous(edit(model));
      const [output] = changed.graph.outputs;
      return {
        ...changed,
        graph: {
          ...changed.graph,
          nodes: [...changed.graph.nodes, onnxNode("features", "Identity", [output?.name ?? ""])],
          outputs: [{ name: "features", dtype: "float32" }],
        },
      };
    });

  it("is one fault where the maps before the pool are the output", async () => {
    const before = checkpoint.graph.nodes.find(({ name }) => name === "global_avgpool")?.inputs[0] ?? "";
    const { passed, faults } = await report(
      ended((model) => ({
        ...model,
        graph: { ...model.graph, outputs: [{ name: before, dtype: "float32" }] },
      })),
    );
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: checkpoint.graph.outputs.features, kind: "structure" }]);
    expect(faults[0]?.explanation).toContain(`the intermediate layer ${before} as the first output`);
  });

  it("is one fault where an operator follows the pool, which names that alone", async () => {
    const { passed, faults } = await report(
      ended(followed("global_avgpool", (pooled) => [onnxNode("global_avgpool", "Sqrt", [pooled])])),
    );
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "global_avgpool.flatten", kind: "structure" }]);
    expect(faults[0]?.explanation).toMatch(/Sqrt/);
    expect(faults[0]?.explanation).not.toMatch(/Gemm|Relu/);
  });
});

describe("behind the network", () => {
  it.each(inTurn(BEHIND))("%s is a fault of the output, and named", async (opType, steps, names) => {
    const { passed, faults, proof } = await report(withTail(steps, names));
    expect(passed).toBe(false);
    expect(proof?.status).toBe("sampled");
    expect(faults).toMatchObject([{ layer: "fc.2", kind: "structure" }]);
    expect(faults[0]?.explanation).toContain(opType);
  });

  it.each(["ours", "theirs"] as const)(
    "a projection is one, and no classifier, with names that are %s",
    async (names) => {
      const matrix: Tensor = {
        dtype: "float32",
        shape: [FEATURES, FEATURES],
        data: Float32Array.from({ length: FEATURES * FEATURES }, (_, at) => Math.cos(at)),
      };
      const { faults } = await report(withTail([["MatMul", [matrix]]], names));
      expect(faults).toMatchObject([{ kind: "structure", layer: "fc.2" }]);
      expect(faults[0]?.explanation).toContain("found MatMul between the layer and the output");
    },
  );

  it("the same operator before several outputs is one", async () => {
    const halved = rewriteOnnx(HONEST, (model) => {
      const { nodes, outputs, initializers } = model.graph;
      const name = outputs[0]?.name ?? "";
      const cut = (to: string, start: string, end: string) =>
        onnxNode(to, "Slice", [name, start, end, "one"]);
      return {
        ...model,
        graph: {
          ...model.graph,
          nodes: [...nodes, cut("features.1", "zero", "half"), cut("features.2", "half", "whole")],
          outputs: ["features.1", "features.2"].map((name) => ({ name, dtype: "float32" })),
          initializers: new Map([
            ...initializers,
            ["zero", wholes(0)],
            ["one", wholes(1)],
            ["half", wholes(FEATURES / 2)],
            ["whole", wholes(FEATURES)],
          ]),
        },
      };
    });
    const { faults } = await report(halved);
    expect(faults).toHaveLength(1);
    expect(faults[0]?.explanation).toContain('the outputs "features.1", "features.2"');
  });

  it("Transpose is one of its shape or its operator", async () => {
    const { passed, faults } = await report(withTail([["Transpose", [], { perm: ints(1, 0) }]], "theirs"));
    expect(passed).toBe(false);
    expect(faults.map(({ layer, kind }) => [layer, kind])).toEqual([["fc.2", "structure"]]);
  });

  it.each<readonly [string | undefined, readonly Step[], "ours" | "theirs"]>([
    ["L2-normalised", [["LpNormalization", [], { axis: int(1), p: int(2) }]], "ours"],
    ["L2-normalised", [["LpNormalization", [], { axis: int(1), p: int(2) }]], "theirs"],
    ["softmax", [["Softmax", [], { axis: int(1) }]], "theirs"],
    ["sigmoid", [["Sigmoid"]], "ours"],
    [undefined, [["Identity"], ["Identity"], ["Identity"]], "theirs"],
  ])("%s is stated", async (operation, steps, names) => {
    const { passed, faults, output } = await report(withTail(steps, names));
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(output).toMatchObject({ layer: "fc.2", result: "features" });
    expect(output?.operation).toBe(operation);
  });
});

describe("outputs beside each other", () => {
  const tripled = rewriteOnnx(HONEST, (model) => {
    const [output] = model.graph.outputs;
    const { graph } = model;
    return {
      ...model,
      graph: {
        ...graph,
        nodes: [...graph.nodes, onnxNode("junk", "Mul", [output?.name ?? "", "three"])],
        initializers: new Map([...graph.initializers, ["three", floats(3)]]),
        outputs: [{ name: "junk", dtype: "float32" }, ...graph.outputs],
      },
    };
  });

  it("the first counts, and all others are layers", async () => {
    const { passed, faults } = await report(tripled);
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "fc.2", kind: "structure" }]);
    expect(faults[0]?.explanation).toContain("junk");
  });

  it("another that is chosen counts, and the rest is listed", async () => {
    const { passed, output, notJudged } = await report(tripled, { output: "features" });
    expect([passed, output?.name, notJudged]).toEqual([true, "features", ["junk"]]);
  });

  it("one that is not there is refused", async () => {
    await expect(report(tripled, { output: "embedding" })).rejects.toMatchObject({
      problem: { code: "argument" },
    });
  });

  it("gates and logits are outputs like the first", async () => {
    const { passed, furtherOutputs } = await report(convert(checkpoint, { output: "both", gates: true }));
    expect(passed).toBe(true);
    expect(furtherOutputs).toHaveLength(checkpoint.graph.gates.length + 1);
  });
});

describe("outputs by the name of another value", () => {
  const unfolded = convert(checkpoint, { fold: false, output: "both" });

  /** A further output of this name, of a layer as it is or behind an operator. */
  const beside = (name: string, layer: string, opType = "Identity"): Uint8Array =>
    rewriteOnnx(unfolded, (model) => {
      const { graph } = model;
      const rest = graph.outputs.filter((output) => output.name !== name);
      const away = (value: string): string => (value === name ? `${name}.own` : value);
      const renamed = graph.nodes.map((node) => ({
        ...node,
        name: away(node.name),
        inputs: node.inputs.map(away),
        outputs: node.outputs.map(away),
      }));
      const nodes = [
        ...renamed,
        onnxNode(name, opType, [layer], opType === "Softmax" ? { axis: int(1) } : {}),
      ];
      return { ...model, graph: { ...graph, nodes, outputs: [...rest, { name, dtype: "float32" }] } };
    });

  it.each([
    ["logits", "fc.1", "Identity", "fc.1", "found the intermediate layer fc.1"],
    ["embedding", "fc.1", "Identity", "fc.1", "expected its features"],
    ["embedding", "classifier", "Identity", "classifier", "found the network's logits"],
    ["logits", "classifier", "Softmax", "classifier", "found a softmax of the network's logits"],
    ["probabilities", "fc.2", "Softmax", "fc.2", "found a softmax of the network's features"],
    ["probabilities", "classifier", "Identity", "classifier", "softmax or sigmoid of its logits"],
  ])("%s of %s (%s) is a fault", async (name, layer, opType, at, says) => {
    const { passed, faults, proof } = await report(beside(name, layer, opType));
    expect([passed, proof?.status === "proven"]).toEqual([false, false]);
    expect(faults).toMatchObject([{ layer: at, kind: "structure" }]);
    expect(faults[0]?.explanation).toContain(says);
  });

  it.each(["conv2.0.gate[2].gate_activation", "conv2.0.gate[2].gate_vector", "conv1.relu"])(
    "%s is a fault of a gate's vector in a file of other names",
    async (name) => {
      const bytes = rewriteOnnx(beside("further", "conv2.0.gate[1].gate_activation"), (model) => {
        const { graph } = anonymous(model);
        const last = graph.outputs.at(-1)?.name;
        const called = (value: string): string => (value === last ? name : value);
        const nodes = graph.nodes.map((node) => ({ ...node, outputs: node.outputs.map(called) }));
        const outputs = graph.outputs.map((output) => ({ ...output, name: called(output.name) }));
        return { ...model, graph: { ...graph, nodes, outputs }, metadata: new Map() };
      });
      const { passed, faults } = await report(bytes);
      expect(passed).toBe(false);
      expect(faults).toMatchObject([{ layer: "conv2.0.gate[1].gate_activation", kind: "structure" }]);
      expect(faults[0]?.explanation).toContain(JSON.stringify(name));
    },
  );

  it.each([
    ["embedding", "fc.2", "Identity"],
    ["probabilities", "classifier", "Softmax"],
    ["probabilities", "classifier", "Sigmoid"],
    ["anything", "fc.1", "Identity"],
  ])("%s of %s (%s) is none", async (name, layer, opType) => {
    const { passed, faults } = await report(beside(name, layer, opType));
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
  });
});

it.each([
  [["b", 256], ["fc.2"]],
  [["b", 16, 1, 1], ["fc.2"]],
  [[1, null], []],
])("an output that is declared as %j", async (shape, expected) => {
  const bytes = rewriteOnnx(HONEST, ({ graph, ...model }) => ({
    ...model,
    graph: { ...graph, outputs: graph.outputs.map((output) => ({ ...output, shape })) },
  }));
  const { faults } = await report(bytes);
  expect(faults.map(({ layer }) => layer)).toEqual(expected);
});

it.each(["ours", "theirs"] as const)(
  "an output with two more axes of size 1 is nothing: %s",
  async (names) => {
    const unsqueezed = withTail([["Reshape", [wholes(0, FEATURES, 1, 1)]]], names);
    expect(await report(unsqueezed)).toMatchObject({ passed: true, faults: [] });
    const normalised = withTail(
      [
        ["LpNormalization", [], { axis: int(1), p: int(2) }],
        ["Reshape", [wholes(-1, FEATURES, 1, 1)]],
      ],
      names,
    );
    expect(await report(normalised)).toMatchObject({ passed: true, faults: [] });
  },
);

describe("before the network", () => {
  const fed = (opType: string, constants: readonly Tensor[]): Uint8Array =>
    rewriteOnnx(HONEST, (model) => {
      const initializers = new Map(model.graph.initializers);
      const names = constants.map((tensor, at) => {
        initializers.set(`fed.${at}`, tensor);
        return `fed.${at}`;
      });
      const nodes = model.graph.nodes.map((node) => ({
        ...node,
        inputs: node.inputs.map((name) => (name === "images" ? "fed" : name)),
      }));
      const inputs = opType === "Mul" && names.length === 0 ? ["images", "images"] : ["images", ...names];
      return anonymous({
        ...model,
        graph: { ...model.graph, initializers, nodes: [onnxNode("fed", opType, inputs), ...nodes] },
      });
    });

  it.each<readonly [string, readonly Tensor[]]>([
    ["Mul", [floats(2)]],
    ["Mul", [floats(1.000001)]],
    ["Add", [floats(0.1)]],
    ["Abs", []],
    ["Mul", []],
    ["Clip", [floats(-3), floats(3)]],
  ])("%s is a fault at the images", async (opType, constants) => {
    const { passed, faults } = await report(fed(opType, constants));
    expect(passed).toBe(false);
    expect(faults[0]).toMatchObject({ layer: "images", kind: "structure" });
  });

  it("a network that reads RGB is at fault where it is fed BGR", async () => {
    const { passed, faults } = await report(HONEST, { inputOrder: "bgr" });
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "images", kind: "structure" }]);
  });
});

describe("a model as the reference", () => {
  const unfolded = convert(checkpoint, { fold: false });

  it.each([
    ["folded, of folded", HONEST, HONEST],
    ["unfolded, of folded", unfolded, HONEST],
    ["folded, of unfolded", HONEST, unfolded],
  ])("%s", async (_, candidate, reference) => {
    const { passed, faults, coverage, proof } = await report(
      candidate,
      {},
      { name: "r.onnx", bytes: reference },
    );
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
    expect(coverage.missing).toEqual([]);
    // Nothing proves the reference's own operators.
    expect(proof?.status).toBe("sampled");
  });

  it("differs in its output where one of the two normalises", async () => {
    const normalised = withTail([["LpNormalization", [], { axis: int(1), p: int(2) }]], "theirs");
    const { passed, faults } = await report(HONEST, {}, { name: "r.onnx", bytes: normalised });
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "fc.2", kind: "structure" }]);
  });

  const half = convert(checkpoint, { dtype: "float16" });
  const statesPixels = rewriteOnnx(HONEST, (model) => ({
    ...model,
    metadata: new Map([...model.metadata, ["osnet.preprocess", "bgr"]]),
  }));

  it("agrees with the same in half precision, by what that rounds over a network", async () => {
    const { passed, faults } = await report(half, {}, { name: "r.onnx", bytes: HONEST });
    expect(faults).toEqual([]);
    expect(passed).toBe(true);
  });

  const oneWeight = rewriteOnnx(HONEST, (model) => ({
    ...model,
    graph: {
      ...model.graph,
      initializers: withTensor(model.graph.initializers, "conv2.0.gate.fc2.bias", (tensor) =>
        withValues(tensor, { 3: 4 }),
      ),
    },
  }));

  it.each<readonly [string, Uint8Array, Uint8Array, string, RegExp]>([
    ["one weight is another", oneWeight, HONEST, "conv2.0.gate[1].fc2", /fc2\.bias: 1 of 8 values/],
    [
      "it has float16 weights, and the candidate none",
      HONEST,
      half,
      "conv1.bn",
      /the candidate's, rounded to float16/,
    ],
    [
      "the candidate's metadata alone says that it takes pixels",
      statesPixels,
      HONEST,
      "images",
      /according to its metadata/,
    ],
    [
      "the candidate gives logits too, and it has no classifier",
      convert(checkpoint, { output: "both" }),
      HONEST,
      "fc.2",
      /no classifier, so choose the output that counts with --output/,
    ],
  ])("differs once where %s", async (_, candidate, reference, layer, says) => {
    const { passed, faults } = await report(candidate, {}, { name: "r.onnx", bytes: reference });
    expect(passed).toBe(false);
    expect(faults.map((fault) => fault.layer)).toEqual([layer]);
    expect(faults[0]?.explanation).toMatch(says);
  });

  it("is refused where its metadata alone says that it takes pixels", async () => {
    await expect(report(HONEST, {}, { name: "r.onnx", bytes: statesPixels })).rejects.toMatchObject({
      problem: { code: "unsupported", found: expect.stringContaining("osnet.preprocess: bgr") },
    });
  });

  it("is refused where it is at fault itself", async () => {
    const doubled = withTail([["Mul", [floats(2)]]], "theirs");
    await expect(report(HONEST, {}, { name: "r.onnx", bytes: doubled })).rejects.toMatchObject({
      problem: { code: "unsupported" },
    });
  });
});

describe("a first output that is an inner layer", () => {
  const inner = (names: "ours" | "theirs"): Uint8Array =>
    rewriteOnnx(convert(checkpoint, { fold: false }), (model) => {
      const { graph } = model;
      const outputs = [{ name: "fc.1", dtype: "float32" as const }, ...graph.outputs];
      const changed: OnnxModel = { ...model, graph: { ...graph, outputs } };
      return names === "ours" ? changed : anonymous(changed);
    });

  it.each(["ours", "theirs"] as const)("is a fault, with names that are %s", async (names) => {
    const { passed, faults } = await report(inner(names));
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "fc.2", kind: "structure" }]);
    expect(faults[0]?.explanation).toContain("fc.1");
  });

  it("is not a fault if it was chosen", async () => {
    const { passed, output, faults } = await report(inner("ours"), { output: "fc.1" });
    expect(faults).toEqual([]);
    expect([passed, output?.layer]).toEqual([true, "fc.1"]);
  });
});

describe("a limit that the images do not reach, in an osnet-convert file", () => {
  it("is a fault of an ONNX file at its layer", async () => {
    const layer = "conv2.0.conv2c.2.relu";
    const { passed, faults } = await report(
      rewriteOnnx(
        HONEST,
        replaced(layer, (node) => [{ ...node, opType: "Clip", inputs: [...node.inputs, "least", "most"] }], {
          least: floats(0),
          most: floats(100),
        }),
      ),
    );
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer, kind: "structure" }]);
  });

  it("is a fault of a layers model at its layer", async () => {
    const { graph, stateDict } = checkpoint;
    const model = lowerToTfjsLayers(graph, stateDict, { size: SMALL });
    const { json, shards } = encodeTfjs(model);
    const text = new TextDecoder().decode(json);
    const document = JSON.parse(text);
    const layers: { name: string; class_name: string; config: object }[] =
      document.modelTopology.model_config.config.layers;
    const last = layers.find(({ config }) => "name" in config && config.name === "fc.2");
    Object.assign(last ?? {}, {
      class_name: "ReLU",
      config: { name: "fc.2", trainable: true, max_value: 100 },
    });
    const bytes = new TextEncoder().encode(JSON.stringify(document));
    const verification = await openVerification({ name: "model.json", bytes, beside: shards }, REFERENCE);
    const { passed, faults } = await verify(verification);
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer: "fc.2", kind: "structure" }]);
  });
});

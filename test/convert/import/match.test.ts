import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import { variant } from "../../../src/arch/variants.js";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { missing, readFixture } from "../../fixtures.js";
import { float32, GRAPH, parametersFor, SMALL_SPEC, STATE } from "../export/graphs.js";
import { chainModel } from "../formats/onnx/models.js";
import { anonymous, operator, replaceNode } from "./graphs.js";

const SUBJECT = { subject: "theirs.onnx" };
const SIZE = { height: 32, width: 16 };

const lower = (options: OnnxOptions = {}): OnnxModel => lowerToOnnx(GRAPH, STATE, { size: SIZE, ...options });

/** The smallest gate reduction that explains the hidden widths: ⌊8 / 3⌋ and ⌊4 / 3⌋ are 8 / 4 and 4 / 4. */
const GATE = { ...SMALL_SPEC.gate, reduction: 3 };

describe("matchGraph on our own files, names taken away", () => {
  it.each<[string, OnnxOptions]>([
    ["folded", {}],
    ["unfolded", { fold: false }],
    ["opset 11", { opset: 11 }],
    ["opset 26", { opset: 26, fold: false }],
    ["any size", { size: "dynamic" }],
    ["a fixed batch", { batch: 4 }],
    ["logits and gates", { output: "both", gates: true }],
  ])("finds every layer: %s", (_, options) => {
    const model = lower(options);
    const own = matchGraph(model, { ...SUBJECT, graph: GRAPH });
    expect(own.differences).toEqual([]);
    // Here names are the truth that matching does without.
    for (const [layer, value] of own.values) expect(value).toBe(layer);
    const unnamed = matchGraph(anonymous(model), { ...SUBJECT, graph: GRAPH });
    expect(unnamed.differences).toEqual([]);
    expect([...unnamed.values.keys()]).toEqual([...own.values.keys()]);
    expect(unnamed.folded).toEqual(own.folded);
    expect(own.folded.size > 0).toBe(options.fold ?? true);
    expect(own.outputs.map(({ layer }) => layer)).toEqual(
      options.gates ? ["fc.2", "classifier", ...GRAPH.gates.map(({ layer }) => layer)] : ["fc.2"],
    );
  });

  it("finds the architecture too", () => {
    const { spec } = matchGraph(anonymous(lower({ output: "both" })), SUBJECT);
    // Instance norms inside the residual are osnet_ain's; nothing in a graph says how modules are called.
    expect(spec).toEqual({ ...SMALL_SPEC, gate: GATE, dialect: "osnet_ain" });
    expect(matchGraph(lower(), { ...SUBJECT, dialect: "osnet" }).spec).toEqual({
      ...SMALL_SPEC,
      gate: GATE,
      head: null,
    });
  });

  it("is not misled by biases of zeros where a module has none, as dynamo writes them", () => {
    const model = lower({ fold: false });
    const none: [string, Tensor][] = [];
    const nodes = model.graph.nodes.map((node) => {
      const [, weight = "", bias] = node.inputs;
      const channels = model.graph.initializers.get(weight)?.shape[0] ?? 0;
      if (node.opType !== "Conv" || bias !== undefined) return node;
      none.push([`${weight}.none`, float32([channels], Array<number>(channels).fill(0))]);
      return { ...node, inputs: [...node.inputs, `${weight}.none`] };
    });
    const initializers = new Map([...model.graph.initializers, ...none]);
    const match = matchGraph(
      anonymous({ ...model, graph: { ...model.graph, nodes, initializers } }),
      SUBJECT,
    );
    expect(match.differences).toEqual([]);
    expect(match.spec).toEqual({ ...SMALL_SPEC, gate: GATE, dialect: "osnet_ain", head: null });
  });

  it.each(["osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x0_5", "osnet_maxpool"] as const)(
    "knows %s",
    (name) => {
      const spec = { ...variant(name), head: { classes: 7, loss: variant(name).head?.loss ?? "softmax" } };
      const graph = expand(spec);
      const attributes = spec.head.loss === "sigmoid";
      const model = lowerToOnnx(graph, parametersFor(graph), attributes ? {} : { output: "both" });
      expect(matchGraph(anonymous(model), SUBJECT)).toMatchObject({ spec, differences: [] });
    },
  );

  it.each(["relu", "linear"] as const)("knows gates with %s activation and layer norm", (activation) => {
    const spec = { ...SMALL_SPEC, gate: { reduction: 4, activation, layerNorm: true } };
    const graph = expand(spec);
    for (const opset of [11, 17]) {
      const model = lowerToOnnx(graph, parametersFor(graph), { size: SIZE, opset });
      expect(matchGraph(anonymous(model), SUBJECT)).toMatchObject({
        spec: { gate: { ...spec.gate, reduction: 3 } },
        differences: [],
      });
    }
  });

  it("looks through what is done to the embedding afterwards", () => {
    const model = lower();
    const { nodes } = model.graph;
    const tail = [
      operator("ReduceL2", ["fc.2"], "norm", { axes: { type: "ints", value: [1] } }),
      operator("Div", ["fc.2", "norm"], "unit"),
    ];
    const outputs = [{ name: "unit" }];
    const match = matchGraph(
      { ...model, graph: { ...model.graph, nodes: [...nodes, ...tail], outputs } },
      SUBJECT,
    );
    expect(match).toMatchObject({ differences: [] });
    expect(match.outputs).toMatchObject([{ name: "unit", layer: "fc.2", tail: ["l2Normalize"] }]);
  });

  it("takes no search that grows with the network: a fraction of a second for osnet_x1_0", () => {
    const graph = expand(variant("osnet_x1_0"));
    const model = lowerToOnnx(graph, parametersFor(graph));
    // Time of the processor, which a busy machine does not stretch; 50 ms where nothing else runs.
    const times = Array.from({ length: 3 }, () => {
      const start = process.cpuUsage();
      matchGraph(model, SUBJECT);
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000;
    });
    expect(Math.min(...times)).toBeLessThan(1000);
  });
});

/** Files of torch's exporters, and the layers that each must have: folded or not. */
const EXPORTS = [
  ["osnet_x0_25.torch1.13.op9", 79],
  ["osnet_x0_25.torch1.13.op12", 79],
  ["osnet_x0_25.torch1.13.op16", 79],
  ["osnet_x0_25.torch1.13.static_unnamed", 79],
  ["osnet_x0_25.torch1.13.op12.unfolded", 0],
  ["osnet_ibn_x0_25.torch1.13.op12", 78],
  ["osnet_ibn_x0_25.torch1.13.op12.unfolded", 0],
  ["osnet_ain_x0_25.torch1.13.op12", 74],
  ["osnet_ain_x0_25.torch1.13.op12.unfolded", 0],
  ["osnet_nas_x0_25.torch1.13.op12", 76],
  ["osnet_nas_x0_25.torch1.13.op12.unfolded", 0],
] as const;

describe("matchGraph on torch's exports", () => {
  it.for(EXPORTS)("%s: no difference, %i layers folded", ([name, folded], context) => {
    const absent = missing(`${name}.onnx`);
    if (absent) return context.skip(absent);
    const model = decodeOnnx(readFixture(`${name}.onnx`), SUBJECT);
    for (const candidate of [model, anonymous(model)]) {
      const match = matchGraph(candidate, SUBJECT);
      expect(match.differences).toEqual([]);
      expect(match.folded.size).toBe(folded);
      // Every layer but the input has a value of its own or is folded.
      expect(match.values.size).toBe(match.graph.nodes.length - 1 - folded);
      expect(new Set(match.values.values()).size).toBe(match.values.size);
      expect(match.outputs).toMatchObject([{ layer: "fc.2", tail: [] }]);
    }
  });
});

describe("matchGraph on what is no OSNet", () => {
  it("says what it is like", () => {
    const model = chainModel([
      { opType: "Sigmoid", output: "y" },
      { opType: "Relu", output: "z" },
    ]);
    expect(() => matchGraph(model, SUBJECT)).toThrow(
      /^theirs\.onnx: found another network of 0 Conv, 1 Sigmoid and 0 gated values, expected an OSNet.*6 × T gates/,
    );
  });

  it("refuses a node that reads what nothing computes", () => {
    const model = chainModel([{ opType: "Relu", output: "y" }]);
    const nodes = [operator("Relu", ["later"], "y")];
    expect(() => matchGraph({ ...model, graph: { ...model.graph, nodes } }, SUBJECT)).toThrow(
      /a node that reads "later", which nothing before it computes/,
    );
  });

  it("refuses two sources of one value", () => {
    const model = chainModel([
      { opType: "Relu", output: "y" },
      { opType: "Relu", output: "y" },
    ]);
    expect(() => matchGraph(model, SUBJECT)).toThrow(/two definitions of the value "y"/);
  });

  it("is not led astray by sums of sums of sums", () => {
    const model = lower();
    const doubled = Array.from({ length: 60 }, (_, index) =>
      operator("Add", [`d${index}`, `d${index}`], `d${index + 1}`),
    );
    const change = replaceNode(model, "conv2.0.conv3.conv", (node) => [
      operator("Add", [node.inputs[0] ?? "", node.inputs[0] ?? ""], "d0"),
      ...doubled,
      { ...node, inputs: node.inputs.with(0, "d60") },
    ]);
    const { differences } = matchGraph(change, { ...SUBJECT, graph: GRAPH });
    expect(differences).not.toEqual([]);
  });

  it.each([
    [1000, 1],
    [1, 1000],
  ])("takes a channel count of %i in %i nodes as it comes", (channels, count) => {
    const relus = Array.from({ length: count }, (_, index) => ({ opType: "Relu", output: `r${index}` }));
    const model = chainModel(relus);
    const inputs = [{ name: "x", dtype: "float32", shape: [1, channels * 2 ** 40, 1, 1] }] as const;
    const initializers = new Map([["c", float32([], [2])]]);
    const nodes = [operator("Add", ["x", "c"], "y"), ...model.graph.nodes];
    expect(() =>
      matchGraph({ ...model, graph: { ...model.graph, inputs, nodes, initializers } }, SUBJECT),
    ).toThrow(/another network/);
  });
});

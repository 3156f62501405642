import { describe, expect, it } from "vitest";
import { expand, variant } from "../../../src/arch/index.js";
import { lowerToTfjs, splitRelu, type TfjsOptions } from "../../../src/convert/export/tfjs-graph-model.js";
import { nodeName } from "../../../src/convert/export/tfjs-names.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsGraphModel, TfjsNode } from "../../../src/convert/formats/tfjs/model.js";
import { InputError } from "../../../src/core/errors.js";
import { GRAPH, parametersFor, STATE } from "./graphs.js";

const lower = (options: TfjsOptions = {}): TfjsGraphModel =>
  lowerToTfjs(GRAPH, STATE, { size: { height: 64, width: 32 }, ...options });

function nodeOf({ nodes }: TfjsGraphModel, name: string): TfjsNode {
  const node = nodes.find((candidate) => candidate.name === name);
  if (!node) throw new Error(`no ${name}`);
  return node;
}

describe("lowerToTfjs", () => {
  it("declares its input NHWC and its outputs by name, for any batch", () => {
    const { signature } = lower({ output: "both", gates: true });
    expect([...signature.inputs]).toEqual([
      ["images", { name: "images:0", dtype: "DT_FLOAT", shape: [-1, 64, 32, 3] }],
    ]);
    expect([...signature.outputs.keys()].slice(0, 3)).toEqual([
      "features",
      "logits",
      "conv2.0.gate[1].gate_activation",
    ]);
    expect(signature.outputs.get("features")).toEqual({ name: "fc.2:0", dtype: "DT_FLOAT", shape: [-1, 12] });
    expect(signature.outputs.get("conv2.0.gate[1].gate_activation")).toEqual({
      name: "conv2.0.gate-1.gate_activation:0",
      dtype: "DT_FLOAT",
      shape: [-1, 1, 1, 8],
    });
  });

  it("fixes the batch, or leaves the size open, where it is asked to", () => {
    const shapeOf = (options: TfjsOptions) => lower(options).signature.inputs.get("x")?.shape;
    expect(shapeOf({ inputName: "x", batch: 4 })).toEqual([4, 64, 32, 3]);
    expect(shapeOf({ inputName: "x", size: "dynamic" })).toEqual([-1, -1, -1, 3]);
  });

  it("computes bias and ReLU with the convolution, padded alike on both sides", () => {
    const { op, inputs, attributes } = nodeOf(lower(), "conv1.relu");
    expect({ op, inputs }).toEqual({
      op: "_FusedConv2D",
      inputs: ["images", "conv1.bn.folded.weight", "conv1.bn.folded.bias"],
    });
    expect(attributes.get("fused_ops")).toEqual({ type: "strings", value: ["BiasAdd", "Relu"] });
    expect(attributes.get("explicit_paddings")).toEqual({ type: "ints", value: [0, 0, 3, 3, 3, 3, 0, 0] });
    expect(attributes.get("strides")).toEqual({ type: "ints", value: [1, 2, 2, 1] });
  });

  it("writes TensorFlow's own operators only with fuse off, a layer to a node of its name", () => {
    const model = lower({ fuse: false });
    expect(model.nodes.filter(({ op }) => /Fused/.test(op))).toEqual([]);
    expect(nodeOf(model, "conv1.bn").op).toBe("BiasAdd");
    expect(nodeOf(model, "conv1.relu").op).toBe("Relu");
    const unfolded = lower({ fuse: false, fold: false, output: "both" });
    for (const { name } of GRAPH.nodes) expect(nodeOf(unfolded, nodeName(name)).name).toBe(nodeName(name));
  });

  it("splits merged ReLUs into every layer's own node again", () => {
    const plain = lower({ fuse: false }).nodes.map(({ name }) => name);
    const split = splitRelu(lower().nodes, GRAPH).map(({ name }) => name);
    expect(split.toSorted()).toEqual(plain.filter((name) => !name.endsWith("/product")).toSorted());
  });

  it("contains every weight once, in TensorFlow's layout; a gate's are read by all its streams", () => {
    const model = lower({ fold: false });
    const readers = model.nodes.filter(({ inputs }) => inputs.includes("conv2.0.gate.fc1.weight"));
    expect(readers.map(({ name }) => name)).toEqual(["conv2.0.gate-1.relu", "conv2.0.gate-2.relu"]);
    expect(model.weights.get("conv2.0.gate.fc1.weight")?.tensor.shape).toEqual([1, 1, 8, 2]);
    expect(model.weights.get("conv2.0.conv2a.conv2.weight")?.tensor.shape).toEqual([3, 3, 8, 1]);
    expect(model.weights.get("fc.0.weight")?.tensor.shape).toEqual([16, 12]);
    const consts = model.nodes.filter(({ op }) => op === "Const").map(({ name }) => name);
    expect(consts).toEqual([...model.weights.keys()]);
  });

  it("gives the same bytes every time", () => {
    expect(encodeTfjs(lower())).toEqual(encodeTfjs(lower()));
  });

  it("lists nodes in topological order", () => {
    const seen = new Set<string>();
    for (const { name, inputs } of lower({ output: "both" }).nodes) {
      expect(inputs.filter((input) => !seen.has(input))).toEqual([]);
      seen.add(name);
    }
  });

  it.each([
    [{ outputName: "conv1.relu" }, /"conv1.relu", which is already in use/],
    [{ inputName: "conv1.conv.weight", fold: false }, /"conv1.conv.weight", which is already in use/],
    [{ inputName: "a[1]" }, /found "a\[1\]", expected letters, digits/],
    [{ outputName: "" }, /found ""/],
    [{ output: "probabilities" }, /found probabilities, expected features or logits/],
    [{ batch: 0 }, /batch: found 0/],
    [{ size: { height: 1.5, width: 2 } }, /image height: found 1.5/],
  ] as const)("refuses %o", (options, message) => {
    expect(() => lower(options)).toThrow(InputError);
    expect(() => lower(options)).toThrow(message);
  });

  it("is as large as its weights and 180 KB of graph", () => {
    const graph = expand(variant("osnet_x0_25"));
    const { json } = encodeTfjs(lowerToTfjs(graph, parametersFor(graph)));
    expect(json.length).toBeLessThan(180_000);
  });
});

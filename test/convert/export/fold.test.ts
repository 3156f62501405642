import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import type { LayerGraph, LayerNode, Op } from "../../../src/arch/graph.js";
import { variant } from "../../../src/arch/variants.js";
import { foldBatchNorm } from "../../../src/convert/export/weights.js";
import { graphOf } from "./graphs.js";

const CONV: Op = {
  kind: "conv",
  inChannels: 3,
  outChannels: 2,
  kernel: [1, 1],
  stride: [1, 1],
  padding: [0, 0],
  groups: 1,
  bias: false,
};

function conv(name: string, input: string): LayerNode {
  return { name, op: CONV, inputs: [input], parameters: { weight: `${name}.weight` } };
}

function norm(name: string, input: string): LayerNode {
  return {
    name,
    op: { kind: "batchNorm", channels: 2, epsilon: 1e-5 },
    inputs: [input],
    parameters: {
      weight: `${name}.weight`,
      bias: `${name}.bias`,
      runningMean: `${name}.running_mean`,
      runningVar: `${name}.running_var`,
    },
  };
}

const names = (graph: LayerGraph): string[] => graph.nodes.map(({ name }) => name);

describe("foldBatchNorm", () => {
  it("merges a batch norm into the convolution before it, under its own name", () => {
    const graph = graphOf(conv("conv1.conv", "images"), norm("conv1.bn", "conv1.conv"));
    const folded = foldBatchNorm({
      ...graph,
      aliases: new Map([
        ["raw", "conv1.conv"],
        ["conv1", "conv1.bn"],
      ]),
    });
    expect(names(folded)).toEqual(["images", "conv1.bn"]);
    expect(folded.nodes[1]).toEqual({
      name: "conv1.bn",
      op: { ...CONV, bias: true },
      inputs: ["images"],
      parameters: { weight: "conv1.conv.weight" },
      foldedBatchNorm: { from: "conv1.conv", epsilon: 1e-5, parameters: norm("conv1.bn", "").parameters },
    });
    expect([...folded.aliases]).toEqual([["conv1", "conv1.bn"]]);
    expect(names(graph)).toEqual(["images", "conv1.conv", "conv1.bn"]);
  });

  it("leaves a convolution alone that something else reads", () => {
    const graph = graphOf(conv("a", "images"), norm("b", "a"), {
      name: "c",
      op: { kind: "add" },
      inputs: ["a", "b"],
      parameters: {},
    });
    expect(foldBatchNorm(graph)).toEqual(graph);
  });

  it("leaves a convolution alone whose output is a result or a gate vector", () => {
    const graph = graphOf(conv("a", "images"), norm("b", "a"));
    const read = { ...graph, outputs: { ...graph.outputs, logits: "a" } };
    const gated = { ...graph, gates: [{ block: "conv2.0", stream: 1, layer: "a" }] };
    expect(names(foldBatchNorm(read))).toEqual(["images", "a", "b"]);
    expect(names(foldBatchNorm(gated))).toEqual(["images", "a", "b"]);
  });

  it("leaves a batch norm alone that follows anything else", () => {
    const relu: LayerNode = { name: "r", op: { kind: "relu" }, inputs: ["images"], parameters: {} };
    const graph = graphOf(relu, norm("b", "r"), norm("c", "b"));
    expect(foldBatchNorm(graph)).toEqual(graph);
  });

  it("folds all of an OSNet, the depthwise half of each LightConv3x3 and the embedding included", () => {
    const graph = expand(variant("osnet_x0_25"));
    const folded = foldBatchNorm(graph);
    const count = (kind: string, { nodes }: LayerGraph): number =>
      nodes.filter(({ op }) => op.kind === kind).length;
    expect(count("batchNorm", graph)).toBe(80);
    expect(count("batchNorm", folded)).toBe(0);
    expect(folded.nodes.length).toBe(graph.nodes.length - 80);
    const from = new Map(folded.nodes.map(({ name, foldedBatchNorm }) => [name, foldedBatchNorm?.from]));
    expect(from.get("conv2.0.conv2b.1.bn")).toBe("conv2.0.conv2b.1.conv2");
    expect(from.get("fc.1")).toBe("fc.0");
    const layers = new Set(names(folded));
    expect([...folded.aliases.values()].filter((layer) => !layers.has(layer))).toEqual([]);
  });
});

import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";
import { appendOutputs, encodeOnnx } from "../../../../src/convert/formats/onnx/encode.js";
import { type OnnxParts, openParts, withoutShapes } from "../../../../src/convert/formats/onnx/parts.js";
import { serializeModel } from "../../../../src/convert/formats/onnx/wire.js";
import { concatenate } from "../../../../src/core/bytes.js";
import { convert, openFixture } from "../../../support/osnet.js";
import { chainModel } from "./models.js";

const CHAIN = encodeOnnx(
  chainModel([
    { opType: "Relu", output: "a" },
    { opType: "Neg", output: "b" },
    { opType: "Abs", output: "c" },
    { opType: "Identity", output: "y" },
  ]),
);

function partsOf(bytes: Uint8Array): OnnxParts {
  const parts = openParts(bytes);
  if (!parts) throw new Error("no parts");
  return parts;
}

describe("openParts", () => {
  it("takes the nodes between what is known and what is asked for", () => {
    const parts = partsOf(CHAIN);
    expect(parts.part(["b"], new Set(), new Set())).toEqual({
      given: [],
      inputs: ["x"],
      outputs: ["b"],
      nodes: [0, 1],
      initializers: new Set(),
    });
    expect(parts.part(["y", "b"], new Set(["b"]), new Set(["c"]))).toEqual({
      given: ["b"],
      inputs: [],
      outputs: ["c", "y"],
      nodes: [2, 3],
      initializers: new Set(),
    });
  });

  it("writes a model that says what it is given, and keeps all that is not the graph's", () => {
    const parts = partsOf(CHAIN);
    const part = parts.part(["c"], new Set(["a"]), new Set());
    const model = decodeOnnx(parts.encode(part, new Map([["a", [1, 2]]])), { subject: "part" });
    const whole = decodeOnnx(CHAIN, { subject: "whole" });
    expect(model).toEqual({
      ...whole,
      graph: {
        ...whole.graph,
        inputs: [{ name: "a", dtype: "float32", shape: [1, 2] }],
        outputs: [{ name: "c" }],
        nodes: whole.graph.nodes.slice(1, 3),
      },
    });
  });

  it("copies the weights that a part reads, and no others; all parts are the whole", () => {
    const bytes = convert(openFixture());
    const { graph } = decodeOnnx(bytes, { subject: "whole" });
    const parts = partsOf(bytes);
    const last = graph.outputs[0]?.name ?? "";
    const [half] = graph.nodes[Math.floor(graph.nodes.length / 2)]?.outputs ?? [];
    const first = parts.part([half ?? ""], new Set(), new Set());
    const second = parts.part([last], new Set([half ?? ""]), new Set());
    const read = decodeOnnx(parts.encode(first, new Map()), { subject: "part" }).graph;
    expect(read.initializers.size).toBeLessThan(graph.initializers.size);
    for (const [name, tensor] of read.initializers) expect(tensor).toEqual(graph.initializers.get(name));
    const all = new Set([...first.initializers, ...second.initializers]);
    expect(all).toEqual(new Set(graph.initializers.keys()));
    expect(new Set([...first.nodes, ...second.nodes]).size).toBe(graph.nodes.length);
  });

  it("reads a graph that is written in two pieces, as protobuf merges it", () => {
    const part = partsOf(appendOutputs(CHAIN, ["a"])).part(["y"], new Set(), new Set());
    expect(part.nodes).toEqual([0, 1, 2, 3]);
  });

  it("does not cut what has branches", () => {
    const chain = chainModel([{ opType: "If", output: "y" }]);
    const [node] = chain.graph.nodes;
    if (!node) throw new Error("no node");
    const branch = { type: "graph", value: { ...chain.graph, nodes: [], inputs: [] } } as const;
    const nodes = [{ ...node, attributes: new Map([["then_branch", branch]]) }];
    expect(openParts(encodeOnnx({ ...chain, graph: { ...chain.graph, nodes } }))).toBeUndefined();
  });
});

it("withoutShapes removes what a file states of its values, and nothing else", () => {
  const stated = serializeModel({ graph: { valueInfo: [{ name: "a" }, { name: "b" }] } }, 64);
  const rest = withoutShapes(concatenate([CHAIN, stated])) ?? new Uint8Array();
  expect(rest.subarray(0, CHAIN.length)).toEqual(CHAIN);
  // An empty graph, which adds nothing to the other.
  expect(rest.subarray(CHAIN.length)).toEqual(Uint8Array.of(0x3a, 0));
  expect(withoutShapes(CHAIN)).toBeUndefined();
});

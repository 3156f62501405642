import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import { variant } from "../../../src/arch/variants.js";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import type { OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Difference } from "../../../src/convert/import/differences.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { float32, parametersFor } from "../export/graphs.js";
import {
  anonymous,
  dropNode,
  operator,
  replaceNode,
  withAttribute,
  withConstants,
  withNodes,
} from "./graphs.js";

/** Two networks of which nothing is alike but the blocks: batch norms only, and instance norms in places. */
const NETWORKS = ["osnet_x0_25", "osnet_ain_x0_25", "osnet_ibn_x1_0"] as const;
type Network = (typeof NETWORKS)[number];

const GRAPHS = Object.fromEntries(NETWORKS.map((name) => [name, expand(variant(name))])) as Record<
  Network,
  ReturnType<typeof expand>
>;
const STATES = Object.fromEntries(NETWORKS.map((name) => [name, parametersFor(GRAPHS[name])])) as Record<
  Network,
  StateDict
>;

const lower = (name: Network, fold = true): OnnxModel => lowerToOnnx(GRAPHS[name], STATES[name], { fold });

/** What matching says of a file, all names taken away, with the network known and unknown. */
function findings(model: OnnxModel, name: Network = "osnet_x0_25"): readonly Difference[] {
  const subject = "theirs.onnx";
  const known = matchGraph(anonymous(model), { subject, graph: GRAPHS[name] }).differences;
  const unknown = matchGraph(anonymous(model), { subject, dialect: GRAPHS[name].spec.dialect }).differences;
  expect(unknown).toEqual(known);
  return known;
}

describe("a difference is a finding", () => {
  it("finds none in a faithful file", () => {
    for (const name of NETWORKS)
      for (const fold of [true, false]) expect(findings(lower(name, fold), name)).toEqual([]);
  });

  it("a block without its sum, also at the end of the network, where everything after it could be lost", () => {
    for (const layer of ["conv2.1.add", "conv4.1.add"])
      expect(findings(dropNode(lower("osnet_x0_25"), layer))).toContainEqual(
        expect.objectContaining({ layer, expected: "a sum" }),
      );
  });

  it.each([
    ["in training mode", true, 1],
    ["that passes on", false, 0],
  ])("a dropout %s", (_, value, count) => {
    const model = replaceNode(lower("osnet_x0_25"), "conv5.relu", (node) => ({
      ...node,
      outputs: ["before"],
    }));
    const dropout = operator("Dropout", ["before", "ratio", "training"], "conv5.relu");
    const at = model.graph.nodes.findIndex(({ outputs }) => outputs[0] === "before");
    const dropping = withConstants(
      withNodes(model, (nodes) => [...nodes.slice(0, at + 1), dropout, ...nodes.slice(at + 1)]),
      {
        ratio: { dtype: "float32", shape: [], data: Float32Array.of(0.5) },
        training: { dtype: "bool", shape: [], data: Uint8Array.of(Number(value)) },
      },
    );
    const found = findings(dropping);
    expect(found).toHaveLength(count);
    for (const difference of found) expect(difference.found).toContain("a dropout in training mode");
  });

  it("images that are normalised as RGB and read as BGR", () => {
    const model = lower("osnet_x0_25");
    const [images] = model.graph.inputs;
    const flipped = withConstants(
      withNodes(model, (nodes) => [
        operator("Gather", ["fed", "order"], images?.name ?? "", { axis: { type: "int", value: 1 } }),
        ...nodes,
      ]),
      { order: { dtype: "int64", shape: [3], data: BigInt64Array.of(2n, 1n, 0n) } },
    );
    const fed = images ? [{ ...images, name: "fed" }] : [];
    expect(findings({ ...flipped, graph: { ...flipped.graph, inputs: fed } })).toEqual([
      {
        layer: "images",
        found: "channels in the order 2, 1, 0, of normalised images that are BGR",
        expected: "RGB",
      },
    ]);
  });

  it("crossed gates", () => {
    const path = (t: number, suffix = ""): string => `conv3.1.gate[${t}]${suffix}`;
    let model = lower("osnet_x0_25");
    for (const [t, other] of [
      [1, 3],
      [3, 1],
    ] as const)
      model = replaceNode(model, path(t), (node) => ({
        ...node,
        inputs: [node.inputs[0] ?? "", path(other, ".gate_activation")],
      }));
    // Runtimes want the gates before what reads them.
    const { nodes } = model.graph;
    const moved = nodes.filter(({ outputs }) => outputs[0] === path(1));
    const rest = nodes.filter((node) => !moved.includes(node));
    const at = rest.findIndex(({ outputs }) => outputs[0] === path(3));
    model = {
      ...model,
      graph: { ...model.graph, nodes: [...rest.slice(0, at), ...moved, ...rest.slice(at)] },
    };
    expect(findings(model)).toEqual([
      {
        layer: path(1),
        stream: 1,
        found: `a product with ${path(3, ".gate_activation")}`,
        expected: "with the stream's own gate",
      },
      {
        layer: path(3),
        stream: 3,
        found: `a product with ${path(1, ".gate_activation")}`,
        expected: "with the stream's own gate",
      },
    ]);
  });

  it.each(["conv2.1", "conv3.1", "conv4.1"])("%s missing", (block) => {
    const reads =
      lower("osnet_x0_25").graph.nodes.find(({ outputs }) => outputs[0] === `${block}.add`)?.inputs[1] ?? "";
    const model = withNodes(lower("osnet_x0_25"), (nodes) =>
      nodes
        .filter(({ outputs: [output = ""] }) => output !== block && !output.startsWith(`${block}.`))
        .map((node) => ({ ...node, inputs: node.inputs.map((name) => (name === block ? reads : name)) })),
    );
    const { differences } = matchGraph(anonymous(model), {
      subject: "theirs.onnx",
      graph: GRAPHS.osnet_x0_25,
    });
    expect(differences.map(({ layer }) => layer)).toEqual([block]);
  });

  it.each([
    ["the maximum of streams in a sum", "conv3.0.aggregate.partial[2]", "Max", "conv3.0.aggregate"],
    ["a quotient by a gate", "conv4.0.gate[2]", "Div", "conv4.0.gate[2]"],
  ])("%s", (_, value, opType, layer) => {
    const model = replaceNode(lower("osnet_x0_25"), value, (node) => ({ ...node, opType }));
    expect(findings(model).map((each) => each.layer)).toEqual([layer]);
  });

  it("padding by reflection, at the convolution that reads it", () => {
    const model = replaceNode(lower("osnet_x0_25"), "conv4.1.conv2a.bn", (node) => [
      operator("Pad", [node.inputs[0] ?? ""], "padded", {
        mode: { type: "string", value: "reflect" },
        pads: { type: "ints", value: [0, 0, 1, 1, 0, 0, 1, 1] },
      }),
      withAttribute({ ...node, inputs: ["padded", ...node.inputs.slice(1)] }, "pads", {
        type: "ints",
        value: [0, 0, 0, 0],
      }),
    ]);
    expect(findings(model)).toMatchObject([
      { layer: "conv4.1.conv2a.conv2", found: expect.stringContaining("reflect") },
    ]);
  });

  it("none in a convolution of one channel and pixel as a matrix product between Transposes", () => {
    const layer = "conv2.0.gate[2].fc2";
    const weight = STATES.osnet_x0_25.get("conv2.0.gate.fc2.weight") ?? float32([0], []);
    expect(weight.shape).toEqual([16, 1, 1, 1]);
    const model = replaceNode(lower("osnet_x0_25"), layer, ({ inputs: [x = "", , bias = ""] }) => [
      operator("Transpose", [x], "last", { perm: { type: "ints", value: [0, 2, 3, 1] } }),
      operator("MatMul", ["last", "rows"], "product"),
      operator("Add", ["product", bias], "sum"),
      operator("Transpose", ["sum"], layer, { perm: { type: "ints", value: [0, 3, 1, 2] } }),
    ]);
    expect(findings(withConstants(model, { rows: { ...weight, shape: [1, 16] } }))).toEqual([]);
  });

  it("a maximum added to the mean at the end", () => {
    const model = replaceNode(lower("osnet_x0_25"), "global_avgpool.flatten", (node) => [
      operator("GlobalMaxPool", ["conv5.relu"], "most"),
      operator("Add", [node.inputs[0] ?? "", "most"], "both"),
      { ...node, inputs: ["both", ...node.inputs.slice(1)] },
    ]);
    const { differences } = matchGraph(anonymous(model), { subject: "m", graph: GRAPHS.osnet_x0_25 });
    expect(differences).toMatchObject([
      { layer: "global_avgpool", found: "a sum of global_avgpool and a global max pool" },
    ]);
  });

  it("a group norm, with the number of groups", () => {
    const model = replaceNode(lower("osnet_ain_x0_25"), "conv2.0.IN", (node) => ({
      ...node,
      opType: "GroupNormalization",
      attributes: new Map([["num_groups", { type: "int", value: 8 }]]),
    }));
    const { differences } = matchGraph(anonymous(model), { subject: "m", graph: GRAPHS.osnet_ain_x0_25 });
    expect(differences).toMatchObject([
      { layer: "conv2.0.IN", found: expect.stringContaining("num_groups 8") },
    ]);
  });

  it.each(["conv2.0", "conv3.1", "conv4.1"])("%s without its gates", (block) => {
    const gates = [1, 2, 3, 4].map((stream) => `${block}.gate[${stream}]`);
    const model = gates.reduce(dropNode, lower("osnet_x0_25"));
    expect(findings(model)).toEqual(
      gates.map((layer, at) => ({
        layer,
        stream: at + 1,
        found: "no product with a gate",
        expected: "a product of two values",
      })),
    );
  });

  it("gates without their pools", () => {
    const pools = [1, 2, 3, 4].map((stream) => `conv4.0.gate[${stream}].global_avgpool`);
    const found = findings(pools.reduce(dropNode, lower("osnet_x0_25")));
    expect(found.map(({ layer }) => layer)).toEqual(pools);
  });

  it("a gate's pool over one axis, which is named", () => {
    const layer = "conv4.0.gate[1].global_avgpool";
    const model = replaceNode(lower("osnet_x0_25"), layer, ({ inputs: [input = ""] }) =>
      operator("ReduceMean", [input], layer, { axes: { type: "ints", value: [2] } }),
    );
    expect(findings(model)).toMatchObject([{ layer, found: "ReduceMean over axes [2]" }]);
  });

  it("the mean of one row, which also flattens", () => {
    const keepdims = { type: "int", value: 0 } as const;
    const model = withConstants(
      replaceNode(
        replaceNode(lower("osnet_x0_25"), "global_avgpool", ({ inputs: [input = ""] }) =>
          operator("Gather", [input, "first"], "row", { axis: { type: "int", value: 2 } }),
        ),
        "global_avgpool.flatten",
        ({ outputs: [output = ""] }) =>
          operator("ReduceMean", ["row"], output, { axes: { type: "ints", value: [2] }, keepdims }),
      ),
      { first: { dtype: "int64", shape: [], data: BigInt64Array.of(0n) } },
    );
    expect(findings(model)).toEqual([
      { layer: "global_avgpool", found: "Gather", expected: "a global average pool" },
    ]);
  });

  it("two pools in a row that leave a part of the map, in every gate", () => {
    const pool = (input: string, output: string, ...kernel: readonly number[]): OnnxNode =>
      operator("AveragePool", [input], output, { kernel_shape: { type: "ints", value: kernel } });
    const model = withNodes(lower("osnet_x0_25"), (nodes) =>
      nodes.flatMap((node) => {
        const {
          inputs: [input = ""],
          outputs: [output = ""],
        } = node;
        const isGate = /gate.*global_avgpool$/.test(output);
        return isGate ? [pool(input, `${output}/rows`, 2, 1), pool(`${output}/rows`, output, 1, 2)] : node;
      }),
    );
    expect(new Set(findings(model).map(({ found }) => found))).toEqual(new Set(["an average pool"]));
  });

  it("padded images before a convolution that does not pad", () => {
    const pads = { type: "ints", value: [0, 0, 3, 3, 0, 0, 3, 3] } as const;
    const model = replaceNode(lower("osnet_x0_25"), "conv1.relu", (node) => node);
    const [images = ""] = model.graph.inputs.map(({ name }) => name);
    const padded = withNodes(model, ([first, ...nodes]) => [
      operator("Pad", [images], "padded", { pads }),
      operator("Add", ["padded", "mean"], "shifted"),
      ...(first
        ? [
            {
              ...first,
              inputs: ["shifted", ...first.inputs.slice(1)],
              attributes: new Map(first.attributes).set("pads", { type: "ints", value: [0, 0, 0, 0] }),
            },
          ]
        : []),
      ...nodes,
    ]);
    const mean = float32([3, 1, 1], [-0.1, -0.2, -0.3]);
    expect(findings(withConstants(padded, { mean })).map(({ layer }) => layer)).toEqual(["images"]);
  });

  it("a gate after the sum", () => {
    const [block, gate] = ["conv4.0", "conv4.0.gate[1]"];
    const streams = ["a", "b.1", "c.2", "d.3"].map((path) => `${block}.conv2${path}.relu`);
    const model = lower("osnet_x0_25");
    const own = model.graph.nodes.filter(({ outputs: [output] }) => output?.startsWith(gate));
    const isReplaced = ({ outputs: [output = ""] }: OnnxNode): boolean =>
      output.startsWith(`${block}.gate[`) || output.startsWith(`${block}.aggregate.`);
    const reads = (node: OnnxNode): OnnxNode => ({
      ...node,
      inputs: node.inputs.map((name) => (name === streams[0] ? "sum" : name)),
      outputs: node.outputs.map((name) => (name === gate ? `${block}.aggregate` : name)),
    });
    const after = replaceNode(
      withNodes(model, (nodes) => nodes.filter((node) => !isReplaced(node))),
      `${block}.aggregate`,
      () => [operator("Sum", streams, "sum"), ...own.map(reads)],
    );
    expect(findings(after)).toEqual([
      { layer: `${block}.aggregate`, found: "a product of a sum and a sigmoid", expected: "a sum" },
    ]);
  });

  it.each([1, 2, 3, 4])("stream %i dropped", (t) => {
    const model = replaceNode(
      replaceNode(
        replaceNode(lower("osnet_x0_25"), "conv2.1.aggregate.partial[2]", (node) =>
          operator(
            "Add",
            t === 1
              ? ["conv2.1.gate[2]", "conv2.1.gate[3]"]
              : node.inputs.with(1, `conv2.1.gate[${t === 2 ? 3 : 2}]`),
            node.outputs[0] ?? "",
          ),
        ),
        "conv2.1.aggregate.partial[3]",
        () => [],
      ),
      "conv2.1.aggregate",
      (node) => ({ ...node, inputs: ["conv2.1.aggregate.partial[2]", `conv2.1.gate[${t === 4 ? 3 : 4}]`] }),
    );
    const depths = [1, 2, 3, 4].filter((depth) => depth !== t).join(", ");
    const layer = `conv2.1.conv2${"abcd"[t - 1]}.${t === 1 ? "" : "0."}conv1`;
    expect(findings(model)).toEqual([
      { layer, stream: t, found: `streams of depth ${depths}`, expected: `a stream of depth ${t}` },
    ]);
  });

  it("a hard sigmoid for a sigmoid", () => {
    const layer = "conv4.0.gate[2].gate_activation";
    const model = replaceNode(lower("osnet_x0_25"), layer, (node) => ({ ...node, opType: "HardSigmoid" }));
    expect(findings(model)).toEqual([{ layer, stream: 2, found: "HardSigmoid", expected: "a sigmoid" }]);
  });

  it("asymmetric padding, in the operator or before it", () => {
    const shifted = replaceNode(lower("osnet_x0_25"), "maxpool", (node) =>
      withAttribute(node, "pads", { type: "ints", value: [0, 0, 2, 2] }),
    );
    const expected = "padding [1, 1, 1, 1]";
    expect(findings(shifted)).toEqual([{ layer: "maxpool", found: "padding [0, 0, 2, 2]", expected }]);
    const same = replaceNode(lower("osnet_x0_25"), "maxpool", (node) =>
      withAttribute(
        { ...node, attributes: new Map([...node.attributes].filter(([key]) => key !== "pads")) },
        "auto_pad",
        {
          type: "string",
          value: "SAME_UPPER",
        },
      ),
    );
    // 128×64 by stride 2: TensorFlow's SAME needs one row, and puts it below.
    expect(findings(same)).toEqual([{ layer: "maxpool", found: "padding [0, 0, 1, 1]", expected }]);
    const before = replaceNode(lower("osnet_x0_25"), "maxpool", (node) => [
      operator("Pad", node.inputs, "padded", { pads: { type: "ints", value: [0, 0, 0, 0, 0, 0, 1, 1] } }),
      withAttribute({ ...node, inputs: ["padded"] }, "pads", { type: "ints", value: [0, 0, 0, 0] }),
    ]);
    expect(findings(before)).toEqual([{ layer: "maxpool", found: "padding [0, 0, 1, 1]", expected }]);
  });

  it.each([
    "conv1.relu",
    "conv2.0.conv1.relu",
    "conv3.0.conv2c.1.relu",
    "conv4.0",
    "conv5.relu",
    "conv2.0.gate[1].relu",
  ])("ReLU missing: %s", (layer) => {
    const [finding, ...others] = findings(dropNode(lower("osnet_x0_25"), layer));
    expect(finding).toMatchObject({ layer, expected: "a ReLU" });
    expect(others).toEqual([]);
  });

  it("another epsilon", () => {
    const change = (model: OnnxModel, layer: string): OnnxModel =>
      replaceNode(model, layer, (node) =>
        withAttribute(node, "epsilon", { type: "float", value: Math.fround(0.1) }),
      );
    const found = "epsilon 0.1";
    const expected = "epsilon 0.00001";
    expect(findings(change(lower("osnet_x0_25", false), "conv3.0.conv3.bn"))).toEqual([
      { layer: "conv3.0.conv3.bn", found, expected },
    ]);
    expect(findings(change(lower("osnet_ain_x0_25"), "conv1.bn"), "osnet_ain_x0_25")).toEqual([
      { layer: "conv1.bn", found, expected },
    ]);
  });

  it.each<[string, (node: OnnxNode) => OnnxNode]>([
    ["by its attribute", (node) => withAttribute(node, "training_mode", { type: "int", value: 1 })],
    [
      "by its outputs, before opset 14",
      (node) => ({ ...node, outputs: [...node.outputs, "mean", "variance"] }),
    ],
  ])("a batch norm in training mode, %s", (_, change) => {
    const layer = "conv3.0.conv3.bn";
    expect(findings(replaceNode(lower("osnet_x0_25", false), layer, change))).toEqual([
      { layer, found: "a batch norm in training mode", expected: "a batch norm" },
    ]);
  });

  it("an instance norm after the addition instead of before", () => {
    // conv3 → IN → add → ReLU becomes conv3 → add → IN → ReLU.
    const [norm, sum] = ["conv2.0.IN", "conv2.0.add"];
    const model = lower("osnet_ain_x0_25");
    const weights = model.graph.nodes.find(({ outputs }) => outputs[0] === norm)?.inputs.slice(1) ?? [];
    const moved = replaceNode(dropNode(model, norm), sum, (node) => [
      { ...node, outputs: ["sum"] },
      operator("InstanceNormalization", ["sum", ...weights], sum, {
        epsilon: { type: "float", value: 1e-5 },
      }),
    ]);
    const difference = {
      found: "an instance norm before conv2.0",
      expected: "one after conv2.0.conv3.conv",
    };
    expect(findings(moved, "osnet_ain_x0_25")).toEqual([
      { layer: norm, ...difference },
      { layer: "conv2.0", ...difference, kind: "second" },
    ]);
  });

  it("an instance norm before the addition instead of after", () => {
    const [norm, sum] = ["conv2.0.IN", "conv2.0.add"];
    const model = lower("osnet_ibn_x1_0");
    const weights = model.graph.nodes.find(({ outputs }) => outputs[0] === norm)?.inputs.slice(1) ?? [];
    const moved = replaceNode(dropNode(model, norm), sum, (node) => [
      operator("InstanceNormalization", [node.inputs[0] ?? "", ...weights], "normed", {
        epsilon: { type: "float", value: 1e-5 },
      }),
      { ...node, inputs: node.inputs.with(0, "normed") },
    ]);
    const difference = { found: `an instance norm before ${sum}`, expected: `one after ${sum}` };
    expect(findings(moved, "osnet_ibn_x1_0")).toEqual([
      { layer: sum, ...difference },
      { layer: norm, ...difference, kind: "second" },
    ]);
  });

  it("a batch norm missing", () => {
    const layer = "conv3.1.conv2b.0.bn";
    expect(findings(dropNode(lower("osnet_x0_25", false), layer))).toEqual([
      { layer, stream: 2, found: "nothing in its place", expected: "a batch norm" },
    ]);
  });

  it("a gate with weights of its own", () => {
    const layer = "conv2.0.gate[3].fc1";
    const weight = float32(
      [1, 16, 1, 1],
      Array.from({ length: 16 }, (_, index) => index / 16),
    );
    const model = withConstants(
      replaceNode(lower("osnet_x0_25"), layer, (node) => ({ ...node, inputs: node.inputs.with(1, "other") })),
      { other: weight },
    );
    expect(findings(model)).toEqual([
      {
        layer,
        stream: 3,
        found: "weights of its own",
        expected: "those of conv2.0.gate[1].fc1",
        kind: "own-weights",
      },
    ]);
  });

  it("a shortcut from elsewhere", () => {
    const model = replaceNode(lower("osnet_x0_25"), "conv4.1.add", (node) => ({
      ...node,
      inputs: [node.inputs[0] ?? "", "conv4.0.add"],
    }));
    expect(findings(model)).toEqual([
      {
        layer: "conv4.1.add",
        found: "a sum of conv4.1.conv3.bn, conv4.0.add",
        expected: "of conv4.1.conv3.bn, conv4.0",
      },
    ]);
  });

  it("another stride, pool and width", () => {
    const strided = replaceNode(lower("osnet_x0_25"), "conv2.0.conv2a.bn", (node) =>
      withAttribute(node, "dilations", { type: "ints", value: [2, 2] }),
    );
    expect(findings(strided)[0]).toMatchObject({ layer: "conv2.0.conv2a.conv2", found: "dilation [2, 2]" });
    const pooled = replaceNode(lower("osnet_x0_25"), "conv2.2.1", (node) => ({
      ...operator("MaxPool", node.inputs, "conv2.2.1"),
      attributes: node.attributes,
    }));
    expect(findings(pooled)).toEqual([
      { layer: "conv2.2.1", found: "a max pool", expected: "an average pool" },
    ]);
  });
});

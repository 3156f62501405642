import { describe, expect, it } from "vitest";
import type { OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { transposed } from "../../../src/convert/import/operators/constants.js";
import { liftStateDict } from "../../../src/convert/open/lift.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { float32, GRAPH, STATE } from "../export/graphs.js";
import { expectExact } from "./expect-exact.js";
import { anonymous, inputOf, int64, ints, MODEL, operator, replaceNode, withConstants } from "./graphs.js";

/** Ways in which exporters write one and the same layer. */

const SUBJECT = { subject: "theirs.onnx" };

function swap(
  layer: string,
  change: (node: OnnxNode) => readonly OnnxNode[],
  constants: Readonly<Record<string, Tensor>> = {},
): OnnxModel {
  return withConstants(replaceNode(MODEL, layer, change), constants);
}

const plane = { axes: ints(2, 3) };
const FC = STATE.get("fc.0.weight") ?? float32([0], []);

const SPELLINGS: Readonly<Record<string, OnnxModel>> = {
  "ReLU as Clip by attribute": swap("conv1.relu", (node) => [
    operator("Clip", node.inputs, "conv1.relu", { min: { type: "float", value: 0 } }),
  ]),
  "ReLU as Clip by inputs": swap(
    "conv1.relu",
    (node) => [operator("Clip", [inputOf(node), "zero"], "conv1.relu")],
    {
      zero: float32([], [0]),
    },
  ),
  "ReLU as Max": swap("conv1.relu", (node) => [operator("Max", ["zero", inputOf(node)], "conv1.relu")], {
    zero: float32([1], [0]),
  }),
  "the mean as GlobalAveragePool": swap("global_avgpool", (node) => [
    operator("GlobalAveragePool", [inputOf(node)], "global_avgpool"),
  ]),
  "the mean without its plane, then put back": swap("conv2.0.gate[1].global_avgpool", (node) => [
    operator("ReduceMean", [inputOf(node)], "flat", { ...plane, keepdims: { type: "int", value: 0 } }),
    operator("Unsqueeze", ["flat"], "conv2.0.gate[1].global_avgpool", plane),
  ]),
  "the mean, and the mean of its pixel without its plane": swap("global_avgpool.flatten", (node) => [
    operator("ReduceMean", [inputOf(node)], "global_avgpool.flatten", {
      axes: ints(2, -1),
      keepdims: { type: "int", value: 0 },
    }),
  ]),
  "the mean, and the sum of its pixel along one axis": swap("global_avgpool.flatten", (node) => [
    operator("ReduceSum", [inputOf(node)], "line", { axes: ints(3), keepdims: { type: "int", value: 0 } }),
    operator("Squeeze", ["line"], "global_avgpool.flatten", { axes: ints(2) }),
  ]),
  "the mean, with its channels last, and the maximum of its pixel": swap("global_avgpool.flatten", (node) => [
    operator("Transpose", [inputOf(node)], "turned", { perm: ints(0, 2, 3, 1) }),
    operator("ReduceMax", ["turned"], "pixel", { axes: ints(1, 2) }),
    operator("Flatten", ["pixel"], "global_avgpool.flatten"),
  ]),
  "a pool of the whole map": swap("global_avgpool", (node) => [
    operator("AveragePool", [inputOf(node)], "global_avgpool", { kernel_shape: ints(4, 2) }),
  ]),
  "Reshape by a computed shape": swap(
    "global_avgpool.flatten",
    (node) => [
      operator("Shape", [inputOf(node)], "shape"),
      operator("Gather", ["shape", "first"], "batch"),
      operator("Concat", ["batch", "rest"], "target", { axis: { type: "int", value: 0 } }),
      operator("Reshape", [inputOf(node), "target"], "global_avgpool.flatten"),
    ],
    { first: int64(0), rest: int64(-1) },
  ),
  "Reshape with allowzero, as torch's dynamo exporter writes it": swap(
    "global_avgpool.flatten",
    (node) => [
      operator("Reshape", [inputOf(node), "target"], "global_avgpool.flatten", {
        allowzero: { type: "int", value: 1 },
      }),
    ],
    { target: int64(-1, FC.shape[1] ?? 0) },
  ),
  "Squeeze twice": swap("global_avgpool.flatten", (node) => [
    operator("Squeeze", [inputOf(node)], "half", { axes: ints(3) }),
    operator("Squeeze", ["half"], "global_avgpool.flatten", { axes: ints(2) }),
  ]),
  "a batch norm of three axes between two Reshapes": swap(
    "fc.1",
    (node) => [
      operator("Reshape", [inputOf(node), "three"], "long"),
      { ...node, inputs: ["long", ...node.inputs.slice(1)], outputs: ["normed"] },
      operator("Reshape", ["normed", "two"], "fc.1"),
    ],
    { three: int64(-1, FC.shape[0] ?? 0, 1), two: int64(-1, FC.shape[0] ?? 0) },
  ),
  "an activation of three axes": swap(
    "fc.2",
    (node) => [
      operator("Unsqueeze", [inputOf(node)], "long", { axes: ints(2) }),
      operator("Relu", ["long"], "active"),
      operator("Squeeze", ["active"], "fc.2", { axes: ints(2) }),
    ],
    {},
  ),
  "a linear layer as MatMul and Add": swap(
    "fc.0",
    (node) => [
      operator("MatMul", [inputOf(node), "transposed"], "product"),
      operator("Add", ["fc.0.bias", "product"], "fc.0"),
    ],
    { transposed: transposed(FC) },
  ),
  "a linear layer with its weight as it is multiplied": swap(
    "fc.0",
    (node) => [operator("Gemm", [inputOf(node), "transposed", "fc.0.bias"], "fc.0")],
    { transposed: transposed(FC) },
  ),
  "Pad before a convolution": swap("conv1.conv", (node) => [
    operator("Pad", [inputOf(node)], "padded", { pads: ints(0, 0, 3, 3, 0, 0, 3, 3) }),
    {
      ...node,
      inputs: ["padded", ...node.inputs.slice(1)],
      attributes: new Map(node.attributes).set("pads", ints(0, 0, 0, 0)),
    },
  ]),
  "Pad before the max-pool": swap("maxpool", (node) => [
    operator("Pad", [inputOf(node)], "padded", { pads: ints(0, 0, 1, 1, 0, 0, 1, 1) }),
    { ...node, inputs: ["padded"], attributes: new Map(node.attributes).set("pads", ints(0, 0, 0, 0)) },
  ]),
  "auto_pad where it is symmetric": swap("conv2.0.conv2a.conv2", (node) => [
    {
      ...node,
      attributes: new Map(node.attributes)
        .set("pads", ints())
        .set("auto_pad", { type: "string", value: "SAME_UPPER" }),
    },
  ]),
  "an instance norm of its parts": swap(
    "conv2.0.IN",
    (node) => [
      operator("ReduceMean", [inputOf(node)], "mean", plane),
      operator("Sub", [inputOf(node), "mean"], "centered"),
      operator("Pow", ["centered", "two"], "squared"),
      operator("ReduceMean", ["squared"], "variance", plane),
      operator("Add", ["variance", "epsilon"], "stable"),
      operator("Sqrt", ["stable"], "deviation"),
      operator("Div", ["centered", "deviation"], "normed"),
      operator("Unsqueeze", ["conv2.0.IN.weight"], "gamma", { axes: ints(1, 2) }),
      operator("Mul", ["gamma", "normed"], "scaled"),
      operator("Unsqueeze", ["conv2.0.IN.bias"], "beta", { axes: ints(1, 2) }),
      operator("Add", ["scaled", "beta"], "conv2.0.IN"),
    ],
    { two: float32([], [2]), epsilon: float32([], [1e-5]) },
  ),
  "an instance norm scaled afterwards": swap(
    "conv2.0.IN",
    (node) => [
      { ...node, inputs: [inputOf(node), "ones", "zeros"], outputs: ["normed"] },
      operator("Unsqueeze", ["conv2.0.IN.weight"], "gamma", { axes: ints(1, 2) }),
      operator("Mul", ["normed", "gamma"], "scaled"),
      operator("Unsqueeze", ["conv2.0.IN.bias"], "beta", { axes: ints(1, 2) }),
      operator("Add", ["scaled", "beta"], "conv2.0.IN"),
    ],
    { ones: float32([16], Array(16).fill(1)), zeros: float32([16], Array(16).fill(0)) },
  ),
  "what does nothing in inference": swap("conv4.relu", (node) => [
    { ...node, outputs: ["active"] },
    operator("Dropout", ["active"], "kept"),
    operator("Identity", ["kept"], "same"),
    operator("Cast", ["same"], "conv4.relu", { to: { type: "int", value: 1 } }),
  ]),
  "ReLU padded with the lowest number before the max-pool": swap("maxpool", (node) => [
    operator("Pad", [inputOf(node)], "padded", {
      pads: ints(0, 0, 1, 1, 0, 0, 1, 1),
      value: { type: "float", value: -3.4028234663852886e38 },
    }),
    { ...node, inputs: ["padded"], attributes: new Map(node.attributes).set("pads", ints(0, 0, 0, 0)) },
  ]),
  "paddings that the graph computes": swap(
    "maxpool",
    (node) => [
      operator("ConstantOfShape", ["four"], "zeros"),
      operator("Concat", ["ones", "zeros"], "backwards", { axis: { type: "int", value: 0 } }),
      operator("Reshape", ["backwards", "pairs"], "table"),
      operator("Slice", ["table", "minusOne", "lowest", "zero", "minusOne"], "turned"),
      operator("Transpose", ["turned"], "columns", { perm: ints(1, 0) }),
      operator("Reshape", ["columns", "minusOne"], "pads"),
      operator("Pad", [inputOf(node), "pads"], "padded"),
      { ...node, inputs: ["padded"], attributes: new Map(node.attributes).set("pads", ints(0, 0, 0, 0)) },
    ],
    {
      four: int64(4),
      ones: int64(1, 1, 1, 1),
      pairs: int64(-1, 2),
      zero: int64(0),
      minusOne: int64(-1),
      lowest: int64(-9007199254740991),
    },
  ),
  "Dropout with its mask, BatchNormalization of opset 7": replaceNode(
    swap("conv1.bn", (node) => [
      { ...node, attributes: new Map(node.attributes).set("spatial", { type: "int", value: 1 }) },
    ]),
    "conv4.relu",
    (node) => [
      { ...node, outputs: ["active"] },
      {
        ...operator("Dropout", ["active"], "conv4.relu", { ratio: { type: "float", value: 0.5 } }),
        outputs: ["conv4.relu", "mask"],
      },
    ],
  ),
  "a mean over one axis after the other": swap("global_avgpool", (node) => [
    operator("ReduceMean", [inputOf(node)], "rows", { axes: ints(2) }),
    operator("ReduceMean", ["rows"], "global_avgpool", { axes: ints(3) }),
  ]),
  "two pools, of columns and of the row that is left": swap("global_avgpool", (node) => [
    operator("AveragePool", [inputOf(node)], "rows", { kernel_shape: ints(4, 1) }),
    operator("AveragePool", ["rows"], "global_avgpool", { kernel_shape: ints(1, 2) }),
  ]),
  "a sum that begins with 0": swap(
    "conv2.0.aggregate",
    (node) => [
      operator("Add", [inputOf(node), "nought"], "first"),
      { ...node, inputs: ["first", ...node.inputs.slice(1)] },
    ],
    { nought: float32([], [0]) },
  ),
  "initializers that are inputs too": {
    ...MODEL,
    irVersion: 3,
    graph: {
      ...MODEL.graph,
      inputs: [
        ...[...MODEL.graph.initializers].map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
        ...MODEL.graph.inputs,
      ],
    },
  },
  "a constant as a node": withConstants(
    replaceNode(MODEL, "conv1.conv", (node) => [
      operator("Constant", [], "constant", {
        value: { type: "tensor", value: STATE.get("conv1.conv.weight") ?? float32([0], []) },
      }),
      { ...node, inputs: [inputOf(node), "constant"] },
    ]),
    {},
  ),
};

/** Reductions of the pooled map that leave more or less than its pixel. */
const OTHERS: Readonly<Record<string, readonly OnnxNode[]>> = {
  "over the channels": [operator("ReduceMean", ["global_avgpool"], "mean", { axes: ints(1) })],
  "over everything": [operator("ReduceMean", ["global_avgpool"], "mean")],
  "over the channels, which are last": [
    operator("Transpose", ["global_avgpool"], "turned", { perm: ints(0, 2, 3, 1) }),
    operator("ReduceMean", ["turned"], "mean", { axes: ints(3) }),
  ],
  "over the images": [operator("ReduceMax", ["global_avgpool"], "mean", { axes: ints(0, 2, 3) })],
};

/** The embedding as 1×1 convolutions of the pooled map, which is not flattened, and no classifier. */
function withPixels(): OnnxModel {
  const [features] = MODEL.graph.outputs;
  const kernel = { ...FC, shape: [...FC.shape, 1, 1] };
  const steps = swap(
    "fc.0",
    () => [operator("Conv", ["global_avgpool", "kernel", "fc.0.bias"], "fc.0", { kernel_shape: ints(1, 1) })],
    { kernel },
  );
  const { graph } = steps;
  return {
    ...steps,
    graph: {
      ...graph,
      outputs: features ? [{ ...features, shape: ["batch", FC.shape[0] ?? 0, 1, 1] }] : [],
      nodes: graph.nodes.filter(
        ({ outputs: [value = ""] }) => !/^(classifier|logits|global_avgpool\.flatten)$/.test(value),
      ),
    },
  };
}

describe("matchGraph knows the spellings of a layer", () => {
  it("an activation that has two more axes for a while, whose values are read as they are", () => {
    const model = swap("fc.2", (node) => [
      operator("Relu", [inputOf(node)], "active"),
      operator("Unsqueeze", ["active"], "pixel", plane),
      operator("Squeeze", ["pixel"], "fc.2", plane),
    ]);
    expectExact(model, GRAPH, STATE);
    expect(matchGraph(model, { ...SUBJECT, graph: GRAPH }).readings).toEqual(new Map());
  });

  it("an embedding of single pixels", () => {
    const { differences, outputs } = matchGraph(anonymous(withPixels()), { ...SUBJECT, graph: GRAPH });
    expect(differences).toEqual([]);
    expect(outputs.map(({ layer, operations }) => ({ layer, operations }))).toEqual([
      { layer: "fc.2", operations: [] },
    ]);
  });

  it.each(Object.entries(OTHERS))("and not a reduction of the pooled map %s", (_, nodes) => {
    const model = swap("global_avgpool.flatten", (node) => [...nodes, { ...node, inputs: ["mean"] }]);
    expect(matchGraph(anonymous(model), { ...SUBJECT, graph: GRAPH }).differences).not.toEqual([]);
  });

  it.each(Object.entries(SPELLINGS))("%s", (_, model) => {
    expectExact(model, GRAPH, STATE);
  });

  it("a batch norm as a product and a sum, which leaves two of its four parameters", () => {
    const weight = float32(
      [8, 1, 1],
      Array.from({ length: 8 }, (_, index) => index + 1),
    );
    const model = swap(
      "conv1.bn",
      (node) => [
        operator("Mul", [inputOf(node), "scale"], "scaled"),
        operator("Add", ["scaled", "shift"], "conv1.bn"),
      ],
      { scale: weight, shift: weight },
    );
    const match = matchGraph(anonymous(model), { ...SUBJECT, graph: GRAPH });
    expect(match.differences).toEqual([]);
    expect([...match.affine]).toEqual(["conv1.bn"]);
    const { stateDict, reparameterised } = liftStateDict(match, SUBJECT);
    expect(reparameterised).toEqual(
      ["weight", "bias", "running_mean", "running_var"].map((role) => `conv1.bn.${role}`),
    );
    expect(stateDict.get("conv1.bn.weight")?.data).toEqual(weight.data);
    expect(stateDict.get("conv1.conv.weight")).toEqual(STATE.get("conv1.conv.weight"));
  });
});

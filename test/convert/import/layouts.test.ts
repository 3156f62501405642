import { describe, expect, it } from "vitest";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { liftStateDict } from "../../../src/convert/open/lift.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { castFloat } from "../../../src/core/tensor-cast.js";
import { float32, GRAPH, STATE } from "../export/graphs.js";
import { expectExact } from "./expect-exact.js";
import {
  anonymous,
  inNhwc,
  inputOf,
  int64,
  ints,
  MODEL,
  onIntegers,
  operator,
  replaceNode,
  takingPixels,
  withConstants,
  withNodes,
} from "./graphs.js";

const SUBJECT = { subject: "theirs.onnx" };
const KNOWN = { ...SUBJECT, graph: GRAPH };

/** Every float in half precision, as converters write a model. */
function inHalf(model: OnnxModel): OnnxModel {
  const initializers = [...model.graph.initializers].map(
    ([name, tensor]) =>
      [name, tensor.dtype === "float32" ? castFloat(tensor, "float16", name) : tensor] as const,
  );
  return { ...model, graph: { ...model.graph, initializers: new Map(initializers) } };
}

describe("matchGraph on NHWC", () => {
  it("finds every layer between transposes, and how to read its values", () => {
    const match = matchGraph(anonymous(inNhwc(MODEL)), KNOWN);
    expect(match.differences).toEqual([]);
    expect(match.preprocess).toMatchObject({ layout: [0, 2, 3, 1], order: [0, 1, 2], scale: [1, 1, 1] });
    const reading = (layer: string): unknown => match.readings.get(match.values.get(layer) ?? "");
    // A convolution's own value is NCHW, what comes after the transpose is not, and an embedding has two axes.
    expect(reading("conv1.conv")).toBeUndefined();
    expect(reading("conv1.relu")).toEqual({ layout: [0, 2, 3, 1] });
    expect(reading("conv2.0.gate[1].global_avgpool")).toEqual({ layout: [0, 2, 3, 1] });
    expect(reading("fc.0")).toBeUndefined();
    for (const [path, tensor] of liftStateDict(match, SUBJECT).stateDict)
      expect(tensor, path).toEqual(STATE.get(path));
  });

  it("reads constants along the last axis, and a matrix product along it as a convolution", () => {
    const scale = float32(
      [8],
      Array.from({ length: 8 }, (_, index) => index + 1),
    );
    const fc1 = STATE.get("conv2.0.gate.fc1.weight") ?? float32([0], []);
    const [hidden = 0, channels = 0] = fc1.shape;
    const matrix = float32(
      [channels, hidden],
      Array.from({ length: channels * hidden }, (_, at) =>
        Number(fc1.data[(at % hidden) * channels + Math.floor(at / hidden)]),
      ),
    );
    // What the transposes around them were is dead then.
    const spelled = replaceNode(inNhwc(MODEL), "conv1.bn", (node) => [
      operator("Mul", ["conv1.conv", "scale"], "scaled"),
      operator("Add", ["scaled", "scale"], node.outputs[0] ?? ""),
    ]);
    const model = replaceNode(spelled, "conv2.0.gate[1].fc1", (node) => [
      operator("MatMul", ["conv2.0.gate[1].global_avgpool", "matrix"], "product"),
      operator("Add", ["product", "conv2.0.gate.fc1.bias"], node.outputs[0] ?? ""),
    ]);
    const match = matchGraph(anonymous(withConstants(model, { scale, matrix })), KNOWN);
    expect(match.differences).toEqual([]);
    expect(match.constants.get("conv1.bn")?.weight?.data).toEqual(scale.data);
    expect(match.constants.get("conv2.0.gate[1].fc1")?.weight?.data).toEqual(fc1.data);
  });

  it("does not take an operator on other axes for the layer", () => {
    // Its batch norm runs along the width of NHWC.
    const model = withNodes(inNhwc(MODEL), (nodes) =>
      nodes.flatMap((node) =>
        node.outputs[0] === "conv1.bn.nchw_out"
          ? [{ ...node, inputs: ["conv1.conv", ...node.inputs.slice(1)], outputs: ["conv1.bn"] }]
          : /^conv1\.bn(\.nchw_in)?$/.test(node.outputs[0] ?? "")
            ? []
            : [node],
      ),
    );
    expect(matchGraph(anonymous(model), KNOWN).differences[0]).toEqual({
      layer: "conv1.bn",
      found: "BatchNormalization over other axes",
      expected: "a batch norm",
    });
  });
});

describe("matchGraph on a graph that normalises its input", () => {
  it("states what it does", () => {
    const { differences, preprocess } = matchGraph(anonymous(takingPixels(MODEL)), KNOWN);
    expect(differences).toEqual([]);
    expect(preprocess).toMatchObject({ layout: [0, 2, 3, 1], dtype: "uint8", order: [2, 1, 0], unknown: [] });
    expect(preprocess?.scale[0]).toBeCloseTo(1 / 255 / 0.229, 6);
    expect(preprocess?.shift[2]).toBeCloseTo(-0.406 / 0.225, 6);
  });

  it.each([
    [[0.485, 0.456, 0.406], []],
    [[0.485, 0.456, 0.41], ["images"]],
  ])("takes half precision into account: a mean of %j", (mean, layers) => {
    const model = takingPixels(MODEL);
    const other = withConstants(model, { "p.mean": float32([1, 3, 1, 1], mean) });
    const { differences } = matchGraph(anonymous(inHalf(other)), KNOWN);
    expect(differences.map(({ layer }) => layer)).toEqual(layers);
  });

  it("names what it does not know", () => {
    const model = takingPixels(MODEL);
    const resized = replaceNode(model, "p.nchw", (node) => [
      { ...node, outputs: ["p.large"] },
      operator("Resize", ["p.large"], "p.nchw"),
    ]);
    expect(matchGraph(anonymous(resized), KNOWN).differences).toEqual([
      { layer: "images", found: "Resize before the network", expected: expect.any(String) },
    ]);
  });
});

describe("matchGraph on hostile constants", () => {
  it("refuses a graph that copies a weight again and again", () => {
    const big: Tensor = { dtype: "int8", shape: [1024, 1024], data: new Int8Array(1024 * 1024) };
    const model = withConstants(
      withNodes(MODEL, (nodes) => [
        ...Array.from({ length: 40 }, (_, at) =>
          operator("DequantizeLinear", ["big", `step${at}`], `copy${at}`),
        ),
        ...nodes,
      ]),
      {
        big,
        ...Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`step${at}`, float32([], [at + 1])])),
      },
    );
    expect(() => matchGraph(model, KNOWN)).toThrow("constants that expand without limit");
  });
});

describe("matchGraph on integers", () => {
  it("says where activations are first rounded, and reads integers by their own step only", () => {
    expect(matchGraph(MODEL, KNOWN).quantised).toBeUndefined();
    expect(matchGraph(anonymous(onIntegers(MODEL)), KNOWN).quantised?.layer).toBe("images");
    const taken = (scale: string) =>
      withConstants(
        withNodes(MODEL, (nodes) =>
          nodes.flatMap((node) => {
            if (node.outputs[0] !== "conv3.0.conv2b.0.relu") return node;
            const integers = operator("DynamicQuantizeLinear", ["x"], "q");
            return [
              { ...node, outputs: ["x"] },
              { ...integers, outputs: ["q", "step", "zero"] },
              operator("DequantizeLinear", ["q", scale, "zero"], "conv3.0.conv2b.0.relu"),
            ];
          }),
        ),
        { ten: float32([], [10]) },
      );
    expect(matchGraph(taken("step"), KNOWN)).toMatchObject({
      differences: [],
      quantised: { layer: "conv3.0.conv2b.0.relu", found: "DynamicQuantizeLinear after it" },
    });
    expect(matchGraph(taken("ten"), KNOWN).differences).not.toEqual([]);
  });

  it("lifts dequantised weights, within half a step by channel", () => {
    const match = matchGraph(anonymous(onIntegers(MODEL)), KNOWN);
    expect(match.differences).toEqual([]);
    const { stateDict } = liftStateDict(match, SUBJECT);
    const halves = match.roundings.get("conv1.conv")?.weight ?? new Float32Array();
    expect(halves).toHaveLength(8);
    const [found, trained] = [stateDict, STATE].map(
      (state) => state.get("conv1.conv.weight")?.data as Float32Array,
    );
    const perRow = (trained?.length ?? 0) / 8;
    let largest = 0;
    for (const [at, value] of trained?.entries() ?? [])
      largest = Math.max(
        largest,
        Math.abs(value - Number(found?.[at])) / (halves[Math.floor(at / perRow)] ?? 0),
      );
    expect(largest).toBeGreaterThan(0.5);
    expect(largest).toBeLessThan(1.001);
    expect(stateDict.get("fc.0.weight")).toEqual(STATE.get("fc.0.weight"));
  });
});

/** An instance norm as tf2onnx writes Keras's GroupNormalization, on maps of 8×4 with channels last. */
function inGroups(
  target: readonly number[],
  axes: readonly number[],
  back: readonly number[] = [8, 4, 16],
): OnnxModel {
  const vector = target.map((size, at) => (at === 0 || axes.includes(at) ? 1 : size));
  const constant = (role: string): Tensor =>
    ({ ...STATE.get(`conv2.0.IN.${role}`), shape: vector }) as Tensor;
  const model = replaceNode(MODEL, "conv2.0.IN", (node) => [
    operator("Transpose", [inputOf(node)], "last", { perm: ints(0, 2, 3, 1) }),
    operator("Reshape", ["last", "target"], "grouped"),
    operator("ReduceMean", ["grouped"], "mean", { axes: ints(...axes) }),
    operator("Sub", ["grouped", "mean"], "centred"),
    operator("Mul", ["centred", "centred"], "squared"),
    operator("ReduceMean", ["squared"], "variance", { axes: ints(...axes) }),
    operator("Add", ["variance", "epsilon"], "stable"),
    operator("Sqrt", ["stable"], "deviation"),
    operator("Reciprocal", ["deviation"], "inverse"),
    operator("Mul", ["inverse", "gamma"], "scale"),
    operator("Mul", ["grouped", "scale"], "product"),
    operator("Neg", ["mean"], "negative"),
    operator("Mul", ["negative", "scale"], "shift"),
    operator("Add", ["shift", "beta"], "bias"),
    operator("Add", ["product", "bias"], "normed"),
    operator("Shape", [inputOf(node)], "shape"),
    operator("Gather", ["shape", "order"], "sizes"),
    operator("Cast", ["sizes"], "narrow", { to: { type: "int", value: 6 } }),
    operator("Slice", ["narrow", "none", "one", "none"], "batch"),
    operator("Concat", ["batch", ...back.map((_, at) => `size${at}`)], "list", {
      axis: { type: "int", value: 0 },
    }),
    operator("Cast", ["list"], "wide", { to: { type: "int", value: 7 } }),
    operator("Reshape", ["normed", "wide"], "map"),
    operator("Transpose", ["map"], "conv2.0.IN", { perm: ints(0, 3, 1, 2) }),
  ]);
  return withConstants(model, {
    target: int64(...target),
    epsilon: float32([], [1e-5]),
    gamma: constant("weight"),
    beta: constant("bias"),
    order: int64(0, 2, 3, 1),
    none: int64(0),
    one: int64(1),
    ...Object.fromEntries(back.map((size, at) => [`size${at}`, int64(size)])),
  });
}

describe("an instance norm in groups of one channel", () => {
  it.each<readonly [target: readonly number[], axes: readonly number[]]>([
    [
      [-1, 8, 4, 16, 1],
      [1, 2, 4],
    ],
    [
      [-1, 8, 4, 16, 1],
      [1, 2],
    ],
    [
      [-1, 8, 4, 1, 16],
      [1, 2],
    ],
  ])("is one, as %j", (target, axes) => {
    expectExact(inGroups(target, axes), GRAPH, STATE);
  });

  const [map, turned] = [
    [8, 4, 16],
    [4, 8, 16],
  ] as const;
  it.each<
    readonly [what: string, target: readonly number[], axes: readonly number[], back: readonly number[]]
  >([
    ["two channels to a group", [-1, 8, 4, 8, 2], [1, 2, 4], map],
    ["all channels in one group", [-1, 8, 4, 1, 16], [1, 2, 4], map],
    ["height and width swapped", [-1, 4, 8, 16, 1], [1, 2, 4], turned],
    ["width and channels swapped", [-1, 8, 16, 4, 1], [1, 2, 4], map],
    ["one axis", [-1, 8, 4, 16, 1], [1, 4], map],
    ["the images too", [-1, 8, 4, 16, 1], [0, 1, 2, 4], map],
    ["another map afterwards", [-1, 8, 4, 16, 1], [1, 2, 4], turned],
  ])("is none with %s", (_, target, axes, back) => {
    const { differences } = matchGraph(anonymous(inGroups(target, axes, back)), KNOWN);
    expect(differences[0]?.layer).toMatch(/^conv2\.0/);
  });
});

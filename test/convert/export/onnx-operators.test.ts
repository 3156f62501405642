import { describe, expect, it } from "vitest";
import type { LayerNode, Op, ParameterRole } from "../../../src/arch/graph.js";
import { lowerToOnnx, OPSET_RANGE } from "../../../src/convert/export/onnx.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { float32, graphOf } from "./graphs.js";
import { runOnnx } from "./onnx/run.js";

/** Small cases with results worked out by hand, each on three-channel images. */
interface Case {
  readonly what: string;
  readonly images: Tensor<"float32">;
  readonly layers: readonly LayerNode[];
  readonly parameters?: Readonly<Record<string, Tensor>>;
  readonly expected: readonly number[];
}

function layer(
  name: string,
  op: Op,
  inputs: readonly string[],
  ...roles: readonly ParameterRole[]
): LayerNode {
  return { name, op, inputs, parameters: Object.fromEntries(roles.map((role) => [role, `${name}.${role}`])) };
}

const conv = (outChannels: number, size: number, groups = 1, stride = 1): Op => ({
  kind: "conv",
  inChannels: 3,
  outChannels,
  kernel: [size, size],
  stride: [stride, stride],
  padding: [(size - 1) / 2, (size - 1) / 2],
  groups,
  bias: false,
});
const plane = (...values: readonly number[]): number[] => [...values, ...values, ...values];
const pixel = (...values: readonly number[]): Tensor<"float32"> => float32([1, 3, 1, 1], values);

const CASES: readonly Case[] = [
  {
    what: "conv mixes channels",
    images: pixel(1, 2, 3),
    layers: [layer("l", conv(2, 1), ["images"], "weight")],
    parameters: { "l.weight": float32([2, 3, 1, 1], [1, 10, 100, 0, 0, -1]) },
    expected: [321, -3],
  },
  {
    what: "conv pads both sides alike and strides from the first pixel",
    images: float32([1, 3, 4, 4], plane(...Array.from({ length: 16 }, (_, index) => index))),
    layers: [layer("l", conv(3, 3, 3, 2), ["images"], "weight")],
    // The kernel's first tap: up and left of each output's centre at rows and columns 0 and 2.
    parameters: { "l.weight": float32([3, 1, 3, 3], plane(1, 0, 0, 0, 0, 0, 0, 0, 0)) },
    expected: plane(0, 0, 0, 5),
  },
  {
    what: "linear multiplies by the transposed weight",
    images: pixel(1, 2, 3),
    layers: [
      layer("f", { kind: "flatten" }, ["images"]),
      layer("l", { kind: "linear", inFeatures: 3, outFeatures: 2 }, ["f"], "weight", "bias"),
    ],
    parameters: { "l.weight": float32([2, 3], [1, 0, 0, 1, 1, 1]), "l.bias": float32([2], [0.5, -6]) },
    expected: [1.5, 0],
  },
  {
    what: "batch norm",
    images: pixel(3, 3, -1),
    layers: [
      layer(
        "l",
        { kind: "batchNorm", channels: 3, epsilon: 1 },
        ["images"],
        "weight",
        "bias",
        "runningMean",
        "runningVar",
      ),
    ],
    parameters: {
      "l.weight": float32([3], [2, 1, 1]),
      "l.bias": float32([3], [0, 10, 0]),
      "l.runningMean": float32([3], [1, 3, 0]),
      "l.runningVar": float32([3], [3, 0, 0]),
    },
    expected: [2, 10, -1],
  },
  {
    what: "instance norm divides by the biased deviation",
    // Channel 1: mean 4, biased variance 3, with ε = 1 a deviation of 2.
    images: float32([1, 3, 2, 2], [1, 5, 5, 5, 7, 7, 7, 7, 0, 0, 0, 0]),
    layers: [layer("l", { kind: "instanceNorm", channels: 3, epsilon: 1 }, ["images"], "weight", "bias")],
    parameters: { "l.weight": float32([3], [2, 1, 1]), "l.bias": float32([3], [0, 9, 0]) },
    expected: [-3, 1, 1, 1, 9, 9, 9, 9, 0, 0, 0, 0],
  },
  {
    what: "layer norm over the channels divides by the biased deviation",
    // Mean 3, biased variance 2·3²/3 = 6, with ε = 3 a deviation of 3.
    images: pixel(0, 3, 6),
    layers: [layer("l", { kind: "layerNorm", channels: 3, epsilon: 3 }, ["images"], "weight", "bias")],
    parameters: { "l.weight": float32([3, 1, 1], [2, 1, 1]), "l.bias": float32([3, 1, 1], [0, 0, 5]) },
    expected: [-2, 0, 6],
  },
  {
    what: "relu",
    images: pixel(-1, 0, 2),
    layers: [layer("l", { kind: "relu" }, ["images"])],
    expected: [0, 0, 2],
  },
  {
    what: "sigmoid",
    images: pixel(0, 200, -200),
    layers: [layer("l", { kind: "sigmoid" }, ["images"])],
    expected: [0.5, 1, 0],
  },
  {
    what: "max pool, where padding never wins",
    images: float32([1, 3, 2, 2], plane(-4, -3, -2, -1)),
    layers: [layer("l", { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] }, ["images"])],
    expected: plane(-1),
  },
  {
    what: "average pool, which drops a partial window",
    images: float32([1, 3, 3, 3], plane(1, 2, 99, 3, 6, 99, 99, 99, 99)),
    layers: [layer("l", { kind: "avgPool", kernel: [2, 2], stride: [2, 2] }, ["images"])],
    expected: plane(3),
  },
  {
    what: "global pooling, and scaling by its result",
    images: float32([1, 3, 1, 2], [1, 3, -2, -4, 0, 0]),
    layers: [
      layer("mean", { kind: "globalAvgPool" }, ["images"]),
      layer("max", { kind: "globalMaxPool" }, ["images"]),
      layer("product", { kind: "scale" }, ["mean", "max"]),
      layer("l", { kind: "scale" }, ["images", "product"]),
    ],
    expected: [6, 18, -12, -24, 0, 0],
  },
  {
    what: "a sum of many, from left to right",
    // In float32, (1 + 1e8) − 1e8 = 0, while 1 + (1e8 − 1e8) = 1.
    images: pixel(1, 1e8, -1e8),
    layers: [
      ...["a", "b", "c"].map((name) => layer(name, conv(1, 1), ["images"], "weight")),
      layer("l", { kind: "add" }, ["a", "b", "c"]),
    ],
    parameters: {
      "a.weight": float32([1, 3, 1, 1], [1, 0, 0]),
      "b.weight": float32([1, 3, 1, 1], [0, 1, 0]),
      "c.weight": float32([1, 3, 1, 1], [0, 0, 1]),
    },
    expected: [0],
  },
];

describe.each([OPSET_RANGE[0], 13, 17, OPSET_RANGE[1]])("operators of opset %i in onnxruntime", (opset) => {
  it.each(CASES)("$what", async ({ images, layers, parameters = {}, expected }) => {
    const [, , height = 1, width = 1] = images.shape;
    const state = new Map(Object.entries(parameters));
    const model = lowerToOnnx(graphOf(...layers), state, { opset, fold: false, size: { height, width } });
    const features = (await runOnnx(model, images)).get("features");
    expect(features?.shape[0]).toBe(1);
    expect(features?.data.length).toBe(expected.length);
    features?.data.forEach((value, index) => {
      expect(value).toBeCloseTo(expected[index] ?? Number.NaN, 6);
    });
  });
});

describe.each([OPSET_RANGE[0], OPSET_RANGE[1]])("float16 operators of opset %i in onnxruntime", (opset) => {
  // 1e8 is more than float16 holds.
  it.each(CASES.filter(({ images }) => images.data.every((value) => value < 65_504)))(
    "$what",
    async ({ images, layers, parameters = {}, expected }) => {
      const [, , height = 1, width = 1] = images.shape;
      const options = { opset, fold: false, size: { height, width }, dtype: "float16" } as const;
      const model = lowerToOnnx(graphOf(...layers), new Map(Object.entries(parameters)), options);
      const features = (await runOnnx(model, images)).get("features");
      expect(features?.data.length).toBe(expected.length);
      features?.data.forEach((value, index) => {
        expect(Math.abs(value - (expected[index] ?? Number.NaN))).toBeLessThan(4e-3);
      });
    },
  );
});

describe("layer norm", () => {
  it.each([
    [16, ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"]],
    [17, ["LayerNormalization"]],
  ])("at opset %i", (opset, expected) => {
    const norm = layer("l", { kind: "layerNorm", channels: 3, epsilon: 1e-5 }, ["images"], "weight", "bias");
    const weights = ["l.weight", "l.bias"].map((path) => [path, float32([3, 1, 1], [1, 1, 1])] as const);
    const { graph } = lowerToOnnx(graphOf(norm), new Map(weights), { opset, size: { height: 1, width: 1 } });
    expect(graph.nodes.map(({ opType }) => opType)).toEqual([...expected, "Identity"]);
  });
});

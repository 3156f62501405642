import { describe, expect, test } from "vitest";
import type { LayerGraph, LayerNode } from "../../../src/arch/graph.js";
import { outputShapes } from "../../../src/arch/shapes.js";
import type { RealTensor } from "../../../src/core/tensor.js";
import { type Engine, scalarEngine } from "../../../src/verify/reference/engine.js";
import { type EvaluatedLayer, evaluate } from "../../../src/verify/reference/evaluate.js";
import { evaluateLayer, float64Parameters, Workspace } from "../../../src/verify/reference/evaluate-layer.js";
import { vectorEngine } from "../../../src/verify/reference/vector-engine.js";
import { randomParameters, SMALL_NETWORK } from "./network.js";
import { randomTensor, tensor } from "./random.js";
import { expectSameSums } from "./same-sums.js";

const parameters = randomParameters(SMALL_NETWORK, 1);
const images = randomTensor(2, [3, 3, 29, 21]);

/** Every layer, computed by itself from the values before it. */
function expectEachToFollow(images: RealTensor, outputs: readonly EvaluatedLayer[]): void {
  const values = new Map(outputs.map(({ name, tensor }) => [name, tensor]));
  const source = float64Parameters(parameters);
  const workspace = new Workspace();
  for (const node of SMALL_NETWORK.nodes) {
    const inputs =
      node.op.kind === "input" ? [images] : node.inputs.map((name) => values.get(name) ?? images);
    const { shape = [], data } = values.get(node.name) ?? {};
    const computed = evaluateLayer(node, inputs, source, shape, workspace);
    expect(computed.shape).toEqual(shape);
    // Far faster than a comparison of long arrays.
    const same = computed.data.every((value, index) => Object.is(value, data?.[index]));
    expect([node.name, same]).toEqual([node.name, true]);
  }
}

describe("evaluate", () => {
  const outputs = [...evaluate(SMALL_NETWORK, parameters, images)];

  test("yields every layer in order, in its shape", () => {
    const shapes = outputShapes(SMALL_NETWORK, images.shape);
    expect(outputs.map(({ name, tensor }) => [name, tensor.shape])).toEqual(
      SMALL_NETWORK.nodes.map(({ name }) => [name, shapes.get(name)]),
    );
    expect(outputs.every(({ tensor }) => tensor.data.every(Number.isFinite))).toBe(true);
  });

  test("each layer follows from its own inputs", () => {
    expectEachToFollow(images, outputs);
  });

  test("memory becomes less after the largest layers, and what later ones read is moved there", () => {
    const sizes: number[] = [];
    const engine = (elements: number): Engine => {
      sizes.push(elements);
      return vectorEngine(elements);
    };
    const larger = randomTensor(3, [4, 3, 256, 128]);
    expectEachToFollow(larger, [...evaluate(SMALL_NETWORK, parameters, larger, { engine })]);
    expect(sizes.length).toBe(2);
    expect(sizes[1]).toBeLessThan((sizes[0] ?? 0) / 2);
  });

  test("a workspace is replaced when less than half of it will be needed", () => {
    const workspace = new Workspace();
    workspace.expect(1000);
    const engine = workspace.reserve(10);
    expect(engine.memory.length).toBe(1000);
    expect(workspace.expect(500)).toBe(false);
    expect(workspace.reserve(10)).toBe(engine);
    expect(workspace.expect(499)).toBe(true);
    expect(workspace.reserve(10).memory.length).toBe(499);
  });

  test("images of a batch do not touch each other", () => {
    const second = {
      ...images,
      shape: [1, 3, 29, 21],
      data: images.data.slice(3 * 29 * 21, 2 * 3 * 29 * 21),
    };
    const alone = new Map(
      [...evaluate(SMALL_NETWORK, parameters, second)].map((layer) => [layer.name, layer.tensor]),
    );
    for (const { name, tensor } of outputs) {
      const size = tensor.data.length / 3;
      expect(tensor.data.subarray(size, 2 * size)).toEqual(alone.get(name)?.data);
    }
  });

  test("both engines agree, in memory of its own or reused", () => {
    let index = 0;
    for (const output of evaluate(SMALL_NETWORK, parameters, images, {
      engine: scalarEngine,
      reuseMemory: true,
    })) {
      const other = outputs[index++];
      if (!other) throw new Error("one engine has fewer layers");
      expect(output.name).toBe(other.name);
      expectSameSums(output.tensor.data, other.tensor.data);
    }
    expect(index).toBe(outputs.length);
  });

  test("reads float32 images", () => {
    const single = { dtype: "float32", shape: images.shape, data: Float32Array.from(images.data) } as const;
    const [first] = evaluate(SMALL_NETWORK, parameters, single);
    expect(first).toEqual({
      name: "images",
      tensor: { dtype: "float64", shape: images.shape, data: Float64Array.from(single.data) },
    });
  });

  test.each([
    [
      "grey images",
      randomTensor(1, [1, 1, 29, 21]),
      "images: found float64 [1, 1, 29, 21] with 609 elements",
    ],
    [
      "an empty batch",
      randomTensor(1, [0, 3, 29, 21]),
      "images: found float64 [0, 3, 29, 21] with 0 elements",
    ],
    [
      "too few elements",
      { ...images, shape: [4, 3, 29, 21] },
      "images: found float64 [4, 3, 29, 21] with 5481",
    ],
    ["images too small", randomTensor(1, [1, 3, 1, 1]), "image size 1x1: found"],
  ])("refuses %s", (_, wrong, message) => {
    expect(() => [...evaluate(SMALL_NETWORK, parameters, wrong)]).toThrow(message);
  });

  test("refuses an incomplete state dict", () => {
    const incomplete = new Map([...parameters].filter(([path]) => path !== "conv2.0.gate.fc1.bias"));
    expect(() => [...evaluate(SMALL_NETWORK, incomplete, images)]).toThrow(
      "conv2.0.gate.fc1.bias: found no such",
    );
  });
});

describe("evaluateLayer", () => {
  const add: LayerNode = { name: "add", op: { kind: "add" }, inputs: ["a", "b"], parameters: {} };
  const none = float64Parameters(new Map());

  test("takes a workspace's last result as its input", () => {
    const workspace = new Workspace();
    const first = evaluateLayer(
      add,
      [tensor([1, 2], [1, 2]), tensor([1, 2], [3, 4])],
      none,
      [1, 2],
      workspace,
    );
    const second = evaluateLayer(add, [tensor([1, 2], [10, 20]), first], none, [1, 2], workspace);
    expect([...second.data]).toEqual([14, 26]);
  });

  test("a folded layer is followed by the batch norm it absorbed", () => {
    const folded: LayerNode = {
      name: "bn",
      op: { kind: "linear", inFeatures: 1, outFeatures: 1 },
      inputs: ["x"],
      parameters: { weight: "w", bias: "b" },
      foldedBatchNorm: {
        from: "fc",
        epsilon: 1,
        parameters: { weight: "scale", bias: "shift", runningMean: "mean", runningVar: "var" },
      },
    };
    const values = { w: 10, b: 1, scale: 6, shift: 5, mean: 11, var: 3 };
    const source = float64Parameters(
      new Map(Object.entries(values).map(([path, value]) => [path, tensor([1], [value])])),
    );
    // ((2 · 10 + 1) − 11) · 6 / √(3 + 1) + 5
    expect([...evaluateLayer(folded, [tensor([1, 1], [2])], source, [1, 1]).data]).toEqual([35]);
  });

  test("a folded convolution without bias of its own needs none", () => {
    const graph: LayerGraph = SMALL_NETWORK;
    const conv = graph.nodes.find(({ name }) => name === "conv2.0.conv1.conv");
    const norm = graph.nodes.find(({ name }) => name === "conv2.0.conv1.bn");
    if (conv?.op.kind !== "conv" || norm?.op.kind !== "batchNorm") throw new Error("the network has changed");
    const { weight = "", bias = "", runningMean = "", runningVar = "" } = norm.parameters;
    const folded: LayerNode = {
      ...conv,
      name: norm.name,
      op: { ...conv.op, bias: true },
      foldedBatchNorm: {
        from: conv.name,
        epsilon: norm.op.epsilon,
        parameters: { weight, bias, runningMean, runningVar },
      },
    };
    const source = float64Parameters(parameters);
    const input = randomTensor(5, [2, 6, 3, 3]);
    const inner = evaluateLayer(conv, [input], source, [2, 5, 3, 3]);
    const expected = evaluateLayer(norm, [inner], source, [2, 5, 3, 3]);
    expect(evaluateLayer(folded, [input], source, [2, 5, 3, 3])).toEqual(expected);
  });
});

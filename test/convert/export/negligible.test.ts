import { describe, expect, it } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import type { LayerGraph } from "../../../src/arch/graph.js";
import { outputShapes } from "../../../src/arch/shapes.js";
import { variant } from "../../../src/arch/variants.js";
import { activationBounds } from "../../../src/convert/export/activation-bounds.js";
import { writtenWeights } from "../../../src/convert/export/negligible.js";
import { foldBatchNorm } from "../../../src/convert/export/weights.js";
import type { RealTensor, StateDict, Tensor } from "../../../src/core/tensor.js";
import { toFloat64 } from "../../../src/core/tensor-cast.js";
import { arithmeticOf } from "../../../src/verify/bounds/bound.js";
import { layerGroups, recomputer } from "../../../src/verify/bounds/recompute.js";
import { evaluate } from "../../../src/verify/reference/evaluate.js";
import { float64Parameters } from "../../../src/verify/reference/evaluate-layer.js";
import { randomParameters, SMALL_NETWORK } from "../../verify/reference/network.js";
import { randomNumbers, randomTensor } from "../../verify/reference/random.js";

const X0_25 = expand(variant("osnet_x0_25"));
const AIN = expand(variant("osnet_ain_x0_25"));

/** Multiplies a channel's values in some parameters. */
function scaled(
  stateDict: StateDict,
  channel: number | "all",
  factors: Readonly<Record<string, number>>,
): StateDict {
  const changed = new Map(stateDict);
  for (const [path, factor] of Object.entries(factors)) {
    const tensor = stateDict.get(path) as Tensor<"float32"> | undefined;
    if (!tensor) throw new Error(`no ${path}`);
    const row = tensor.data.length / (tensor.shape[0] ?? 1);
    const data = tensor.data.map((value, index) =>
      channel === "all" || Math.floor(index / row) === channel ? Math.fround(value * factor) : value,
    );
    changed.set(path, { ...tensor, data });
  }
  return changed;
}

/** How many weights of a network are written as zeros, by the constant's name. */
function zerosOf(graph: LayerGraph, stateDict: StateDict, fold = true): Readonly<Record<string, number>> {
  const { zeroed } = writtenWeights(fold ? foldBatchNorm(graph) : graph, stateDict);
  return Object.fromEntries([...(zeroed?.positions ?? [])].map(([name, { length }]) => [name, length]));
}

const random = randomParameters(X0_25, 5);
const STREAM = "conv2.0.conv2b.1";

describe("weights that cannot be seen", () => {
  it("are a dead channel's, whether batch norms are folded or not", () => {
    const dead = scaled(random, 3, { [`${STREAM}.conv1.weight`]: 1e-41 });
    expect(zerosOf(X0_25, dead)).toEqual({ [`${STREAM}.conv1.weight`]: 16 });
    expect(zerosOf(X0_25, dead, false)).toEqual({ [`${STREAM}.conv1.weight`]: 16 });
  });

  it("are those of a product with a batch norm's weight, or that weight itself", () => {
    const dead = scaled(random, 3, { [`${STREAM}.bn.weight`]: 1e-38 });
    expect(zerosOf(X0_25, dead)).toEqual({ [`${STREAM}.bn.folded.weight`]: 9 });
    expect(zerosOf(X0_25, dead, false)).toEqual({ [`${STREAM}.bn.weight`]: 1 });
  });

  it("are what nothing but such weights reads", () => {
    const dead = scaled(random, 3, { [`${STREAM}.bn.weight`]: 1e-42, [`${STREAM}.conv1.weight`]: 1e-25 });
    // Without a bias that is of any size, a channel of exact zeros hides what comes before.
    expect(zerosOf(X0_25, dead)[`${STREAM}.conv1.weight`]).toBe(16);
  });

  it("are nowhere in random weights, which stay the same tensors", () => {
    const { of, zeroed } = writtenWeights(X0_25, random);
    expect(zeroed).toBeUndefined();
    const [node] = X0_25.nodes.filter(({ name }) => name === "conv1.conv");
    expect(node && of(node).weight?.tensor).toBe(random.get("conv1.conv.weight"));
  });

  it("are gone once they were written: there is nothing left to find", () => {
    const dead = scaled(random, 3, { [`${STREAM}.conv1.weight`]: 1e-41, [`${STREAM}.bn.weight`]: 1e-20 });
    const { of, zeroed } = writtenWeights(X0_25, dead);
    expect(zeroed?.count).toBeGreaterThan(16);
    const again = new Map(dead);
    for (const node of X0_25.nodes)
      for (const { name, tensor } of Object.values(of(node))) again.set(name, tensor);
    expect(writtenWeights(X0_25, again).zeroed).toBeUndefined();
  });

  it("are left alone if told so", () => {
    const dead = scaled(random, 3, { [`${STREAM}.conv1.weight`]: 1e-41 });
    expect(writtenWeights(X0_25, dead, true).zeroed).toBeUndefined();
  });

  it("add to no value more than a 1024th of a rounding of its bias", () => {
    const dead = scaled(random, 3, { [`${STREAM}.conv1.weight`]: 1e-20 });
    const { zeroed } = writtenWeights(foldBatchNorm(X0_25), dead);
    expect(zeroed?.count).toBeGreaterThan(0);
    expect(zeroed?.bound).toBeGreaterThan(0);
    expect(zeroed?.bound).toBeLessThan(2 ** -10);
  });
});

describe("tiny weights that can be seen", () => {
  it.each([
    [
      "a large batch norm's weight brings them back",
      X0_25,
      3,
      { [`${STREAM}.conv1.weight`]: 1e-30, [`${STREAM}.bn.weight`]: 1e30, [`${STREAM}.bn.running_mean`]: 0 },
    ],
    [
      "a large depthwise weight brings them back",
      X0_25,
      3,
      { [`${STREAM}.conv1.weight`]: 1e-30, [`${STREAM}.conv2.weight`]: 1e30 },
    ],
    [
      "a whole layer is tiny and brought back",
      X0_25,
      "all",
      { [`${STREAM}.conv1.weight`]: 1e-36, [`${STREAM}.bn.weight`]: 1e36, [`${STREAM}.bn.running_mean`]: 0 },
    ],
    [
      "no bias hides them",
      X0_25,
      3,
      { [`${STREAM}.conv1.weight`]: 1e-30, [`${STREAM}.bn.bias`]: 0, [`${STREAM}.bn.running_mean`]: 0 },
    ],
    [
      "the bias is as tiny",
      X0_25,
      3,
      {
        [`${STREAM}.conv1.weight`]: 1e-30,
        [`${STREAM}.bn.bias`]: 1e-30,
        [`${STREAM}.bn.running_mean`]: 1e-30,
      },
    ],
    ["an instance norm reads them", AIN, 3, { "conv2.0.conv3.conv.weight": 1e-30 }],
    [
      "a gate's hidden unit has no bias",
      X0_25,
      "all",
      { "conv2.0.gate.fc1.weight": 1e-30, "conv2.0.gate.fc1.bias": 0 },
    ],
    [
      "what they read is as large as they are small",
      X0_25,
      "all",
      { "conv1.bn.weight": 1e30, [`${STREAM}.conv1.weight`]: 1e-30 },
    ],
  ] as const)("%s", (_why, graph, channel, factors) => {
    const state = scaled(graph === X0_25 ? random : randomParameters(graph, 5), channel, factors);
    for (const fold of [true, false]) expect(zerosOf(graph, state, fold)).toEqual({});
  });

  it("small weights of a small network are no tiny ones", () => {
    const names = [...random].flatMap(([path, { shape }]) => (shape.length > 1 ? [[path, 1e-6]] : []));
    expect(zerosOf(X0_25, scaled(random, "all", Object.fromEntries(names)))).toEqual({});
  });
});

/** Each channel of each parameter by a power of ten from 0 to −45, most by 0. */
function withDeadChannels(stateDict: StateDict, seed: number): StateDict {
  const next = randomNumbers(seed);
  return new Map(
    [...stateDict].map(([path, tensor]): [string, Tensor] => {
      if (!path.endsWith(".weight") || tensor.dtype !== "float32") return [path, tensor];
      const row = tensor.data.length / (tensor.shape[0] ?? 1);
      const factors = Float64Array.from({ length: tensor.shape[0] ?? 0 }, () =>
        next() > 0.4 ? 10 ** (-22 - 23 * next()) : 1,
      );
      const data = Float32Array.from(
        toFloat64(tensor, path).data,
        (value, index) => value * (factors[Math.floor(index / row)] ?? 1),
      );
      return [path, { dtype: "float32", shape: tensor.shape, data }];
    }),
  );
}

describe("random networks with dead channels, in float64", () => {
  const shape = [2, 3, 32, 32];
  const large: Tensor<"float32"> = {
    dtype: "float32",
    shape,
    data: Float32Array.from(randomTensor(9, shape).data, (value) => 256 * Number(value)),
  };
  const shapes = outputShapes(SMALL_NETWORK, shape);
  /** Convolutions without bias are one step with what reads them, up to a bias. */
  const shown = new Set(
    SMALL_NETWORK.nodes.flatMap(({ name, op }) => (op.kind === "conv" && !op.bias ? [] : [name])),
  );

  it.each(Array.from({ length: 12 }, (_, seed) => seed))("seed %i", (seed) => {
    const original = withDeadChannels(randomParameters(SMALL_NETWORK, seed), seed + 100);
    const { of, zeroed } = writtenWeights(SMALL_NETWORK, original);
    expect(zeroed?.count).toBeGreaterThan(0);
    const written = new Map(original);
    for (const node of SMALL_NETWORK.nodes)
      for (const { name, tensor } of Object.values(of(node))) written.set(name, tensor);

    const values = new Map<string, RealTensor>();
    for (const { name, tensor } of evaluate(SMALL_NETWORK, original, large)) values.set(name, tensor);
    const source = (name: string): RealTensor => values.get(name) ?? large;
    const bounds = activationBounds(SMALL_NETWORK.nodes, of);
    const [before, after] = [original, written].map((state) =>
      recomputer(SMALL_NETWORK, shapes, float64Parameters(state), arithmeticOf("float32")),
    );
    const wrong: string[] = [];
    for (const group of layerGroups(SMALL_NETWORK, shown)) {
      const { shape, data } = source(group.layer.name);
      const plane = data.length / (shape[0] ?? 1) / (shape[1] ?? 1);
      const [low, high] = [bounds.get(group.layer.name)?.low, bounds.get(group.layer.name)?.high];
      const expected = before?.recompute(group, source).output.data.slice() ?? [];
      const actual = after?.recompute(group, source).output.data ?? [];
      for (let index = 0; index < data.length; index++) {
        const channel = Math.floor(index / plane) % (shape[1] ?? 1);
        const value = data[index] as number;
        // What the interval says is so.
        if (!(value >= (low?.[channel] ?? NaN) && value <= (high?.[channel] ?? NaN)))
          wrong.push(`${group.layer.name}: ${value} is outside its interval`);
        const difference = Math.abs((expected[index] as number) - (actual[index] as number));
        if (difference === 0) continue;
        const constant = constantOf(group.nodes.at(-1), original, channel);
        const noise = 2 ** -46 * Math.abs(expected[index] as number);
        if (!(difference <= 2 ** -34 * constant + noise))
          wrong.push(`${group.layer.name}: moved by ${difference}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

/** The size of the constant that a layer, or a convolution with the batch norm behind it, adds to a channel. */
function constantOf(
  node: LayerGraph["nodes"][number] | undefined,
  stateDict: StateDict,
  channel: number,
): number {
  const read = (path: string | undefined): number => Number(stateDict.get(path ?? "")?.data[channel] ?? 0);
  const norm =
    node?.foldedBatchNorm?.parameters ?? (node?.op.kind === "batchNorm" ? node.parameters : undefined);
  if (!norm) return Math.abs(read(node?.parameters.bias));
  const scale = read(norm.weight) / Math.sqrt(read(norm.runningVar) + 1e-5);
  return Math.abs(read(norm.bias)) + Math.abs(read(norm.runningMean) * scale);
}

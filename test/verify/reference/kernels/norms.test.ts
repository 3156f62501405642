import { describe, expect, test } from "vitest";
import type { Op } from "../../../../src/arch/graph.js";
import { randomTensor, tensor } from "../random.js";
import { apply, expectClose } from "./apply.js";
import { define, pixelsOf, range, sum } from "./definition.js";

const value = (values: Float64Array, index: number): number => values[index] ?? Number.NaN;

describe("batchNorm", () => {
  const op: Op = { kind: "batchNorm", channels: 2, epsilon: 1 };

  test("uses the running statistics, ε under the root", () => {
    const parameters = { weight: [2, 10], bias: [1, 0], runningMean: [1, 5], runningVar: [3, 0] };
    const output = apply(op, [tensor([1, 2, 1, 2], [1, 3, 5, 6])], [1, 2, 1, 2], parameters);
    expect([...output.data]).toEqual([1, 3, 0, 10]);
  });

  test("takes NC as well as NCHW", () => {
    const parameters = { weight: [2, 10], bias: [1, 0], runningMean: [1, 5], runningVar: [3, 0] };
    expect([...apply(op, [tensor([2, 2], [3, 6, 5, 4])], [2, 2], parameters).data]).toEqual([3, 10, 5, -10]);
  });

  test("random", () => {
    const shape = [3, 5, 3, 7];
    const input = randomTensor(1, shape);
    const [weight, bias, runningMean] = [2, 3, 4].map((seed) => randomTensor(seed, [5]).data) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const runningVar = randomTensor(5, [5]).data.map(Math.abs);
    const pixel = pixelsOf(input);
    const expected = define(shape, (n, c, y, x) => {
      const deviation = Math.sqrt(value(runningVar, c) + 1e-5);
      return (
        (((pixel(n, c, y, x) ?? 0) - value(runningMean, c)) / deviation) * value(weight, c) + value(bias, c)
      );
    });
    const random: Op = { kind: "batchNorm", channels: 5, epsilon: 1e-5 };
    expectClose(apply(random, [input], shape, { weight, bias, runningMean, runningVar }), expected);
  });
});

describe("instanceNorm", () => {
  test("biased variance of each channel of each image", () => {
    const op: Op = { kind: "instanceNorm", channels: 1, epsilon: 0 };
    // Deviations -2, 2 and -3, 3: dividing by n - 1 would give a standard deviation √2 times as large.
    const input = tensor([2, 1, 1, 2], [1, 5, 4, 10]);
    expect([...apply(op, [input], input.shape, { weight: [10], bias: [1] }).data]).toEqual([-9, 11, -9, 11]);
  });

  test("a constant channel becomes its bias", () => {
    const op: Op = { kind: "instanceNorm", channels: 1, epsilon: 1e-5 };
    const input = tensor([1, 1, 2, 2], [7, 7, 7, 7]);
    expect([...apply(op, [input], input.shape, { weight: [3], bias: [0.5] }).data]).toEqual([
      0.5, 0.5, 0.5, 0.5,
    ]);
  });

  test("random", () => {
    const shape = [3, 4, 5, 3];
    const input = randomTensor(1, shape);
    const weight = randomTensor(2, [4]).data;
    const bias = randomTensor(3, [4]).data;
    const pixel = pixelsOf(input);
    const expected = define(shape, (n, c, y, x) => {
      const plane = range(5).flatMap((row) => range(3).map((column) => pixel(n, c, row, column) ?? 0));
      const mean = sum(plane) / 15;
      const variance = sum(plane.map((element) => (element - mean) ** 2)) / 15;
      const normalised = ((pixel(n, c, y, x) ?? 0) - mean) / Math.sqrt(variance + 1e-5);
      return normalised * value(weight, c) + value(bias, c);
    });
    const op: Op = { kind: "instanceNorm", channels: 4, epsilon: 1e-5 };
    expectClose(apply(op, [input], shape, { weight, bias }), expected);
  });
});

describe("layerNorm", () => {
  test("biased variance of each image over its channels", () => {
    const op: Op = { kind: "layerNorm", channels: 2, epsilon: 0 };
    const input = tensor([2, 2, 1, 1], [1, 5, 10, 4]);
    const parameters = { weight: [10, 100], bias: [1, 2] };
    expect([...apply(op, [input], input.shape, parameters).data]).toEqual([-9, 102, 11, -98]);
  });

  test("random", () => {
    const shape = [3, 6, 1, 1];
    const input = randomTensor(1, shape);
    const weight = randomTensor(2, [6]).data;
    const bias = randomTensor(3, [6]).data;
    const pixel = pixelsOf(input);
    const expected = define(shape, (n, c, y, x) => {
      const channels = range(6).map((channel) => pixel(n, channel, 0, 0) ?? 0);
      const mean = sum(channels) / 6;
      const variance = sum(channels.map((element) => (element - mean) ** 2)) / 6;
      const normalised = ((pixel(n, c, y, x) ?? 0) - mean) / Math.sqrt(variance + 1e-5);
      return normalised * value(weight, c) + value(bias, c);
    });
    const op: Op = { kind: "layerNorm", channels: 6, epsilon: 1e-5 };
    expectClose(apply(op, [input], shape, { weight, bias }), expected);
  });
});

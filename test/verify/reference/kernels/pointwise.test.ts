import { describe, expect, test } from "vitest";
import type { Op } from "../../../../src/arch/graph.js";
import { randomTensor, tensor } from "../random.js";
import { apply, expectClose } from "./apply.js";
import { define, pixelsOf, range, sum } from "./definition.js";

const INFINITY = Number.POSITIVE_INFINITY;

describe("relu", () => {
  test("negative numbers become zero, NaN stays", () => {
    const input = tensor([1, 5], [-1, 2, Number.NaN, -INFINITY, INFINITY]);
    expect([...apply({ kind: "relu" }, [input], [1, 5]).data]).toEqual([0, 2, Number.NaN, 0, INFINITY]);
  });

  test("random", () => {
    const input = randomTensor(1, [3, 2, 3, 5]);
    const pixel = pixelsOf(input);
    const expected = define(input.shape, (...at) => Math.max(0, pixel(...at) ?? 0));
    expectClose(apply({ kind: "relu" }, [input], input.shape), expected);
  });
});

describe("sigmoid", () => {
  test("exact where it is known, and finite at both ends", () => {
    const input = tensor([1, 5], [0, Math.log(3), -Math.log(3), 1000, -1000]);
    const [half, above, below, one, zero] = apply({ kind: "sigmoid" }, [input], [1, 5]).data;
    expect([half, one, zero]).toEqual([0.5, 1, 0]);
    expect(above).toBeCloseTo(0.75, 15);
    expect(below).toBeCloseTo(0.25, 15);
  });

  test("random: (1 + tanh(x / 2)) / 2", () => {
    const input = randomTensor(1, [3, 7]);
    const expected = { ...input, data: input.data.map((x) => (1 + Math.tanh(x / 2)) / 2) };
    expectClose(apply({ kind: "sigmoid" }, [input], [3, 7]), expected);
  });
});

describe("linear", () => {
  test("weights are [out, in]", () => {
    const op: Op = { kind: "linear", inFeatures: 2, outFeatures: 3 };
    const parameters = { weight: [1, 10, 2, 20, 3, 30], bias: [100, 200, 300] };
    const output = apply(op, [tensor([2, 2], [1, 2, 3, 4])], [2, 3], parameters);
    expect([...output.data]).toEqual([121, 242, 363, 143, 286, 429]);
  });

  test("random", () => {
    const op: Op = { kind: "linear", inFeatures: 37, outFeatures: 11 };
    const input = randomTensor(1, [3, 37]);
    const weight = randomTensor(2, [11, 37]);
    const bias = randomTensor(3, [11]).data;
    const x = pixelsOf(input);
    const w = pixelsOf(weight);
    const expected = define([3, 11], (n, out) =>
      sum([bias[out] ?? 0, ...range(37).map((k) => (x(n, k, 0, 0) ?? 0) * (w(out, k, 0, 0) ?? 0))]),
    );
    expectClose(apply(op, [input], [3, 11], { weight: weight.data, bias }), expected);
  });
});

describe("flatten", () => {
  test("keeps the order of channels, rows, columns", () => {
    const input = tensor([2, 2, 1, 1], [1, 2, 3, 4]);
    const output = apply({ kind: "flatten" }, [input], [2, 2]);
    expect(output.shape).toEqual([2, 2]);
    expect([...output.data]).toEqual([1, 2, 3, 4]);
  });
});

describe("scale", () => {
  test("each channel of each image by its own gate", () => {
    const stream = tensor([2, 2, 1, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
    const gate = tensor([2, 2, 1, 1], [1, 10, 100, 0]);
    const output = apply({ kind: "scale" }, [stream, gate], stream.shape);
    expect([...output.data]).toEqual([1, 2, 30, 40, 500, 600, 0, 0]);
  });

  test("random", () => {
    const stream = randomTensor(1, [3, 5, 3, 7]);
    const gate = randomTensor(2, [3, 5, 1, 1]);
    const [x, g] = [pixelsOf(stream), pixelsOf(gate)];
    const expected = define(stream.shape, (n, c, y, w) => (x(n, c, y, w) ?? 0) * (g(n, c, 0, 0) ?? 0));
    expectClose(apply({ kind: "scale" }, [stream, gate], stream.shape), expected);
  });
});

describe("add", () => {
  test("from left to right", () => {
    const inputs = [1, 2 ** 60, -(2 ** 60), 5].map((value) => tensor([1, 1], [value]));
    expect([...apply({ kind: "add" }, inputs, [1, 1]).data]).toEqual([5]);
  });

  test("random", () => {
    const inputs = [1, 2, 3].map((seed) => randomTensor(seed, [3, 2, 5, 3]));
    const pixels = inputs.map(pixelsOf);
    const expected = define([3, 2, 5, 3], (...at) => sum(pixels.map((pixel) => pixel(...at) ?? 0)));
    expectClose(apply({ kind: "add" }, inputs, expected.shape), expected);
  });
});

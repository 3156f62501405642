import { describe, expect, test } from "vitest";
import type { Op } from "../../../../src/arch/graph.js";
import { randomTensor, tensor } from "../random.js";
import { apply, expectClose } from "./apply.js";
import { define, pixelsOf, range, sum } from "./definition.js";

const MAX_POOL: Op = { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
const AVG_POOL: Op = { kind: "avgPool", kernel: [2, 2], stride: [2, 2] };

describe("maxPool", () => {
  test("padding never wins over negative pixels", () => {
    const input = tensor([1, 1, 2, 3], [-1, -2, -3, -4, -5, -6]);
    expect([...apply(MAX_POOL, [input], [1, 1, 1, 2]).data]).toEqual([-1, -2]);
  });

  test("NaN wins", () => {
    const input = tensor([1, 1, 1, 2], [Number.NaN, 1]);
    expect([...apply(MAX_POOL, [input], [1, 1, 1, 1]).data]).toEqual([Number.NaN]);
  });

  test("random", () => {
    const input = randomTensor(1, [3, 2, 7, 6]);
    const pixel = pixelsOf(input);
    const expected = define([3, 2, 4, 3], (n, c, y, x) =>
      Math.max(
        ...range(3).flatMap((i) =>
          range(3).map((j) => pixel(n, c, 2 * y - 1 + i, 2 * x - 1 + j) ?? Number.NEGATIVE_INFINITY),
        ),
      ),
    );
    expectClose(apply(MAX_POOL, [input], expected.shape), expected);
  });
});

describe("avgPool", () => {
  test("drops a last partial window", () => {
    const input = tensor([1, 1, 3, 3], [1, 2, 30, 3, 6, 30, 30, 30, 30]);
    expect([...apply(AVG_POOL, [input], [1, 1, 1, 1]).data]).toEqual([3]);
  });

  test("random", () => {
    const input = randomTensor(1, [3, 2, 5, 8]);
    const pixel = pixelsOf(input);
    const expected = define([3, 2, 2, 4], (n, c, y, x) => {
      const window = range(2).flatMap((i) => range(2).map((j) => pixel(n, c, 2 * y + i, 2 * x + j) ?? 0));
      return sum(window) / 4;
    });
    expectClose(apply(AVG_POOL, [input], expected.shape), expected);
  });
});

describe("global pools", () => {
  const input = tensor([1, 2, 1, 2], [1, 3, -4, -2]);

  test("the mean of each channel", () => {
    expect([...apply({ kind: "globalAvgPool" }, [input], [1, 2, 1, 1]).data]).toEqual([2, -3]);
  });

  test("the maximum of each channel", () => {
    expect([...apply({ kind: "globalMaxPool" }, [input], [1, 2, 1, 1]).data]).toEqual([3, -2]);
  });

  test("random", () => {
    const random = randomTensor(1, [3, 4, 3, 5]);
    const pixel = pixelsOf(random);
    const plane = (n: number, c: number): number[] =>
      range(3).flatMap((y) => range(5).map((x) => pixel(n, c, y, x) ?? Number.NaN));
    const mean = define([3, 4, 1, 1], (n, c) => sum(plane(n, c)) / 15);
    const maximum = define([3, 4, 1, 1], (n, c) => Math.max(...plane(n, c)));
    expectClose(apply({ kind: "globalAvgPool" }, [random], mean.shape), mean);
    expectClose(apply({ kind: "globalMaxPool" }, [random], maximum.shape), maximum);
  });
});

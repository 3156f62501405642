import { describe, expect, test } from "vitest";
import type { Op, Size2d } from "../../../../src/arch/graph.js";
import { elementCount, type Tensor } from "../../../../src/core/tensor.js";
import { randomTensor, tensor } from "../random.js";
import { apply, expectClose } from "./apply.js";
import { define, pixelsOf, range, sum } from "./definition.js";

const UNIT = { kernel: [1, 1], stride: [1, 1], padding: [0, 0], groups: 1, bias: false } as const;

describe("conv", () => {
  test("a 3×3 kernel is correlated, not flipped, and zeros surround the image", () => {
    const op: Op = { ...UNIT, kind: "conv", inChannels: 1, outChannels: 1, kernel: [3, 3], padding: [1, 1] };
    const image = tensor([1, 1, 2, 3], [1, 2, 3, 4, 5, 6]);
    const weight = [0, 0, 0, 0, 10, 1, 0, 0, 100];
    const shape = [1, 1, 2, 3];
    expect([...apply(op, [image], shape, { weight }).data]).toEqual([512, 623, 30, 45, 56, 60]);
  });

  test("a stride of 2 with padding 1 begins one pixel outside", () => {
    const op: Op = {
      ...UNIT,
      kind: "conv",
      inChannels: 1,
      outChannels: 1,
      kernel: [1, 3],
      stride: [1, 2],
      padding: [0, 1],
      bias: true,
    };
    const image = tensor([1, 1, 1, 4], [1, 2, 3, 4]);
    const parameters = { weight: [100, 10, 1], bias: [1000] };
    expect([...apply(op, [image], [1, 1, 1, 2], parameters).data]).toEqual([1012, 1234]);
  });

  test("1×1 mixes channels pixel by pixel", () => {
    const op: Op = { ...UNIT, kind: "conv", inChannels: 2, outChannels: 1 };
    const image = tensor([1, 2, 1, 3], [1, 2, 3, 4, 5, 6]);
    expect([...apply(op, [image], [1, 1, 1, 3], { weight: [10, 1] }).data]).toEqual([14, 25, 36]);
  });

  const cases: readonly [string, Partial<Op<"conv">>, Size2d][] = [
    ["1×1, strips and tiles whole", { inChannels: 12, outChannels: 8 }, [4, 6]],
    ["1×1, strips and tiles overlapping", { inChannels: 5, outChannels: 7, bias: true }, [7, 5]],
    ["1×1, fewer channels than a strip", { inChannels: 8, outChannels: 3, bias: true }, [5, 5]],
    ["1×1, one pixel: a gate", { inChannels: 9, outChannels: 6, bias: true }, [1, 1]],
    ["1×1, a tile of pixels", { inChannels: 3, outChannels: 4 }, [2, 2]],
    ["1×1, more than one block of pixels", { inChannels: 1400, outChannels: 4 }, [1, 11]],
    ["1×1, stride 2", { inChannels: 3, outChannels: 5, stride: [2, 2] }, [7, 9]],
    [
      "the stem",
      { inChannels: 3, outChannels: 6, kernel: [7, 7], stride: [2, 2], padding: [3, 3] },
      [13, 11],
    ],
    [
      "3×3 depthwise, even",
      { inChannels: 4, outChannels: 4, groups: 4, kernel: [3, 3], padding: [1, 1] },
      [5, 6],
    ],
    [
      "3×3 depthwise, odd",
      { inChannels: 5, outChannels: 5, groups: 5, kernel: [3, 3], padding: [1, 1] },
      [4, 7],
    ],
    [
      "3×3 depthwise, one column",
      { inChannels: 2, outChannels: 2, groups: 2, kernel: [3, 3], padding: [1, 1] },
      [4, 1],
    ],
    [
      "3×3 depthwise, no padding",
      { inChannels: 2, outChannels: 2, groups: 2, kernel: [3, 3], bias: true },
      [6, 5],
    ],
    [
      "3×3 depthwise, wide padding",
      { inChannels: 2, outChannels: 2, groups: 2, kernel: [3, 3], padding: [2, 3] },
      [3, 3],
    ],
    [
      "3×3 depthwise, stride 2",
      { inChannels: 3, outChannels: 3, groups: 3, kernel: [3, 3], stride: [2, 2], padding: [1, 1] },
      [7, 6],
    ],
    ["5×5 depthwise", { inChannels: 3, outChannels: 3, groups: 3, kernel: [5, 5], padding: [2, 2] }, [5, 4]],
    [
      "groups, matrix product",
      { inChannels: 6, outChannels: 10, groups: 2, kernel: [3, 3], padding: [1, 1], bias: true },
      [5, 5],
    ],
    [
      "groups, few channels",
      { inChannels: 4, outChannels: 6, groups: 2, kernel: [2, 3], padding: [0, 2] },
      [5, 5],
    ],
    [
      "oblong kernel, stride and padding",
      { inChannels: 2, outChannels: 4, kernel: [1, 5], stride: [2, 3], padding: [1, 0] },
      [6, 11],
    ],
  ];
  test.each(cases)("random: %s", (_, attributes, [height, width]) => {
    const op = { ...UNIT, kind: "conv", inChannels: 1, outChannels: 1, ...attributes } satisfies Op;
    const { inChannels, outChannels, kernel, groups, bias } = op;
    const image = randomTensor(1, [3, inChannels, height, width]);
    const weight = randomTensor(2, [outChannels, inChannels / groups, ...kernel]);
    const parameters = {
      weight: weight.data,
      ...(bias ? { bias: randomTensor(3, [outChannels]).data } : {}),
    };
    const expected = defineConv(op, image, weight, parameters.bias);
    expect(elementCount(expected.shape)).toBeGreaterThan(0);
    expectClose(apply(op, [image], expected.shape, parameters), expected);
  });
});

/** Conv2d of the PyTorch documentation, index by index. */
function defineConv(
  op: Op<"conv">,
  image: Tensor<"float64">,
  weight: Tensor<"float64">,
  bias: Float64Array | undefined,
): Tensor<"float64"> {
  const [images = 1, , height = 1, width = 1] = image.shape;
  const pixel = pixelsOf(image);
  const tap = pixelsOf(weight);
  const along = (size: number, axis: 0 | 1): number =>
    Math.floor((size + 2 * op.padding[axis] - op.kernel[axis]) / op.stride[axis]) + 1;
  return define([images, op.outChannels, along(height, 0), along(width, 1)], (n, out, y, x) => {
    const group = Math.floor(out / (op.outChannels / op.groups));
    const channels = op.inChannels / op.groups;
    const terms = range(channels).flatMap((c) =>
      range(op.kernel[0]).flatMap((i) =>
        range(op.kernel[1]).map((j) => {
          const row = y * op.stride[0] - op.padding[0] + i;
          const column = x * op.stride[1] - op.padding[1] + j;
          return (tap(out, c, i, j) ?? Number.NaN) * (pixel(n, group * channels + c, row, column) ?? 0);
        }),
      ),
    );
    return sum(terms) + (bias?.[out] ?? 0);
  });
}

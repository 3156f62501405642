import { describe, expect, test } from "vitest";
import type { LayerNode, Op } from "../../../src/arch/index.js";
import { elementCount, type RealTensor } from "../../../src/core/tensor.js";
import { arithmeticOf } from "../../../src/verify/bounds/bound.js";
import { dotProductBound } from "../../../src/verify/bounds/dot-product.js";
import {
  evaluateLayer,
  type ParameterSource,
  Workspace,
} from "../../../src/verify/reference/evaluate-layer.js";
import { randomNumbers } from "../reference/random.js";

const DENSE: Op<"conv"> = {
  kind: "conv",
  inChannels: 24,
  outChannels: 9,
  kernel: [1, 1],
  stride: [1, 1],
  padding: [0, 0],
  groups: 1,
  bias: true,
};
const STEM: Op<"conv"> = { ...DENSE, inChannels: 3, kernel: [7, 7], stride: [2, 2], padding: [3, 3] };
const DEPTHWISE: Op<"conv"> = { ...DENSE, inChannels: 9, kernel: [3, 3], padding: [1, 1], groups: 9 };
const GROUPED: Op<"conv"> = { ...DENSE, inChannels: 8, outChannels: 10, groups: 2 };

interface Case {
  readonly op: Op<"conv">;
  /** Height and width. */
  readonly size: readonly [number, number];
  /** What weights and values are multiplied by. */
  readonly weight?: number;
  readonly value?: number;
  /** The factors of a batch norm that is folded in, and its other constants. */
  readonly gamma?: number;
  readonly constant?: number;
}

/** The bound of a convolution with a batch norm on float32 values, and on the same values as float64, which are bounded in float64. */
function boundsOf({ op, size: [height, width], weight = 0.1, value = 1, gamma = 1, constant = 0.1 }: Case) {
  const next = randomNumbers(5);
  const random = (length: number, factor: number): Float64Array =>
    Float64Array.from({ length }, () => factor * next());
  const weights = random((op.outChannels * op.inChannels * op.kernel[0] * op.kernel[1]) / op.groups, weight);
  const parameters: Readonly<Record<string, Float64Array>> = {
    weight: weights.map((w, k) => (k % 7 === 0 ? 1e-40 : w)),
    gamma: random(op.outChannels, gamma),
    beta: random(op.outChannels, constant),
    mean: random(op.outChannels, constant),
    variance: random(op.outChannels, 1).map(Math.abs),
    bias: random(op.outChannels, constant),
  };
  const node: LayerNode & { readonly op: Op<"conv"> } = {
    name: "layer",
    op,
    inputs: ["images"],
    parameters: { weight: "weight", bias: "bias" },
    foldedBatchNorm: {
      from: "conv",
      epsilon: 1e-5,
      parameters: { weight: "gamma", bias: "beta", runningMean: "mean", runningVar: "variance" },
    },
  };
  const shape = [2, op.inChannels, height, width];
  const data = Float32Array.from({ length: elementCount(shape) }, (_, i) =>
    i % 3 === 0 ? 0 : value * next(),
  );
  const source: ParameterSource = (path) => parameters[path] as Float64Array;
  const output = [height, width].map((pixels, axis) =>
    Math.floor((pixels + 2 * (op.padding[axis] ?? 0) - (op.kernel[axis] ?? 1)) / (op.stride[axis] ?? 1) + 1),
  );
  return [data, Float64Array.from(data)].map((values) => {
    const input = { dtype: values === data ? "float32" : "float64", shape, data: values } as RealTensor;
    const computed = evaluateLayer(node, [input], source, [2, op.outChannels, ...output], new Workspace());
    const { elements } = dotProductBound({
      node,
      inputs: [input],
      inputErrors: [0],
      output: { ...computed, data: computed.data.slice() },
      parameters: source,
      arithmetic: arithmeticOf("float32"),
      workspace: new Workspace(),
    });
    return elements as Float64Array;
  }) as [Float64Array, Float64Array];
}

const CASES: Readonly<Record<string, Case>> = {
  dense: { op: DENSE, size: [6, 5] },
  "dense, on one tile": { op: DENSE, size: [4, 2] },
  "dense, on less than a tile": { op: DENSE, size: [3, 2] },
  stem: { op: STEM, size: [16, 10] },
  depthwise: { op: DEPTHWISE, size: [5, 8] },
  "depthwise, of no whole vectors": { op: DEPTHWISE, size: [5, 7] },
  "depthwise, narrow": { op: DEPTHWISE, size: [5, 3] },
  grouped: { op: GROUPED, size: [6, 6] },
  "tiny weights": { op: DENSE, size: [6, 6], weight: 1e-30, constant: 0 },
  "tiny values": { op: DENSE, size: [6, 6], value: 1e-30, constant: 0 },
};

describe("the bound of products in float32", () => {
  test.each(Object.entries(CASES))("is no smaller than in float64, and hardly larger: %s", (_, each) => {
    const [single, double] = boundsOf(each);
    const ratios = single.map((bound, i) => bound / (double[i] as number));
    expect(Math.min(...ratios)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...ratios)).toBeLessThan(1 + 3e-5);
    // Computed in another way.
    expect(ratios.every((ratio) => ratio === 1)).toBe(false);
  });

  test.each([
    ["values that would overflow", { value: 1e30, weight: 1e5 }],
    ["factors so large that flushed weights matter", { gamma: 1e9 }],
  ] as const)("is computed in float64 for %s", (_, numbers) => {
    const [single, double] = boundsOf({ op: DENSE, size: [6, 6], ...numbers });
    expect(single).toEqual(double);
    expect(single.every(Number.isFinite)).toBe(true);
  });
});

import { describe, expect, it } from "vitest";
import type { LayerNode } from "../../../src/arch/graph.js";
import { nodeWeights } from "../../../src/convert/export/weights.js";
import type { StateDict, Tensor } from "../../../src/core/tensor.js";
import { float32 } from "./graphs.js";

const LINEAR: LayerNode = {
  name: "fc.0",
  op: { kind: "linear", inFeatures: 2, outFeatures: 2 },
  inputs: ["images"],
  parameters: { weight: "fc.0.weight", bias: "fc.0.bias" },
};

const FOLDED: LayerNode = {
  ...LINEAR,
  name: "fc.1",
  foldedBatchNorm: {
    from: "fc.0",
    epsilon: 1e-5,
    parameters: {
      weight: "fc.1.weight",
      bias: "fc.1.bias",
      runningMean: "fc.1.running_mean",
      runningVar: "fc.1.running_var",
    },
  },
};

/** The second channel has a denormal variance and a tiny gamma, as dead channels of trained networks do. */
const STATE: StateDict = new Map<string, Tensor>([
  ["fc.0.weight", float32([2, 2], [1, -2, 3e5, 0.1])],
  ["fc.0.bias", float32([2], [0.5, 7])],
  ["fc.1.weight", float32([2], [3, 1e-7])],
  ["fc.1.bias", float32([2], [0.25, -1])],
  ["fc.1.running_mean", float32([2], [-1, 5])],
  ["fc.1.running_var", float32([2], [4 - 1e-5, 5.6e-45])],
]);

describe("nodeWeights", () => {
  it("gives unfolded parameters under their paths, the very tensors of the state dict", () => {
    expect(nodeWeights(LINEAR, STATE)).toEqual({
      weight: { name: "fc.0.weight", tensor: STATE.get("fc.0.weight") },
      bias: { name: "fc.0.bias", tensor: STATE.get("fc.0.bias") },
    });
    expect(nodeWeights(LINEAR, STATE).weight?.tensor).toBe(STATE.get("fc.0.weight"));
  });

  it("folds in float64 and rounds once", () => {
    const { weight, bias } = nodeWeights(FOLDED, STATE);
    expect(weight?.name).toBe("fc.1.folded.weight");
    expect(bias?.name).toBe("fc.1.folded.bias");
    // Channel 1: γ/√(σ² + ε) = 3/2 up to the float32 rounding of σ². Channel 2: 1e-7/√1e-5.
    const scale = Math.fround(1e-7) / Math.sqrt(Math.fround(5.6e-45) + 1e-5);
    const expected = [1.5, -3, 3e5 * scale, Math.fround(0.1) * scale].map(Math.fround);
    expect([...(weight?.tensor.data ?? [])]).toEqual(expected);
    expect([...(bias?.tensor.data ?? [])]).toEqual(
      [(0.5 + 1) * 1.5 + 0.25, (7 - 5) * scale - 1].map(Math.fround),
    );
  });

  it("folds a convolution without bias as one with bias 0", () => {
    const node: LayerNode = {
      ...FOLDED,
      op: {
        kind: "conv",
        inChannels: 2,
        outChannels: 2,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
        groups: 2,
        bias: true,
      },
      parameters: { weight: "conv" },
    };
    const { weight, bias } = nodeWeights(node, new Map([...STATE, ["conv", float32([2, 1, 1, 1], [2, 0])]]));
    expect(weight?.tensor).toEqual(float32([2, 1, 1, 1], [3, 0]));
    expect(bias?.tensor.data[0]).toBe(1 * 1.5 + 0.25);
  });

  it("does not lose the precision of float64 parameters before folding", () => {
    const exact = 1 + 2 ** -40;
    const state = new Map([
      ...STATE,
      ["fc.0.bias", { dtype: "float64", shape: [2], data: Float64Array.of(exact, 0) } as Tensor],
      ["fc.1.running_mean", float32([2], [1, 0])],
      ["fc.1.bias", float32([2], [0, 0])],
    ]);
    expect(nodeWeights(FOLDED, state).bias?.tensor.data[0]).toBeCloseTo(2 ** -40 * 1.5, 16);
  });

  it("names a parameter that is missing or of another shape", () => {
    const without = new Map([...STATE].filter(([path]) => path !== "fc.1.running_var"));
    expect(() => nodeWeights(FOLDED, without)).toThrow(/^fc\.1\.running_var: found no such parameter/);
    const wrong = new Map([...STATE, ["fc.0.weight", float32([4], [1, 2, 3, 4])]]);
    expect(() => nodeWeights(LINEAR, wrong)).toThrow(
      /^fc\.0\.weight: found shape \[4\], expected .*\[2, 2\]/,
    );
  });
});

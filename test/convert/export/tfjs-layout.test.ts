import { describe, expect, it } from "vitest";
import type { Op } from "../../../src/arch/graph.js";
import { fromTensorFlow, toTensorFlow } from "../../../src/convert/export/tfjs-names.js";
import { float32 } from "./graphs.js";

const conv = (inChannels: number, outChannels: number, groups: number): Op => ({
  kind: "conv",
  inChannels,
  outChannels,
  kernel: [2, 3],
  stride: [1, 1],
  padding: [0, 0],
  groups,
  bias: false,
});
const count = (...shape: readonly number[]) =>
  float32(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, index) => index),
  );

describe("weights in TensorFlow's order of axes", () => {
  it("a convolution: [out, in, h, w] is [h, w, in, out]", () => {
    const { shape, data } = toTensorFlow(conv(2, 5, 1), "weight", count(5, 2, 2, 3));
    expect(shape).toEqual([2, 3, 2, 5]);
    // h 1, w 2, in 1, out 4 is the last of both.
    expect(data.at(-1)).toBe(59);
    // h 0, w 1, in 1, out 3: 3·12 + 1·6 + 0·3 + 1.
    expect(data[(0 * 3 + 1) * 10 + 1 * 5 + 3]).toBe(43);
  });

  it("a depthwise convolution: [channels, 1, h, w] is [h, w, channels, 1]", () => {
    const { shape, data } = toTensorFlow(conv(4, 4, 4), "weight", count(4, 1, 2, 3));
    expect(shape).toEqual([2, 3, 4, 1]);
    expect([...data.slice(0, 4)]).toEqual([0, 6, 12, 18]);
  });

  it("a linear layer: [out, in] is [in, out]", () => {
    const { shape, data } = toTensorFlow(
      { kind: "linear", inFeatures: 3, outFeatures: 2 },
      "weight",
      count(2, 3),
    );
    expect(shape).toEqual([3, 2]);
    expect([...data]).toEqual([0, 3, 1, 4, 2, 5]);
  });

  it.each([
    ["weight", conv(2, 5, 1), count(5, 2, 2, 3)],
    ["weight", conv(4, 4, 4), count(4, 1, 2, 3)],
    ["weight", { kind: "linear", inFeatures: 3, outFeatures: 2 }, count(2, 3)],
    ["bias", { kind: "linear", inFeatures: 3, outFeatures: 2 }, count(2)],
    ["weight", { kind: "layerNorm", channels: 3, epsilon: 1e-5 }, count(3, 1, 1)],
    ["runningVar", { kind: "batchNorm", channels: 3, epsilon: 1e-5 }, count(3)],
  ] as const)("%s of %o, there and back", (role, op, tensor) => {
    expect(fromTensorFlow(op, role, toTensorFlow(op, role, tensor))).toEqual(tensor);
  });
});

import { expect, it } from "vitest";
import type { Tensor } from "../../../src/core/tensor.js";
import { castFloat, toFloat32, toFloat64 } from "../../../src/core/tensor-cast.js";
import { refold } from "../../../src/verify/weights/expected.js";
import { roundedWeights } from "../../../src/verify/weights/roundings.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { withTensor } from "../../support/osnet.js";

/** The number that float16 has of one. */
function half(value: number): number {
  const tensor = { dtype: "float32", shape: [1], data: Float32Array.of(value) } as const;
  return toFloat64(castFloat(tensor, "float16", "value"), "value").data[0] ?? 0;
}

/** What bounds allow of a product folded in float16 without what is subnormal there: 8 · 2⁻¹¹ of its terms, and a smallest number. */
const NARROW = 2 ** 13;
const LEAST = 2 ** -23;

it("what torch folds in half precision is within the bounds, small variances and weights among them", () => {
  const { graph, stateDict: seeded } = tinyCheckpoint("osnet");
  const path = "conv2.0.conv2b.0.bn";
  const stateDict = ["running_var", "running_mean"].reduce(
    (weights, name) =>
      withTensor(weights, `${path}.${name}`, (tensor) => ({
        ...tensor,
        data: Float32Array.from({ length: tensor.data.length }, (_, index) => 3e-8 * (index + 1.3)),
      })),
    withTensor(seeded, "conv2.0.conv2b.0.conv2.weight", (tensor) => ({
      ...tensor,
      data: Float32Array.from(tensor.data as Float32Array, (value) => value * 1e-5),
    })),
  );
  const norm = graph.nodes.find(({ name }) => name === path);
  const conv = graph.nodes.find(({ name }) => name === norm?.inputs[0]);
  if (!norm || !conv) throw new Error(`no ${path}`);
  const read = (name: string | undefined): Float64Array => {
    const tensor = stateDict.get(name ?? "");
    return tensor ? toFloat64(tensor, name ?? "").data.map(half) : new Float64Array();
  };
  const [w, gamma, beta] = [conv.parameters.weight, norm.parameters.weight, norm.parameters.bias].map(read);
  const [mean, variance] = [read(norm.parameters.runningMean), read(norm.parameters.runningVar)];
  const folded = refold(conv, norm, stateDict);
  const row = (w?.length ?? 0) / variance.length;
  let beyond = 0;
  for (let channel = 0; channel < variance.length; channel++) {
    const deviation = half(Math.sqrt(half((variance[channel] ?? 0) + half(1e-5))));
    const scale = half((gamma?.[channel] ?? 0) / deviation);
    const bias = half(half(-(mean[channel] ?? 0) * scale) + (beta?.[channel] ?? 0));
    const found = [
      ["bias", channel, bias] as const,
      ...Array.from({ length: row }, (_, at) => {
        const index = channel * row + at;
        return ["weight", index, half((w?.[index] ?? 0) * scale)] as const;
      }),
    ];
    for (const [role, index, value] of found) {
      const { values, bounds, smallest } = folded.get(role) ?? {};
      const error = Math.abs(value - (values?.[index] ?? 0));
      const plain = NARROW * (bounds?.()[index] ?? 0) + LEAST;
      expect(error).toBeLessThanOrEqual(plain + (smallest?.()[index] ?? 0) * 2 ** -24);
      if (error > plain) beyond++;
    }
  }
  expect(beyond).toBeGreaterThan(0);
});

it("what rounding weights costs is the same for those that are in half precision already", () => {
  const data = Float32Array.from({ length: 1000 }, (_, index) => Math.sin(index));
  const single: Tensor = { dtype: "float32", shape: [10, 100], data };
  const moved = (tensor: Tensor): number => {
    const own = toFloat32(tensor, "w").data;
    const off = roundedWeights(new Map([["w", tensor]]), "float16").get("w")?.data as Float32Array;
    return Math.hypot(...own.map((value, index) => value - (off[index] as number))) / Math.hypot(...own);
  };
  const share = moved(single);
  expect(share).toBeGreaterThan(2 ** -13);
  expect(share).toBeLessThan(2 ** -11);
  expect(moved(castFloat(single, "float16", "w")) / share).toBeCloseTo(1, 0);
});

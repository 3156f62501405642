import { describe, expect, it } from "vitest";
import { type Anomaly, findAnomalies, isUntrained } from "../../../src/convert/inspect/anomalies.js";
import type { StateDict, Tensor } from "../../../src/core/tensor.js";
import { openFixture, withTensor, withValues } from "../../support/osnet.js";

const { graph, stateDict } = openFixture();

/** What is found in the fixture with one tensor changed, but not what every x0_25 has. */
function found(path: string, change: (tensor: Tensor) => Tensor, weights: StateDict = stateDict): Anomaly[] {
  return findAnomalies(graph, withTensor(weights, path, change)).filter(
    ({ kind }) => kind !== "one-channel-gate",
  );
}

const filled = ({ shape, data }: Tensor, value: number): Tensor => ({
  dtype: "float32",
  shape,
  data: new Float32Array(data.length).fill(value),
});

describe("findAnomalies", () => {
  it("finds nothing in a correct network except its gates of one hidden channel", () => {
    const anomalies = findAnomalies(graph, stateDict);
    expect(anomalies).toMatchObject([{ kind: "one-channel-gate", severity: "info", count: 4 }]);
    expect(anomalies[0]?.tensors.map(({ path }) => path)).toEqual(
      ["conv2.0", "conv2.1", "conv3.0", "conv3.1"].map((block) => `${block}.gate.fc1.weight`),
    );
  });

  it("names NaN and infinities, and where the first one is", () => {
    const path = "conv1.conv.weight";
    expect(found(path, (tensor) => withValues(tensor, { 150: -Infinity, 151: Number.NaN }))).toMatchObject([
      {
        kind: "non-finite",
        severity: "error",
        count: 2,
        // 150 = 1·147 + 0·49 + 0·7 + 3 in [16, 3, 7, 7].
        tensors: [{ path, count: 2, of: 2352, first: { index: [1, 0, 0, 3], value: "-Infinity" } }],
      },
    ]);
  });

  it("finds negative variances", () => {
    const path = "conv5.bn.running_var";
    expect(found(path, (tensor) => withValues(tensor, { 4: -0.5, 9: -1 }))).toMatchObject([
      { kind: "negative-variance", tensors: [{ path, count: 2, first: { index: [4], value: -0.5 } }] },
    ]);
  });

  it("finds denormal variances, and other denormals apart", () => {
    const variance = "conv5.bn.running_var";
    const broken = withTensor(stateDict, "conv5.bn.bias", (tensor) => withValues(tensor, { 0: -1e-40 }));
    expect(
      found(variance, (tensor) => withValues(tensor, { 2: 2 ** -127, 3: 2 ** -126 }), broken),
    ).toMatchObject([
      { kind: "denormal-variance", count: 1, tensors: [{ path: variance, first: { index: [2] } }] },
      { kind: "denormal", count: 1, tensors: [{ path: "conv5.bn.bias" }] },
    ]);
  });

  it("finds channels whose norm's weight is next to nothing", () => {
    const path = "conv5.bn.weight";
    expect(found(path, (tensor) => withValues(tensor, { 3: 9e-7, 4: -9e-7, 5: 2e-6 }))).toMatchObject([
      { kind: "dead-channels", count: 2, tensors: [{ path, of: 128, first: { index: [3] } }] },
    ]);
  });

  it("finds filters of zeros", () => {
    const path = "conv5.conv.weight";
    const zeros = Object.fromEntries(Array.from({ length: 128 }, (_, index) => [2 * 128 + index, 0]));
    expect(found(path, (tensor) => withValues(tensor, zeros))).toMatchObject([
      { kind: "dead-channels", tensors: [{ path, count: 1, of: 128, first: { index: [2], value: 0 } }] },
    ]);
  });

  it("finds weights that are all one number", () => {
    const path = "fc.0.weight";
    expect(found(path, (tensor) => filled(tensor, 0.25))).toMatchObject([
      { kind: "constant-weights", tensors: [{ path, first: { value: 0.25 } }] },
    ]);
  });

  it("finds statistics that no image ever updated", () => {
    const fresh = withTensor(stateDict, "fc.1.running_mean", (tensor) => filled(tensor, 0));
    expect(found("fc.1.running_var", (tensor) => filled(tensor, 1), fresh)).toMatchObject([
      { kind: "untrained-statistics", count: 512, tensors: [{ path: "fc.1.running_var" }] },
    ]);
    expect(found("fc.1.running_var", (tensor) => filled(tensor, 1))).toEqual([]);
  });

  it("finds a network that was never trained, by all of its norms", () => {
    const initial = (path: string, tensor: Tensor): Tensor => {
      if (!/(^|[._])(bn|IN)\.|fc\.1\.|downsample\.bn/.test(path) || tensor.dtype === "int64") return tensor;
      return filled(tensor, /(weight|running_var)$/.test(path) ? 1 : 0);
    };
    const untrained = new Map([...stateDict].map(([path, tensor]) => [path, initial(path, tensor)]));
    expect(isUntrained(graph, untrained)).toBe(true);
    const kinds = findAnomalies(graph, untrained).map(({ kind, severity }) => `${severity} ${kind}`);
    expect(kinds).toEqual(["warning untrained", "info one-channel-gate"]);
    for (const [path, index] of [
      ["fc.1.bias", 0],
      ["conv5.bn.running_mean", 3],
    ] as const)
      expect(
        isUntrained(
          graph,
          withTensor(untrained, path, (tensor) => withValues(tensor, { [index]: 1e-3 })),
        ),
      ).toBe(false);
    expect(isUntrained(graph, stateDict)).toBe(false);
  });
});

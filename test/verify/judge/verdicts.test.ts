import { describe, expect, it } from "vitest";
import type { LayerNode } from "../../../src/arch/index.js";
import type { RealTensor } from "../../../src/core/tensor.js";
import { gateResult, judgeLayer, judgeOutput } from "../../../src/verify/judge/verdicts.js";
import { measure } from "../../../src/verify/outcome/metrics.js";
import type { LayerResult, RelativeTolerance } from "../../../src/verify/outcome/report.js";

const NODE: LayerNode = {
  name: "conv2.0.gate[2].fc1",
  op: { kind: "relu" },
  inputs: [],
  parameters: {},
  stream: 2,
};
const TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 0.25 };
const row = (...values: number[]): RealTensor => ({
  dtype: "float64",
  shape: [1, values.length],
  data: Float64Array.from(values),
});

const judged = (expected: RealTensor, actual: RealTensor): LayerResult =>
  judgeLayer(NODE, measure(expected, actual), actual, TOLERANCE);

describe("judgeLayer", () => {
  it.each([
    ["at the limit", [4, 0], [4, 1], "pass", 1],
    ["just over it", [4, 0], [4, 1 + 2 ** -52], "fail", 1 + 2 ** -52],
    ["equal", [4, 0], [4, 0], "pass", 0],
    ["zeros that agree", [0, 0], [0, 0], "pass", 0],
    ["a value where the reference is 0", [0, 0], [0, 1e-30], "fail", null],
    ["NaN", [4, 0], [4, Number.NaN], "fail", null],
    ["NaN on both sides", [4, Number.NaN], [4, Number.NaN], "fail", null],
    ["the same infinity", [4, Infinity], [4, Infinity], "pass", 0],
  ])("%s", (_, expected, actual, status, margin) => {
    const result = judged(row(...expected), row(...actual));
    expect(result).toMatchObject({ status, margin });
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
  });

  it("carries the layer's name, operation, shape and stream", () => {
    expect(judged(row(1, 2), row(1, 2.5))).toMatchObject({
      name: "conv2.0.gate[2].fc1",
      op: "relu",
      shape: [1, 2],
      stream: 2,
      maxAbs: 0.5,
      relMax: 0.25,
      nonFinite: 0,
    });
  });
});

describe("gateResult", () => {
  it("gives the candidate's range", () => {
    const gate = { block: "conv2.0", stream: 2, layer: NODE.name };
    const verdict = judged(row(0.25, 0.5, 0.75), row(0.25, 0.5, 1));
    expect(gateResult(gate, row(0.25, 0.5, 1), row(0.25, 0.5, 0.75), verdict)).toEqual({
      block: "conv2.0",
      stream: 2,
      min: 0.25,
      mean: 0.5,
      max: 0.75,
      maxAbs: 0.25,
      status: "fail",
      channels: { candidate: [0.25, 0.5, 0.75], reference: [0.25, 0.5, 1], maxAbs: [0, 0, 0.25] },
    });
  });
});

describe("judgeOutput", () => {
  it("judges the model as it is used, not as it was inspected", () => {
    expect(judgeOutput("fc.2", row(3, 4), row(3, 4), row(3, 8), TOLERANCE)).toMatchObject({
      layer: "fc.2",
      status: "fail",
      maxAbs: 4,
      relMax: 1,
      tappingMaxAbs: 4,
    });
  });

  it("allows half precision to move by what it is off, and no more", () => {
    const bounds = { rule: "derived-bounds" } as const;
    const status = (plain: number, precision?: "float16") =>
      judgeOutput("fc.2", row(100, 100), row(100, 101), row(100, plain), bounds, precision).status;
    expect([status(101.05), status(98), status(98, "float16"), status(95, "float16")]).toEqual([
      "pass",
      "fail",
      "pass",
      "fail",
    ]);
  });

  it("in half precision passes near the run with intermediate outputs, however far both are from the reference", () => {
    const status = (plain: number) =>
      judgeOutput(
        "fc.2",
        row(100, 100),
        row(100, 110),
        row(100, plain),
        { rule: "derived-bounds" },
        "float16",
      ).status;
    expect([111, 112].map(status)).toEqual(["pass", "fail"]);
  });

  it("compares directions apart from lengths", () => {
    const result = judgeOutput("fc.2", row(3, 4), row(6, 8), undefined, TOLERANCE);
    expect(result).toMatchObject({ status: "fail", maxAbs: 4, tappingMaxAbs: null });
    expect(result.normalizedMaxAbs).toBeLessThan(1e-15);
    expect(result.cosine).toBeCloseTo(1, 15);
  });
});

import type { LayerResult, ParityReport } from "../../../src/verify/outcome/report.js";

export const layerResult = (name: string, margin: number | null): LayerResult => ({
  name,
  op: "relu",
  shape: [2, 16, 8, 4],
  status: margin !== null && margin <= 1 ? "pass" : "fail",
  margin,
  maxAbs: 1e-5,
  relMax: margin === null ? null : margin * 1e-4,
  rmse: 2e-6,
  cosine: 1 - 3e-12,
  ulp: 12,
  nonFinite: margin === null ? 1 : 0,
});

/** A passing report of two layers and two gates. */
export const REPORT: ParityReport = {
  schema: "osnet-parity/1",
  candidate: { name: "m.onnx", format: "onnx", variant: "osnet_x0_25" },
  reference: { name: "w.pth", format: "pth", variant: "osnet_x0_25" },
  backend: "onnxruntime",
  tolerance: { rule: "relative-to-max", value: 1e-4 },
  input: { source: "seed:0", shape: [2, 3, 64, 32] },
  passed: true,
  faults: [],
  layers: [layerResult("conv1.relu", 0.02), layerResult("conv2.0.gate[1]", 0.5)],
  gates: [1, 2].map((stream) => ({
    block: "conv2.0",
    stream,
    min: 0.04,
    mean: 0.5,
    max: 0.85,
    maxAbs: 2e-7,
    status: "pass",
  })),
  output: {
    layer: "fc.2",
    status: "pass",
    maxAbs: 1.7e-5,
    relMax: 2.7e-6,
    cosine: 1,
    normalizedMaxAbs: 7.4e-7,
    tappingMaxAbs: 5.5e-6,
  },
  weights: { compared: 316, identical: 316, folded: 80 },
  coverage: { expected: 3, compared: 2, folded: ["conv1.conv"], missing: [] },
};

import { expect, it } from "vitest";
import { batchNormAffine, foldedBias, scaleRows } from "../../src/arch/batch-norm.js";

it("folds a batch norm into the layer before it", () => {
  // γ/√(σ² + ε) is 2/√(3 + 1) and 3/√(0 + 1).
  const affine = batchNormAffine(
    { weight: [2, 3], bias: [10, 20], runningMean: [1, -1], runningVar: [3, 0] },
    1,
  );
  expect(affine).toEqual({ mean: [1, -1], scale: Float64Array.of(1, 3), bias: [10, 20] });
  expect(foldedBias(affine, undefined)).toEqual(Float64Array.of(9, 23));
  expect(foldedBias(affine, [1, 2])).toEqual(Float64Array.of(10, 29));
  expect(scaleRows(Float64Array.of(1, 2, 3, 4), affine.scale, new Float32Array(4))).toEqual(
    Float32Array.of(1, 2, 9, 12),
  );
});

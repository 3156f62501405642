import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx/index.js";
import { decodeOnnx, encodeOnnx } from "../../src/convert/formats/onnx/index.js";
import { referenceBackend } from "../../src/verify/backends/reference.js";
import { onnxCandidate } from "../../src/verify/candidate/onnx-candidate.js";
import { FAMILIES, missing } from "../fixtures.js";
import { distances, expectNearPyTorch, openFamily } from "./pytorch.js";

/**
 * The independent truth: PyTorch's own activations. The float64 reference must be PyTorch in float64; a float32 path
 * must be no farther from it than three times PyTorch's own float32 is.
 */
const REFERENCE_LIMIT = 1e-11;
const FLOOR = 2e-6;

describe.each(FAMILIES)("%s against PyTorch", (family) => {
  const absent = missing(`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`);

  it(`float64 reference: every tensor within ${REFERENCE_LIMIT} of max`, async (context) => {
    if (absent) return context.skip(absent);
    const { checkpoint, float64 } = await openFamily(family);
    const errors = await distances(float64, referenceBackend(checkpoint.graph, checkpoint.stateDict));
    expect([...errors.keys()].sort()).toEqual([...float64.backend.layers].sort());
    expect(errors.size).toBeGreaterThan(400);
    expect(Math.max(...errors.values())).toBeLessThanOrEqual(REFERENCE_LIMIT);
  });

  it.for([
    ["folded", true],
    ["unfolded", false],
  ] as const)(
    "onnxruntime, %s: no tensor farther than three times PyTorch's float32",
    async ([, fold], context) => {
      if (absent) return context.skip(absent);
      const recorded = await openFamily(family);
      const { graph, stateDict } = recorded.checkpoint;
      const bytes = encodeOnnx(lowerToOnnx(graph, stateDict, { fold, size: { height: 64, width: 32 } }));
      const model = decodeOnnx(bytes, { subject: family });
      const candidate = onnxCandidate({ bytes, whole: bytes }, model, graph, {
        name: family,
        format: "onnx",
      });
      expect(candidate.folded.size > 0).toBe(fold);
      expect(candidate.program).toBeDefined();
      await expectNearPyTorch(candidate, recorded, FLOOR);
    },
  );
});

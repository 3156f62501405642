import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { isInstalled } from "../../src/verify/backends/node-packages.js";
import { referenceBackend } from "../../src/verify/backends/reference.js";
import { engineOf, runtimesFor } from "../../src/verify/backends/registry.js";
import { FAMILIES, missing } from "../fixtures.js";
import { onnxCandidate } from "../support/candidates.js";
import { distances, expectNearPyTorch, expectNearPyTorchOnAverage, openFamily } from "./pytorch.js";

/**
 * The independent truth: PyTorch's own activations. The float64 reference must be PyTorch in float64; a float32 path
 * must be no farther from it than three times PyTorch's own float32 is: onnxruntime in every tensor, others on average.
 */
const REFERENCE_LIMIT = 1e-11;
const FLOOR = 2e-6;

/** What runs ONNX files in this process; those in Chromium are test/browser/backends.test.ts's. */
const RUNTIMES = runtimesFor("onnx").filter(
  (name) => !name.startsWith("chromium:") && isInstalled(engineOf(name).package),
);

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

  it.for(
    RUNTIMES.flatMap((runtime) => [
      [runtime, "folded", true] as const,
      [runtime, "unfolded", false] as const,
    ]),
  )("%s, %s: no farther than three times PyTorch's float32", async ([backend, , fold], context) => {
    if (absent) return context.skip(absent);
    const recorded = await openFamily(family);
    const { graph, stateDict } = recorded.checkpoint;
    const bytes = encodeOnnx(lowerToOnnx(graph, stateDict, { fold, size: { height: 64, width: 32 } }));
    const model = decodeOnnx(bytes, { subject: family });
    const party = { name: family, format: "onnx" } as const;
    const candidate = onnxCandidate(bytes, model, graph, party, backend);
    expect(candidate.backend.name).toBe(backend);
    expect(candidate.folded.size > 0).toBe(fold);
    expect(candidate.program).toBeDefined();
    if (backend === "onnxruntime") await expectNearPyTorch(candidate, recorded, FLOOR);
    else await expectNearPyTorchOnAverage(candidate, recorded);
  });
});

import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { decodeTfjs, encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { isInstalled } from "../../src/verify/backends/node-packages.js";
import { referenceBackend } from "../../src/verify/backends/references.js";
import { engineOf, runtimesFor } from "../../src/verify/backends/registry.js";
import { ALL, FAMILIES, type Family, missing, VARIED_FAMILIES } from "../fixtures.js";
import { onnxCandidate, tfjsCandidate } from "../support/candidates.js";
import { distances, expectNearPyTorch, expectNearPyTorchOnAverage, openFamily } from "./pytorch.js";

/**
 * The independent truth: PyTorch's own activations. The float64 reference must be PyTorch in float64; a float32 path
 * must be no farther from it than three times PyTorch's own float32 is: onnxruntime and TensorFlow.js in every tensor,
 * onnxruntime-web on average.
 */
const REFERENCE_LIMIT = 1e-11;
const FLOOR = 2e-6;
const TFJS_FLOOR = 3e-6;
const SIZE = { height: 64, width: 32 } as const;

/** What runs ONNX files in this process; those in Chromium are test/browser/backends.test.ts's. */
const RUNTIMES = runtimesFor("onnx").filter(
  (name) => !name.startsWith("chromium:") && isInstalled(engineOf(name).package),
);

/** What is written for TensorFlow.js, and where it is run. */
const TFJS = [
  ["tfjs-wasm", "folded, fused", { fold: true, fuse: true, size: SIZE }],
  ["tfjs-wasm", "unfolded", { fold: false, fuse: true, size: SIZE }],
  ["tfjs-wasm", "layers, folded", { size: SIZE, layers: true }],
  ["tfjs-wasm", "folded, TensorFlow's own operators", { fold: true, fuse: false, size: SIZE }],
  ["tfjs-wasm", "any size", { size: "dynamic" }],
  ["tfjs-cpu", "folded, fused", { size: SIZE }],
  ["tfjs-wasm", "layers, unfolded", { size: SIZE, layers: true, fold: false }],
  ["tfjs-cpu", "layers, folded", { size: SIZE, layers: true }],
] as const;

const VARIED: ReadonlySet<string> = new Set(VARIED_FAMILIES);

/**
 * Which of them a family is run in: one each, and three of those that have every kind of layer, so that each is run on one of those. All are
 * proven for all families (proof/tfjs.test.ts), and TESTS=all runs all.
 */
function tfjsFor(family: Family): readonly (typeof TFJS)[number][] {
  const varied = VARIED_FAMILIES.indexOf(family);
  const others = FAMILIES.filter((name) => !VARIED.has(name));
  return TFJS.filter(
    (_, index) =>
      ALL || (varied < 0 ? index === others.indexOf(family) : index % VARIED_FAMILIES.length === varied),
  );
}

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
    RUNTIMES.filter((runtime) => runtime === "onnxruntime" || VARIED.has(family) || ALL).flatMap(
      (runtime) => [
        [runtime, "folded", true] as const,
        ...(VARIED.has(family) || ALL ? [[runtime, "unfolded", false] as const] : []),
      ],
    ),
  )("%s, %s: no farther than three times PyTorch's float32", async ([backend, , fold], context) => {
    if (absent) return context.skip(absent);
    const recorded = await openFamily(family);
    const { graph, stateDict } = recorded.checkpoint;
    const bytes = encodeOnnx(lowerToOnnx(graph, stateDict, { fold, size: SIZE }));
    const model = decodeOnnx(bytes, { subject: family });
    const party = { name: family, format: "onnx" } as const;
    const candidate = onnxCandidate(bytes, model, graph, party, backend);
    expect(candidate.backend.name).toBe(backend);
    expect(candidate.folded.size > 0).toBe(fold);
    expect(candidate.program).toBeDefined();
    if (backend === "onnxruntime") await expectNearPyTorch(candidate, recorded, FLOOR);
    else await expectNearPyTorchOnAverage(candidate, recorded);
  });

  it.for(tfjsFor(family))(
    "%s, %s: no tensor farther than PyTorch's float32 allows",
    async ([backend, , options], context) => {
      if (absent) return context.skip(absent);
      const recorded = await openFamily(family);
      const { graph, stateDict } = recorded.checkpoint;
      const lower = "layers" in options ? lowerToTfjsLayers : lowerToTfjs;
      const files = encodeTfjs(lower(graph, stateDict, options));
      const model = decodeTfjs(files, { subject: family });
      const party = { name: family, format: "tfjs" } as const;
      const candidate = tfjsCandidate(files, model, graph, party, backend);
      expect(candidate.folded.size > 0).toBe(!("fold" in options) || options.fold);
      expect(candidate.program).toBeDefined();
      await expectNearPyTorch(candidate, recorded, TFJS_FLOOR);
    },
  );
});

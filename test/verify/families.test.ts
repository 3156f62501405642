import { describe, expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../src/convert/checkpoint.js";
import { openNpz } from "../../src/convert/formats/npz/archive.js";
import { decodeOnnx, encodeOnnx } from "../../src/convert/formats/onnx/index.js";
import { lowerToOnnx } from "../../src/convert/lower/onnx/index.js";
import type { RealTensor } from "../../src/tensor.js";
import type { Backend } from "../../src/verify/backend.js";
import { openRecording, type Recording } from "../../src/verify/backends/recorded.js";
import { referenceBackend } from "../../src/verify/backends/reference.js";
import { onnxCandidate } from "../../src/verify/candidate.js";
import { joinByName } from "../../src/verify/join.js";
import { measure } from "../../src/verify/metrics.js";
import { FAMILIES, type Family, missing, readFixture } from "../fixtures.js";

/**
 * The independent truth: PyTorch's own activations. The float64 reference must be PyTorch in float64; a float32 path
 * must be no farther from it than three times PyTorch's own float32 is.
 */
const REFERENCE_LIMIT = 1e-11;
const PYTORCH_FACTOR = 3;
const FLOOR = 2e-6;

function openFamily(family: Family): { checkpoint: Checkpoint; float64: Recording; float32: Recording } {
  const subject = `${family}.pth`;
  const bytes = readFixture(subject);
  const { spec } = openCheckpoint(bytes, { subject });
  const attributes = family === "osnet_attr_max_x0_25" && spec.head;
  const checkpoint = openCheckpoint(bytes, {
    subject,
    arch: attributes ? { ...spec, pooling: "max", head: { ...attributes, loss: "sigmoid" } } : spec,
  });
  const recording = (name: string): Recording =>
    openRecording(openNpz(readFixture(name), name), checkpoint.graph, name);
  return {
    checkpoint,
    float64: recording(`${family}.64x32.float64.npz`),
    float32: recording(`${family}.64x32.npz`),
  };
}

/** max |value − truth| / max |truth| of each layer that both have. */
async function distances(truth: Recording, backend: Backend): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  const wanted = new Set(truth.backend.layers);
  for await (const { name, expected, actual } of joinByName(
    truth.backend.run(truth.images),
    backend.run(truth.images),
    wanted,
  )) {
    expect([...actual.shape]).toEqual([...expected.shape]);
    const metrics = measure(expected, actual);
    expect(metrics.mismatchedNonFinite, name).toBe(0);
    found.set(name, metrics.relMax);
  }
  return found;
}

/**
 * PyTorch's distance of each module: the largest of its calls. A gate is one module that runs once per stream, and its
 * hidden layer has a single channel here, whose terms cancel: one call's rounding error is a draw that may be near 0
 * by luck, and four draws say more of what float32 can do.
 */
function perModule(distance: ReadonlyMap<string, number>): (name: string) => number {
  const moduleOf = (name: string): string => name.replace(/\[\d+\]/, "");
  const largest = new Map<string, number>();
  for (const [name, value] of distance)
    largest.set(moduleOf(name), Math.max(value, largest.get(moduleOf(name)) ?? 0));
  return (name) => largest.get(moduleOf(name)) ?? 0;
}

describe.each(FAMILIES)("%s against PyTorch", (family) => {
  const absent = missing(`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`);

  it(`float64 reference: every tensor within ${REFERENCE_LIMIT} of max`, async (context) => {
    if (absent) return context.skip(absent);
    const { checkpoint, float64 } = openFamily(family);
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
      const { checkpoint, float64, float32 } = openFamily(family);
      const { graph, stateDict } = checkpoint;
      const bytes = encodeOnnx(lowerToOnnx(graph, stateDict, { fold, size: { height: 64, width: 32 } }));
      const model = decodeOnnx(bytes, { subject: family });
      const candidate = onnxCandidate(bytes, model, graph, { name: family, format: "onnx" });
      const pytorch = perModule(await distances(float64, float32.backend));
      const ours = await distances(float64, candidate.backend);
      const expected = float64.backend.layers.filter((name) => !candidate.folded.has(name));
      expect([...ours.keys()].sort()).toEqual([...expected].sort());
      expect(candidate.folded.size > 0).toBe(fold);
      const far = expected.filter(
        (name) => (ours.get(name) ?? Infinity) > Math.max(FLOOR, PYTORCH_FACTOR * pytorch(name)),
      );
      expect(far).toEqual([]);
      for (const { layer } of graph.gates) expect(ours.has(layer)).toBe(true);

      // The file as users run it, without inner outputs.
      const plain = await candidate.untapped?.(float64.images);
      const output = await lastOf(float64, graph.outputs[graph.outputs.evaluation] ?? "");
      const limit = Math.max(FLOOR, PYTORCH_FACTOR * pytorch(plain?.name ?? ""));
      expect(plain && measure(output, plain.tensor).relMax).toBeLessThanOrEqual(limit);
    },
  );
});

async function lastOf({ backend, images }: Recording, layer: string): Promise<RealTensor> {
  for await (const { name, tensor } of backend.run(images)) if (name === layer) return tensor;
  throw new Error(`no ${layer} recorded`);
}

import { expect } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../src/convert/checkpoint.js";
import { openNpz } from "../../src/convert/formats/npz/archive.js";
import type { RealTensor } from "../../src/tensor.js";
import type { Backend } from "../../src/verify/backend.js";
import { openRecording, type Recording } from "../../src/verify/backends/recorded.js";
import { joinByName } from "../../src/verify/join.js";
import { measure } from "../../src/verify/metrics.js";
import { type Family, readFixture } from "../fixtures.js";

/** A float32 path may be this many times farther from PyTorch in float64 than PyTorch's own float32 is. */
export const PYTORCH_FACTOR = 3;

/** A family's checkpoint, and PyTorch's recordings of it. */
export function openFamily(family: Family): {
  checkpoint: Checkpoint;
  float64: Recording;
  float32: Recording;
} {
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
export async function distances(truth: Recording, backend: Backend): Promise<Map<string, number>> {
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
export function perModule(distance: ReadonlyMap<string, number>): (name: string) => number {
  const moduleOf = (name: string): string => name.replace(/\[\d+\]/, "");
  const largest = new Map<string, number>();
  for (const [name, value] of distance)
    largest.set(moduleOf(name), Math.max(value, largest.get(moduleOf(name)) ?? 0));
  return (name) => largest.get(moduleOf(name)) ?? 0;
}

/** A layer's recorded value. */
export async function lastOf({ backend, images }: Recording, layer: string): Promise<RealTensor> {
  for await (const { name, tensor } of backend.run(images)) if (name === layer) return tensor;
  throw new Error(`no ${layer} recorded`);
}

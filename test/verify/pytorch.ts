import { expect } from "vitest";
import { openNpz } from "../../src/convert/formats/npz.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { type RealTensor, sameShape } from "../../src/core/tensor.js";
import type { Backend, LayerOutput } from "../../src/verify/backends/backend.js";
import { openRecording, type Recording } from "../../src/verify/backends/references.js";
import type { Candidate } from "../../src/verify/candidate/candidate.js";
import { joinByName } from "../../src/verify/judge/compare-layers.js";
import { measure } from "../../src/verify/outcome/metrics.js";
import { type Family, readFixture } from "../fixtures.js";

/** A float32 path may be this many times farther from PyTorch in float64 than PyTorch's own float32 is. */
export const PYTORCH_FACTOR = 3;

/** A family's checkpoint, and PyTorch's recordings of it. */
interface RecordedFamily {
  readonly checkpoint: Checkpoint;
  readonly float64: Recording;
  readonly float32: Recording;
}

/** The family opened last: its tests follow one another, and reading its recordings takes longer than any of them. */
let opened: { readonly family: Family; readonly recorded: RecordedFamily } | undefined;

/** Opens a family's checkpoint and reads PyTorch's recordings of it, once for all tests that follow one another. */
export async function openFamily(family: Family): Promise<RecordedFamily> {
  if (opened?.family === family) return opened.recorded;
  const subject = `${family}.pth`;
  const bytes = readFixture(subject);
  const { spec } = openCheckpoint(bytes, { subject });
  const attributes = family === "osnet_attr_max_x0_25" && spec.head;
  const checkpoint = openCheckpoint(bytes, {
    subject,
    arch: attributes ? { ...spec, pooling: "max", head: { ...attributes, loss: "sigmoid" } } : spec,
  });
  const recording = (name: string): Promise<Recording> =>
    inMemory(openRecording(openNpz(readFixture(name), name), checkpoint.graph, name));
  const recorded = {
    checkpoint,
    float64: await recording(`${family}.64x32.float64.npz`),
    float32: await recording(`${family}.64x32.npz`),
  };
  opened = { family, recorded };
  return recorded;
}

/** A recording whose layers are read now, and not again by each run. */
async function inMemory({ backend, images }: Recording): Promise<Recording> {
  const outputs: LayerOutput[] = [];
  for await (const output of backend.run(images)) outputs.push(output);
  return {
    images,
    backend: {
      ...backend,
      async *run(): AsyncGenerator<LayerOutput> {
        yield* outputs;
      },
    },
  };
}

const pytorchDistances = new WeakMap<Recording, Promise<Map<string, number>>>();

/** PyTorch's own distances between float64 and float32, computed once. */
function pytorchDistance({ float64, float32 }: RecordedFamily): Promise<Map<string, number>> {
  const known = pytorchDistances.get(float64) ?? distances(float64, float32.backend);
  pytorchDistances.set(float64, known);
  return known;
}

/** max |value − truth| / max |truth| of each layer that both have. */
export async function distances(truth: Recording, backend: Backend): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  const wanted = new Set(truth.backend.layers);
  const wrong: string[] = [];
  for await (const { name, expected, actual } of joinByName(
    truth.backend.run(truth.images),
    backend.run(truth.images),
    wanted,
  )) {
    const metrics = sameShape(actual.shape, expected.shape) ? measure(expected, actual) : undefined;
    if (metrics?.mismatchedNonFinite === 0) found.set(name, metrics.relMax);
    else wrong.push(name);
  }
  expect(wrong, "of other shapes, or not finite").toEqual([]);
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

/**
 * Holds a candidate against PyTorch as a whole: the geometric mean, over all tensors that PyTorch recorded but for what the candidate
 * folds, of how many times as far from PyTorch in float64 as PyTorch's own float32 it is. A runtime that sums one product after the
 * other, as WebAssembly's and graphics cards' do, may be farther in single tensors: each is held to its own bound elsewhere.
 *
 * @returns that mean
 */
export async function expectNearPyTorchOnAverage(
  { backend, folded }: Pick<Candidate, "backend" | "folded">,
  recorded: RecordedFamily,
): Promise<number> {
  const { float64 } = recorded;
  const pytorch = perModule(await pytorchDistance(recorded));
  const ours = await distances(float64, backend);
  const expected = float64.backend.layers.filter((name) => !folded.has(name));
  expect([...ours.keys()].sort()).toEqual([...expected].sort());
  const logs = [...ours].map(([name, distance]) =>
    Math.log(Math.max(distance, FLOAT32_UNIT) / Math.max(pytorch(name), FLOAT32_UNIT)),
  );
  const mean = Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
  expect(mean).toBeLessThanOrEqual(PYTORCH_FACTOR);
  return mean;
}

/** What rounding a value once may put it off by: less than that is no distance. */
const FLOAT32_UNIT = 2 ** -24;

/** A layer's recorded value. */
export async function lastOf({ backend, images }: Recording, layer: string): Promise<RealTensor> {
  for await (const { name, tensor } of backend.run(images)) if (name === layer) return tensor;
  throw new Error(`no ${layer} recorded`);
}

/**
 * Holds a candidate against PyTorch: it has all that PyTorch recorded but for what it folds into the next layer, no tensor
 * farther from PyTorch in float64 than PyTorch's own float32 allows, and so, if it
 * can be run as it is used, its result.
 *
 * @param floor what a tensor may be off by in any case, as a share of its largest value
 */
export async function expectNearPyTorch(
  { backend, folded, program }: Pick<Candidate, "backend" | "folded" | "program">,
  recorded: RecordedFamily,
  floor: number,
): Promise<void> {
  const {
    checkpoint: { graph },
    float64,
  } = recorded;
  const pytorch = perModule(await pytorchDistance(recorded));
  const ours = await distances(float64, backend);
  const limit = (name: string): number => Math.max(floor, PYTORCH_FACTOR * pytorch(name));
  const expected = float64.backend.layers.filter((name) => !folded.has(name));
  expect([...ours.keys()].sort()).toEqual([...expected].sort());
  expect(expected.filter((name) => (ours.get(name) ?? Infinity) > limit(name))).toEqual([]);
  expect(graph.gates.filter(({ layer }) => !ours.has(layer))).toEqual([]);

  const [main] = program?.outputs ?? [];
  if (!program || !main) return;
  const model = program.load();
  const [result] = await model.run(float64.images);
  await model.release();
  const output = await lastOf(float64, graph.outputs[graph.outputs.evaluation] ?? "");
  expect(measure(output, result as RealTensor).relMax).toBeLessThanOrEqual(limit(main.layer));
}

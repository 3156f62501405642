import { InputError } from "../../core/errors.js";
import { formatShape, type RealTensor, rowsOf, type Tensor } from "../../core/tensor.js";
import { plural } from "../../core/text.js";
import type { LoadedModel } from "../backends/backend.js";
import type { Candidate, Program } from "../candidate/candidate.js";
import { measure } from "../outcome/metrics.js";
import { type Fault, layerFault, type Rerun } from "../outcome/report.js";
import { finite } from "./verdicts.js";

/**
 * Number of images that are also run alone: a model that mixes the images of a batch does so with the first or the
 * last.
 */
const MAX_ALONE = 2;

/** The unmodified model's run on all images. */
export interface WholeRun {
  readonly images: Tensor<"float32">;
  readonly outputs: readonly RunOutput[];
  /** The results of single images; undefined if there is only one image. */
  readonly alone: AloneRun | undefined;
  /** The outputs without the runtime's optimisations, or the reason why there are none; undefined if it has none to turn off. */
  readonly unoptimised: readonly RealTensor[] | string | undefined;
}

/** The runs on single images. */
export interface AloneRun {
  /** Their indices in the batch. */
  readonly chosen: readonly number[];
  /** The outputs for each of them, or the reason why there are none. */
  readonly given: readonly (readonly RealTensor[] | string)[];
  /** The number of images in each run, all of them the same one. */
  readonly count: number;
}

/** An output of a run. */
interface RunOutput {
  /** Its index among the outputs of a run. */
  readonly index: number;
  readonly tensor: RealTensor;
  /** The tolerance, as a share of its largest value. */
  readonly tolerance: number;
}

/**
 * Runs a model on the first and the last image alone. If its batch size is fixed above 1, the image is repeated to
 * fill the batch.
 *
 * @param batch the fixed batch size, if any
 */
export async function runAlone(
  model: LoadedModel,
  images: Tensor<"float32">,
  batch: number | undefined,
): Promise<AloneRun | undefined> {
  const count = images.shape[0] ?? 1;
  if (count < 2) return undefined;
  const chosen = batch === undefined ? [...new Set([0, count - 1])].slice(0, MAX_ALONE) : [0];
  const rows = batch === undefined ? 1 : count;
  const given: (readonly RealTensor[] | string)[] = [];
  for (const image of chosen) {
    const alone = rowsOf(images, image, 1);
    given.push(await valuesOf(model, rowsOf(alone, 0, rows)));
  }
  return { chosen, given, count: rows };
}

/**
 * A program whose model stays loaded, as a program loads it, until it is closed: opening a session takes longer than a run.
 * Models that are loaded in other ways are released after their runs.
 */
export function keptLoaded(program: Program): { readonly program: Program; close(): Promise<void> } {
  let kept: LoadedModel | undefined;
  return {
    program: {
      ...program,
      load(options = {}) {
        if (options.optimised === false || options.copy) return program.load(options);
        kept ??= program.load(options);
        return { run: kept.run, release: async () => undefined };
      },
    },
    close: async () => kept?.release(),
  };
}

/** Runs a candidate without the runtime's optimisations, if they can be turned off. */
export async function runUnoptimised(
  { optimises, program }: Pick<Candidate, "optimises" | "program">,
  images: Tensor<"float32">,
): Promise<WholeRun["unoptimised"]> {
  if (!optimises || !program) return undefined;
  const model = program.load({ optimised: false, alone: true });
  try {
    return await valuesOf(model, images);
  } finally {
    await model.release();
  }
}

/**
 * Compares runs of a candidate that must not differ: without the runtime's optimisations, and on single images.
 * Reports the output that changes most.
 */
export function compareRuns(run: WholeRun): readonly Rerun[] {
  const { images, alone, unoptimised } = run;
  const reruns =
    unoptimised === undefined
      ? []
      : [worst("unoptimised", images.shape[0] ?? 1, run, (tensor) => tensor, unoptimised)];
  if (!alone) return reruns;
  const { chosen, count } = alone;
  const given = alone.given.filter((row) => typeof row !== "string");
  // A program that takes the first row of a vector has a number.
  const odd = run.outputs.flatMap(({ index, tensor }) =>
    given.flatMap((values) => {
      const shape = values[index]?.shape ?? tensor.shape;
      return shape.length === tensor.shape.length ? [] : `an output of shape ${formatShape(shape)}`;
    }),
  );
  const failed = alone.given.find((row) => typeof row === "string") ?? odd[0];
  const found =
    failed ??
    run.outputs.reduce<RealTensor[]>((all, { index }) => {
      const rows = given.flatMap((values) => values[index] ?? []);
      // More rows than images are all compared.
      all[index] = joined(rows.map((row) => (row.shape[0] === count ? rowsOf(row, 0, 1) : row)));
      return all;
    }, []);
  const expected = (tensor: RealTensor): RealTensor =>
    joined(chosen.map((image) => rowsOf(tensor, image, 1)));
  return [...reruns, worst("alone", chosen.length, run, expected, found)];
}

/** A run's outputs, or the reason why there are none. */
async function valuesOf(
  model: LoadedModel,
  images: Tensor<"float32">,
): Promise<readonly RealTensor[] | string> {
  try {
    return await model.run(images);
  } catch (error) {
    if (error instanceof InputError) return error.problem.found;
    throw error;
  }
}

/** The comparison of a run by the output that changes most; failing ones first. */
function worst(
  how: Rerun["how"],
  images: number,
  { outputs }: WholeRun,
  expected: (tensor: RealTensor) => RealTensor,
  found: readonly RealTensor[] | string,
): Rerun {
  const reruns = outputs.map((output) => {
    const value = typeof found === "string" ? found : (found[output.index] ?? "no such output");
    return compare(how, images, expected(output.tensor), value, output.tolerance);
  });
  const weight = ({ status, relMax }: Rerun): number => (status === "fail" ? 2 : 0) + (relMax ?? 1);
  return reruns.reduce((a, b) => (weight(b) > weight(a) ? b : a));
}

function compare(
  how: Rerun["how"],
  images: number,
  expected: RealTensor,
  found: RealTensor | string,
  tolerance: number,
): Rerun {
  const failed = (problem: string): Rerun => ({
    how,
    images,
    status: "fail",
    maxAbs: null,
    relMax: null,
    problem,
  });
  if (typeof found === "string") return failed(found);
  if (found.data.length !== expected.data.length)
    return failed(`${found.data.length} values in place of ${expected.data.length}`);
  const { maxAbs, relMax, mismatchedNonFinite } = measure(expected, found);
  if (mismatchedNonFinite > 0) return failed(`${plural(mismatchedNonFinite, "value")} NaN or infinite`);
  return { how, images, status: relMax <= tolerance ? "pass" : "fail", maxAbs, relMax: finite(relMax) };
}

/** Faults of a model whose embedding depends on optimisations or on the batch. */
export function rerunFaults(layer: string, reruns: readonly Rerun[]): Fault[] {
  return reruns
    .filter(({ status }) => status === "fail")
    .map(({ how, maxAbs, problem }) => {
      const difference = problem ?? `max |difference| ${maxAbs?.toPrecision(3)}`;
      const explanation =
        how === "alone"
          ? `an image has a different embedding alone than in a batch (${difference}), although the batch is not fixed: the model mixes images, or works for one batch size only`
          : `without the runtime's optimisations the model computes a different embedding (${difference})`;
      return layerFault({ name: layer }, how === "alone" ? "structure" : "numeric", null, explanation);
    });
}

function joined(rows: readonly RealTensor[]): Tensor<"float64"> {
  const data = Float64Array.from(rows.flatMap((row) => [...row.data]));
  return { dtype: "float64", shape: [rows.length, ...(rows[0]?.shape.slice(1) ?? [])], data };
}

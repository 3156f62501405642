import { InputError } from "../../core/errors.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import type { LoadedModel } from "../backends/backend.js";
import type { Candidate } from "../candidate/candidate.js";
import { layerFault } from "../faults.js";
import { measure } from "../metrics.js";
import type { Fault, Rerun } from "../report.js";

/** Images that are also run alone: a file that mixes those of a batch does so with the first or the last. */
const MOST_ALONE = 2;

/** The model as it is used, on all images. */
export interface WholeRun {
  readonly images: Tensor<"float32">;
  /** The embedding. */
  readonly tensor: RealTensor;
  /** By how much of its largest value the embedding may move. */
  readonly tolerance: number;
  /** Images that the model takes at a time, where it fixes them. */
  readonly batch: number | undefined;
}

/**
 * Runs a candidate again in ways that must not matter: without the runtime's optimisations, and each image by itself.
 *
 * A model of fixed batch takes no image alone, unless it takes no more. One that does not say so must.
 *
 * @param model the candidate as it is used, which the whole run was of
 */
export async function rerun(
  { optimises, plain }: Pick<Candidate, "optimises" | "plain">,
  model: LoadedModel,
  run: WholeRun,
): Promise<readonly Rerun[]> {
  const { images, tensor } = run;
  const count = images.shape[0] ?? 1;
  const reruns: Rerun[] = [];
  if (optimises && plain) {
    const unoptimised = plain.load({ optimised: false });
    const found = await embeddingOf(unoptimised, images);
    await unoptimised.release();
    reruns.push(compare("unoptimised", count, tensor, found, run));
  }
  if (count < 2 || run.batch !== undefined) return reruns;
  const chosen = [...new Set([0, count - 1])].slice(0, MOST_ALONE);
  const rows: (RealTensor | string)[] = [];
  for (const image of chosen) rows.push(await embeddingOf(model, rowOf(images, image)));
  const failed = rows.find((row) => typeof row === "string");
  const expected = joined(chosen.map((image) => rowOf(tensor, image)));
  const found = failed ?? joined(rows.filter((row) => typeof row !== "string"));
  return [...reruns, compare("alone", chosen.length, expected, found, run)];
}

/** The embedding, or why there is none. */
async function embeddingOf(model: LoadedModel, images: Tensor<"float32">): Promise<RealTensor | string> {
  try {
    return await model.run(images);
  } catch (error) {
    if (error instanceof InputError) return error.problem.found;
    throw error;
  }
}

function compare(
  how: Rerun["how"],
  images: number,
  expected: RealTensor,
  found: RealTensor | string,
  { tolerance }: WholeRun,
): Rerun {
  if (typeof found === "string")
    return { how, images, status: "fail", maxAbs: null, relMax: null, problem: found };
  if (found.data.length !== expected.data.length) {
    const problem = `${found.data.length} values in place of ${expected.data.length}`;
    return { how, images, status: "fail", maxAbs: null, relMax: null, problem };
  }
  const { maxAbs, relMax, mismatchedNonFinite } = measure(expected, found);
  const status = mismatchedNonFinite === 0 && relMax <= tolerance ? "pass" : "fail";
  return { how, images, status, maxAbs, relMax: Number.isFinite(relMax) ? relMax : null };
}

/** What is wrong with a model whose embedding depends on what it must not depend on. */
export function rerunFaults(layer: string, reruns: readonly Rerun[]): Fault[] {
  return reruns
    .filter(({ status }) => status === "fail")
    .map(({ how, maxAbs, problem }) => {
      const difference = problem ?? `max |difference| ${maxAbs?.toPrecision(3)}`;
      const explanation =
        how === "alone"
          ? `an image run alone has another embedding than in a batch (${difference}), though the file fixes no batch: it mixes images, or takes one number of them only`
          : `without the runtime's optimisations the model gives another embedding (${difference})`;
      return layerFault({ name: layer }, how === "alone" ? "structure" : "numeric", null, explanation);
    });
}

/** One image of a batch, or one row of a result. */
function rowOf<T extends RealTensor>(tensor: T, row: number): T {
  const size = tensor.data.length / (tensor.shape[0] ?? 1);
  const data = tensor.data.slice(row * size, (row + 1) * size);
  return { ...tensor, shape: [1, ...tensor.shape.slice(1)], data };
}

function joined(rows: readonly RealTensor[]): Tensor<"float64"> {
  const data = Float64Array.from(rows.flatMap((row) => [...row.data]));
  return { dtype: "float64", shape: [rows.length, ...(rows[0]?.shape.slice(1) ?? [])], data };
}

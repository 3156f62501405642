import type { GraphOutputs, LayerGraph } from "../../arch/graph.js";
import { InputError } from "../../core/errors.js";
import type { PixelOrder } from "./preprocess.js";

/** Which results a file returns; `both` is the embedding and the logits. */
export const OUTPUT_SELECTIONS = ["features", "logits", "both", "probabilities"] as const;

export type OutputSelection = (typeof OUTPUT_SELECTIONS)[number];

/** A result by itself. */
export const RESULT_KINDS = ["features", "logits", "probabilities"] as const;

export type ResultKind = (typeof RESULT_KINDS)[number];

/** What keeps an L2 norm from being zero: ε added to its square or its length, or the least value of either. */
export interface NormFloor {
  /** Whether it acts on the sum of squares or on its root. */
  readonly of: "square" | "length";
  /** `sum`: ε is added. `max`: the larger of the two counts. */
  readonly how: "sum" | "max";
  /** The number itself, such as PyTorch's 1e-12. */
  readonly epsilon: number;
}

/** A result as a user asks for it: by its kind, under a name, and divided by its L2 norm where there are floors, even none. */
export interface WantedResult {
  /** Which of the network's results: the embedding, the logits, or an attribute model's probabilities. */
  readonly kind: ResultKind;
  /** What the file calls the output. */
  readonly name: string;
  /** Present: the result is divided by its L2 norm, which these keep from being zero. Absent: it is as the network gives it. */
  readonly floors?: readonly NormFloor[];
}

/** An output of the file: the name it has there, the layer it is, and whether it is divided by its L2 norm. */
export interface Result {
  readonly name: string;
  readonly layer: string;
  readonly floors?: readonly NormFloor[];
}

/** The names of the network's values in the files that are written. */
export interface ValueNames {
  readonly of: (layer: string) => string;
  /** Of the images, where the model normalises them: then the network's input is a value of its own. */
  readonly normalized: string;
}

/** What a user can ask for, whatever the format. */
export interface ResultOptions {
  /** Results, or each by itself with its name. Default: what torchreid returns in evaluation mode. */
  readonly output?: OutputSelection | readonly WantedResult[];
  /** Whether every stream's gate vector is an output too, named as its layer. Default false. */
  readonly gates?: boolean;
  /** Name of the first output. Default `features`, `logits` or `probabilities`, as it is one. */
  readonly outputName?: string;
  /**
   * Raw pixels of 0 to 255 as the input, float32, in this order of channels, which the model normalises itself. Default:
   * RGB in [0, 1], normalised with ImageNet's statistics.
   */
  readonly preprocess?: PixelOrder;
}

/**
 * The file's outputs, in order.
 *
 * @throws InputError (`argument`) if the network has no such output
 */
export function selectResults({ outputs, gates }: LayerGraph, options: ResultOptions): readonly Result[] {
  const { output = outputs.evaluation, outputName } = options;
  const selected: readonly WantedResult[] =
    typeof output === "string" ? kindsOf(output).map((kind) => ({ kind, name: kind })) : output;
  const results = selected.map(
    ({ kind, name, floors }, index): Result => ({
      name: (index === 0 ? outputName : undefined) ?? name,
      layer: outputs[kind] ?? refuseOutput(kind, outputs),
      ...(floors ? { floors } : {}),
    }),
  );
  return options.gates ? [...results, ...gates.map(({ layer }) => ({ name: layer, layer }))] : results;
}

/** The single results of a selection, in the order of the outputs. */
export function kindsOf(selection: OutputSelection): readonly ResultKind[] {
  return selection === "both" ? ["features", "logits"] : [selection];
}

function refuseOutput(kind: string, outputs: GraphOutputs): never {
  const available = RESULT_KINDS.filter((name) => outputs[name]);
  throw new InputError({
    code: "argument",
    subject: "output",
    found: kind,
    expected: available.join(" or "),
    remedy: "choose an output that this network has",
  });
}

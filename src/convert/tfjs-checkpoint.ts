import { type Checkpoint, refuseBadNumbers } from "./checkpoint.js";
import type { OnnxModel } from "./formats/onnx/index.js";
import { decodeTfjs, isKeras3, type TfjsFiles, type TfjsModel } from "./formats/tfjs/index.js";
import { matchTfjs, type TfjsMatch, translateTfjs } from "./lift/tfjs/index.js";
import {
  type LiftedModel,
  type LiftOptions,
  liftMatched,
  matchBest,
  preprocessNotes,
} from "./lifted-checkpoint.js";

/** A checkpoint out of files that can be run beside it, if tfjs loads them. */
export interface TfjsCheckpoint extends Checkpoint {
  readonly isRunnable: boolean;
}

/**
 * Reads a TensorFlow.js model of any converter as a checkpoint: its graph or layers matched against OSNet, its weights
 * under torchreid's names, as tfjs computes with them. What was folded or stored in fewer bits is said in the notes.
 *
 * @throws InputError if the files are no model (`format`), no OSNet (`unsupported`), or depart from one (`state-dict`)
 */
export function openTfjsCheckpoint(files: TfjsFiles, options: LiftOptions): TfjsCheckpoint {
  const { subject } = options;
  const model = decodeTfjs(files, { subject });
  const translated = translateTfjs(model, subject);
  const { checkpoint } = liftTfjsModel(model, matchTfjsModel(translated, options), subject);
  refuseBadNumbers(checkpoint, subject);
  return { ...checkpoint, isRunnable: isRunnable(model) };
}

/**
 * Matches a model in ONNX's words against the network that fits (`matchBest`).
 *
 * @throws InputError (`unsupported`, `format`) if it is no OSNet
 */
export function matchTfjsModel(translated: OnnxModel, options: LiftOptions): TfjsMatch {
  return matchBest((choice) => matchTfjs(translated, choice), translated, options);
}

/** @throws InputError (`state-dict`) if the model departs from the architecture */
export function liftTfjsModel(model: TfjsModel, match: TfjsMatch, subject: string): LiftedModel {
  const notes = [writtenBy(model), ...runNotes(model), ...quantisedNotes(model), ...preprocessNotes(match)];
  return liftMatched(match, { format: "tfjs", notes }, subject);
}

function writtenBy({ format, convertedBy }: TfjsModel): string {
  return `${format === "graph-model" ? "a graph model" : "a layers model"}, written by ${convertedBy ?? "an unnamed converter"}`;
}

function runNotes(model: TfjsModel): readonly string[] {
  return isRunnable(model)
    ? []
    : ["its topology is Keras 3's, which tfjs does not load: it was read, and not run"];
}

/** Whether tfjs loads a model. */
function isRunnable(model: TfjsModel): boolean {
  return model.format === "graph-model" || !isKeras3(model);
}

function quantisedNotes({ weights }: TfjsModel): readonly string[] {
  const stored = [...weights.values()].flatMap((weight) => weight.stored?.dtype ?? []);
  if (stored.length === 0) return [];
  const dtypes = [...new Set(stored)].join(", ");
  return [
    `${stored.length} weights are stored as ${dtypes}: they are what tfjs makes of them, which is what storing has left of the trained ones`,
  ];
}

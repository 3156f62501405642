import { type Checkpoint, refuseBadNumbers } from "./checkpoint.js";
import { decodeOnnx, type OnnxModel, type SidecarReader } from "./formats/onnx/index.js";
import { type GraphMatch, matchGraph } from "./lift/index.js";
import {
  type LiftedModel,
  type LiftOptions,
  liftMatched,
  matchBest,
  preprocessNotes,
} from "./lifted-checkpoint.js";

export interface OnnxCheckpointOptions extends LiftOptions {
  /** Reads the files beside it that hold its weights. */
  readonly sidecar?: SidecarReader;
}

/**
 * Reads an ONNX file of any exporter as a checkpoint: its graph matched against OSNet, its weights under torchreid's
 * names. What was folded is said in the notes.
 *
 * @throws InputError if the file is no ONNX file (`format`), no OSNet (`unsupported`), or departs from one (`state-dict`)
 */
export function openOnnxCheckpoint(bytes: Uint8Array, options: OnnxCheckpointOptions): Checkpoint {
  const { subject, sidecar } = options;
  const model = decodeOnnx(bytes, { subject, ...(sidecar ? { sidecar } : {}) });
  const { checkpoint } = liftOnnxModel(model, matchOnnxModel(model, options), subject);
  refuseBadNumbers(checkpoint, subject);
  return checkpoint;
}

/**
 * Matches a decoded file against the network that fits (`matchBest`).
 *
 * @throws InputError (`unsupported`, `format`) if its graph is no OSNet
 */
export function matchOnnxModel(model: OnnxModel, options: LiftOptions): GraphMatch {
  return matchBest((choice) => matchGraph(model, choice), model, options);
}

/** @throws InputError (`state-dict`) if the file departs from the architecture */
export function liftOnnxModel(model: OnnxModel, match: GraphMatch, subject: string): LiftedModel {
  return liftMatched(match, { format: "onnx", notes: notesOf(model, match) }, subject);
}

/** Whether quantised tensors have one step each, or one per output channel. */
function stepsOf({ roundings }: GraphMatch): string {
  const isPerChannel = [...roundings.values()].some(({ weight }) => new Set(weight).size > 1);
  return isPerChannel ? "by a step per output channel" : "by a step per tensor";
}

function notesOf(model: OnnxModel, match: GraphMatch): readonly string[] {
  const { name, version } = model.producer;
  const exporter = [name || "an unnamed exporter", version].filter((part) => part !== "").join(" ");
  return [
    `written by ${exporter}, opset ${model.opset}`,
    ...(model.sidecars ? [`weights in ${model.sidecars.join(", ")}`] : []),
    ...preprocessNotes(match),
    ...(match.roundings.size > 0
      ? [
          `quantised: the weights of ${match.roundings.size} layers are dequantised, ${stepsOf(match)}, and what rounding has left of the trained ones; a run, which rounds activations too, does not verify them`,
        ]
      : []),
  ];
}

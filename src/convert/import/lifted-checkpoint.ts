import { type Dialect, expand, type OsnetSpec, variantOf } from "../../arch/index.js";
import { statedSpec } from "../export/metadata.js";
import { decodeOnnx, type OnnxModel, type SidecarReader } from "../formats/onnx/index.js";
import { decodeTfjs, isKeras3, type TfjsFiles, type TfjsModel } from "../formats/tfjs/index.js";
import { type Checkpoint, namedSpec, refuseBadNumbers } from "./checkpoint.js";
import { type FileOutputs, fileOutputs } from "./file-outputs.js";
import {
  describePreprocess,
  type GraphMatch,
  liftStateDict,
  type MatchOptions,
  matchGraph,
} from "./index.js";
import { matchTfjs, type TfjsMatch, translateTfjs } from "./tfjs/index.js";

/** A model of any exporter as a checkpoint, once its graph is laid beside the layer graph of an OSNet. */

export interface LiftOptions {
  /** What messages call the file. */
  readonly subject: string;
  /** The architecture, if the graph leaves open how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/** How messages and notes tell where a model comes from. */
export interface Origin {
  readonly format: "onnx" | "tfjs";
  /** What is to be said before, and between, of what was read and what was folded. */
  readonly notes: readonly string[];
}

/** What a matched model holds under torchreid's names; its numbers may be bad. */
export interface LiftedModel {
  readonly checkpoint: Checkpoint;
  /** How many tensors are not the trained ones, though the network computes the same. */
  readonly reparameterised: number;
}

/**
 * Lifts the weights of a matched model to torchreid's names.
 *
 * @throws InputError (`state-dict`) if the model departs from its network
 */
export function liftMatched(match: GraphMatch, { format, notes }: Origin, subject: string): LiftedModel {
  const { stateDict, reparameterised } = liftStateDict(match, { subject });
  return {
    reparameterised: reparameterised.length,
    checkpoint: {
      spec: match.spec,
      graph: match.graph,
      variant: variantOf(match.spec),
      extra: [],
      stateDict,
      decoded: {
        format,
        container: format,
        // What a model's file says of itself is about its graph.
        metadata: new Map(),
        wrapperPath: "",
        modelClass: "",
        removedPrefix: "",
        notes: [...notes, ...foldingNotes(match, reparameterised.length, stateDict.size)],
      },
    },
  };
}

/**
 * The network that the user names, the one that the file states, or the one that its graph shows: the first that fits.
 *
 * @throws InputError (`unsupported`) if the model is no OSNet
 */
export function matchBest<M extends GraphMatch>(
  match: (options: MatchOptions) => M,
  model: Pick<OnnxModel, "metadata" | "graph">,
  { subject, arch }: LiftOptions,
): M {
  const given = typeof arch === "string" ? namedSpec(arch) : arch;
  const stated = given ?? statedSpec(model.metadata, subject);
  const dialect = stated?.dialect ?? namedDialect(model);
  const shown = match({ subject, ...(dialect ? { dialect } : {}) });
  if (!stated) return shown;
  // A file that gives embeddings has no classifier, whatever its network had.
  const head = shown.spec.head && {
    classes: shown.spec.head.classes,
    loss: stated.head?.loss ?? shown.spec.head.loss,
  };
  const matched = match({ subject, graph: expand({ ...stated, head }) });
  return given || matched.differences.length === 0 ? matched : shown;
}

/**
 * Exporters leave some of the modules' names in a file. Nothing is found by them; but where a graph does not show which
 * of torchreid's two ways of naming its modules follow, they tell.
 */
function namedDialect({ graph }: Pick<OnnxModel, "graph">): Dialect | undefined {
  for (const { name } of graph.nodes) if (STREAM_NAMES.test(name)) return dialectOf(name);
  for (const name of graph.initializers.keys()) if (STREAM_NAMES.test(name)) return dialectOf(name);
  return undefined;
}

/** A layer of a block's stream: `conv2.0.conv2b.0.conv1`, `conv2.0.conv2.1.layers.0.conv1`. */
const STREAM_NAMES = /\bconv2[a-d]\b|\blayers\b[./]/;

function dialectOf(name: string): Dialect {
  return /\blayers\b/.test(name) ? "osnet_ain" : "osnet";
}

/** What the weights do not hold of the file. */
export function preprocessNotes({ preprocess }: GraphMatch): readonly string[] {
  return preprocess ? [`preprocessing that is not lifted: ${describePreprocess(preprocess)}`] : [];
}

function foldingNotes(match: GraphMatch, reparameterised: number, total: number): readonly string[] {
  const folded = [...match.graph.nodes].filter(
    ({ op, inputs }) => op.kind === "batchNorm" && match.absorbed.has(inputs[0] ?? ""),
  ).length;
  return reparameterised > 0
    ? [
        `${folded} batch norms were folded: ${reparameterised} of ${total} tensors are not the trained ones, though the network is the same`,
      ]
    : [];
}

/** A checkpoint out of a model's file, and what that file computes besides. */
export interface ModelCheckpoint extends Checkpoint {
  /** The file's outputs: results of the network, and what else it computes. */
  readonly outputs: FileOutputs;
}

/** How an ONNX file is read as a checkpoint. */
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
export function openOnnxCheckpoint(bytes: Uint8Array, options: OnnxCheckpointOptions): ModelCheckpoint {
  const { subject, sidecar } = options;
  const model = decodeOnnx(bytes, { subject, ...(sidecar ? { sidecar } : {}) });
  const match = matchOnnxModel(model, options);
  const { checkpoint } = liftOnnxModel(model, match, subject);
  refuseBadNumbers(checkpoint, subject);
  return { ...checkpoint, outputs: fileOutputs(match, outputNames(model)) };
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

function outputNames({ graph }: Pick<OnnxModel, "graph">): readonly string[] {
  return graph.outputs.map(({ name }) => name);
}

/** A checkpoint out of files that can be run beside it, if tfjs loads them. */
export interface TfjsCheckpoint extends ModelCheckpoint {
  /** Whether tfjs loads the model: false for a layers model of Keras 3, which is read and converted all the same. */
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
  const match = matchTfjsModel(translated, options);
  const { checkpoint } = liftTfjsModel(model, match, subject);
  refuseBadNumbers(checkpoint, subject);
  return {
    ...checkpoint,
    outputs: fileOutputs(match, outputNames(translated)),
    isRunnable: isRunnable(model),
  };
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

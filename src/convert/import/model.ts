import { type Dialect, expand, type OsnetSpec, variantOf } from "../../arch/index.js";
import { type Bytes, type NamedBytes, toBytes } from "../../core/bytes.js";
import { statedSpec } from "../export/metadata.js";
import { decodeOnnx, type OnnxModel } from "../formats/onnx/index.js";
import type { AbsentBytes } from "../formats/refusals.js";
import type { ModelFormat } from "../formats/registry.js";
import {
  decodeTfjs,
  isKeras3,
  type TfjsFiles,
  type TfjsModel,
  tfjsShardPaths,
} from "../formats/tfjs/index.js";
import { type Checkpoint, namedSpec, refuseBadNumbers } from "./checkpoint.js";
import { type FileOutputs, fileOutputs } from "./file-outputs.js";
import {
  describePreprocess,
  type GraphMatch,
  imageShape,
  liftStateDict,
  type MatchOptions,
  matchGraph,
} from "./index.js";
import { matchTfjs, translateTfjs } from "./tfjs/index.js";

/** What a model's file says, as it was decoded. */
export type Document =
  | { readonly format: "onnx"; readonly model: OnnxModel }
  | { readonly format: "tfjs"; readonly model: TfjsModel };

/** A model of any exporter, decoded once; nothing of its network is known yet. */
export interface Model {
  /** What messages call the file. */
  readonly name: string;
  /** The file's content in its format's own terms. */
  readonly document: Document;
  /** The graph in ONNX's operators, whatever the format. */
  readonly onnx: OnnxModel;
  /** Lays the graph beside an OSNet's. @throws InputError (`unsupported`, `format`) if it is no OSNet */
  readonly match: (options?: Omit<MatchOptions, "subject">) => GraphMatch;
  /** What people should know of the file and of a match, one clause each. */
  readonly notes: (match: GraphMatch) => readonly string[];
  /** Whether a runtime loads the file. */
  readonly isRunnable: boolean;
}

/**
 * Decodes a model's file.
 *
 * @param absent what stands for the weights of files that are missing; by default, they are refused
 * @throws InputError (`format`, `unsupported`) if the bytes are not the format
 */
export function openModel(format: ModelFormat, file: NamedBytes, absent?: AbsentBytes): Model {
  return READERS[format](file, absent === undefined ? {} : { absent });
}

type Reader = (file: NamedBytes, options: { readonly absent?: AbsentBytes }) => Model;

const READERS: Readonly<Record<ModelFormat, Reader>> = {
  onnx(file, options) {
    const { name: subject, beside } = file;
    const sidecar = beside && ((path: string) => beside.get(path));
    const model = decodeOnnx(toBytes(file.bytes), { subject, ...options, ...(sidecar ? { sidecar } : {}) });
    return {
      name: subject,
      document: { format: "onnx", model },
      onnx: model,
      match: (choice) => matchGraph(model, { subject, ...choice }),
      notes: (match) => onnxNotes(model, match),
      isRunnable: true,
    };
  },
  tfjs(file, options) {
    const { name: subject } = file;
    const model = decodeTfjs(tfjsFiles(file), { subject, ...options });
    const onnx = translateTfjs(model, subject);
    return {
      name: subject,
      document: { format: "tfjs", model },
      onnx,
      match: (choice) => matchTfjs(onnx, { subject, ...choice }),
      notes: (match) => tfjsNotes(model, match),
      isRunnable: isRunnable(model),
    };
  },
};

/** Batch, channels, height and width of a model's images, as far as the file fixes them. */
export function fixedShape({ onnx }: Model): readonly (number | undefined)[] {
  return imageShape(onnx).map((size) => (typeof size === "number" ? size : undefined));
}

/** The weight files that a model names, in its order, by their paths; undefined for one that is missing. */
export function weightFiles(
  { name: subject, document }: Model,
  { bytes, beside }: NamedBytes,
): ReadonlyMap<string, Bytes | undefined> {
  const paths =
    document.format === "tfjs"
      ? tfjsShardPaths(toBytes(bytes), { subject })
      : [...(document.model.sidecars ?? []), ...(document.model.missing ?? [])];
  return new Map(paths.map((path) => [path, beside?.get(path)]));
}

/** A `model.json` with the weight files that it names, as far as they are there. */
export function tfjsFiles({ name: subject, bytes, beside }: NamedBytes): TfjsFiles {
  const json = toBytes(bytes);
  const shards = new Map<string, Uint8Array>();
  for (const path of beside ? tfjsShardPaths(json, { subject }) : []) {
    const shard = beside?.get(path);
    // One that is missing is named by the decoder, which knows how many there are.
    if (shard) shards.set(path, toBytes(shard));
  }
  return { json, shards };
}

/** How a model's network is chosen, where its graph leaves a choice. */
export interface LiftOptions {
  /** The architecture, if the graph leaves open how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/** The weights of a matched model under torchreid's names; they may include NaNs and negative variances. */
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
export function liftModel({ name, document: { format }, notes }: Model, match: GraphMatch): LiftedModel {
  const { stateDict, reparameterised } = liftStateDict(match, { subject: name });
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
        notes: [
          ...notes(match),
          ...foldingNotes(match, reparameterised.length, stateDict.size),
          ...headNotes(match),
        ],
      },
    },
  };
}

/**
 * The network that the user names, the one that the file states, or the one that its graph shows: the first that fits.
 *
 * @throws InputError (`unsupported`) if the model is no OSNet
 */
export function matchModel({ name, onnx, match }: Model, { arch }: LiftOptions = {}): GraphMatch {
  const given = typeof arch === "string" ? namedSpec(arch) : arch;
  const stated = given ?? statedSpec(onnx.metadata, name);
  const dialect = stated?.dialect ?? namedDialect(onnx);
  const shown = match(dialect ? { dialect } : {});
  if (!stated) return shown;
  // A file that gives embeddings has no classifier, whatever its network had.
  const head = shown.spec.head && {
    classes: shown.spec.head.classes,
    loss: stated.head?.loss ?? shown.spec.head.loss,
  };
  const matched = match({ graph: expand({ ...stated, head }) });
  return given || matched.differences.length === 0 ? matched : shown;
}

/**
 * Exporters leave some of the modules' names in a file. Nothing is found by them; but where a graph does not show which
 * of torchreid's two ways of naming its modules it follows, these names decide.
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

/** What the file does that is not in its weights. */
function preprocessNotes({ preprocess }: GraphMatch): readonly string[] {
  return preprocess ? [`preprocessing that is not lifted: ${describePreprocess(preprocess)}`] : [];
}

/** One linear layer behind the pool could be either: a graph does not show which. */
function headNotes({ spec: { embedding, head } }: GraphMatch): readonly string[] {
  if (!head || embedding.length > 0) return [];
  return [
    `the one linear layer behind the pooled map, of ${head.classes} outputs, is read as a classifier: an embedding has a batch norm or a ReLU behind it`,
  ];
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

/** A checkpoint lifted from a model's file, and the rest of what that file computes. */
export interface ModelCheckpoint extends Checkpoint {
  /** Which of its outputs are the network's, and what else it computes. */
  readonly outputs: FileOutputs;
  /** Whether a runtime loads the file, so that it can be run beside its weights. */
  readonly isRunnable: boolean;
}

/**
 * Lifts a checkpoint from a model of any exporter: its graph matched against OSNet, its weights under torchreid's names, as
 * a runtime computes with them. The notes say what was folded, or stored in fewer bits.
 *
 * @throws InputError if the graph is no OSNet (`unsupported`), or departs from one (`state-dict`)
 */
export function liftCheckpoint(model: Model, options: LiftOptions = {}): ModelCheckpoint {
  const match = matchModel(model, options);
  const { checkpoint } = liftModel(model, match);
  refuseBadNumbers(checkpoint, model.name);
  const outputs = fileOutputs(
    match,
    model.onnx.graph.outputs.map(({ name }) => name),
  );
  return { ...checkpoint, outputs, isRunnable: model.isRunnable };
}

/** Whether quantised tensors have one step each, or one per output channel. */
function stepsOf({ roundings }: GraphMatch): string {
  const isPerChannel = [...roundings.values()].some(({ weight }) => new Set(weight).size > 1);
  return isPerChannel ? "by a step per output channel" : "by a step per tensor";
}

function onnxNotes(model: OnnxModel, match: GraphMatch): readonly string[] {
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

function tfjsNotes(model: TfjsModel, match: GraphMatch): readonly string[] {
  return [writtenBy(model), ...runNotes(model), ...quantisedNotes(model), ...preprocessNotes(match)];
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

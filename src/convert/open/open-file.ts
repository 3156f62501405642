import type { OsnetSpec } from "../../arch/index.js";
import { type Bytes, type NamedBytes, toBytes, toSource } from "../../core/bytes.js";
import { type NpzArchive, openNpz } from "../formats/npz.js";
import { decodeOnnx } from "../formats/onnx/decode.js";
import type { OnnxModel } from "../formats/onnx/model.js";
import type { AbsentBytes } from "../formats/refusals.js";
import { type FileFormat, isModelFormat, type ModelFormat } from "../formats/registry.js";
import { sniffFormat } from "../formats/sniff.js";
import { decodeTfjs, tfjsShardPaths } from "../formats/tfjs/codec.js";
import { nodeOf } from "../formats/tfjs/graph.js";
import type { TfjsFiles, TfjsModel } from "../formats/tfjs/model.js";
import { isKeras3 } from "../formats/tfjs/topology.js";
import { type GraphMatch, type MatchOptions, matchGraph } from "../import/match.js";
import { isBlocked } from "../import/nchwc.js";
import { imageShape } from "../import/normalise.js";
import { describePreprocess } from "../import/preprocess.js";
import { graphOutputs, matchTfjs, translateTfjs } from "../import/tfjs/translate.js";
import { type Checkpoint, expectOwnName, isWeightsArchive, openCheckpoint } from "./checkpoint.js";

/** A file that may be open already. */
export interface SourceFile extends NamedBytes {
  /** The checkpoint in the file, or imported from it. */
  readonly checkpoint?: Checkpoint;
}

/** Options for files whose content is ambiguous. */
export interface FileOptions {
  /** The architecture of a checkpoint, if it cannot be inferred: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** Path of the state dict inside a checkpoint. */
  readonly key?: string;
}

/** A file of any kind, decoded once: weights, a graph with its weights, or the activations of a run. */
export type OpenFile =
  | { readonly kind: "checkpoint"; readonly format: FileFormat; readonly checkpoint: Checkpoint }
  | { readonly kind: "model"; readonly format: ModelFormat; readonly model: Model }
  | { readonly kind: "recording"; readonly format: FileFormat; readonly archive: NpzArchive };

/**
 * Decodes a file of any format, by its content.
 *
 * @throws InputError (`format`, `unsupported`, `state-dict`) if it has none of these formats, or is broken
 */
export function openFile(file: SourceFile, { arch, key }: FileOptions = {}): OpenFile {
  const { name, bytes, checkpoint } = file;
  if (checkpoint) return { kind: "checkpoint", format: checkpoint.decoded.format, checkpoint };
  const format = sniffFormat(bytes);
  expectOwnName(toSource(bytes), format, name);
  if (isModelFormat(format)) return { kind: "model", format, model: openModel(format, file) };
  if (format === "npz") {
    const archive = openNpz(bytes, name);
    if (!isWeightsArchive(archive.names)) return { kind: "recording", format, archive };
  }
  const opened = openCheckpoint(bytes, {
    subject: name,
    format,
    ...(arch === undefined ? {} : { arch }),
    ...(key === undefined ? {} : { key }),
  });
  return { kind: "checkpoint", format, checkpoint: opened };
}

/** The decoded content of a model's file. */
export type Document =
  | { readonly format: "onnx"; readonly model: OnnxModel }
  | { readonly format: "tfjs"; readonly model: TfjsModel };

/** A model of any exporter, decoded once; its network is not known yet. */
export interface Model {
  /** Name of the file in messages. */
  readonly name: string;
  /** The file's content in terms of its format. */
  readonly document: Document;
  /** The graph in ONNX operators, whatever the format. */
  readonly onnx: OnnxModel;
  /** Matches the graph with an OSNet's. @throws InputError (`unsupported`, `format`) if it is not an OSNet */
  readonly match: (options?: Omit<MatchOptions, "subject">) => GraphMatch;
  /** Notes on the file and on a match, one clause each. */
  readonly notes: (match: GraphMatch) => readonly string[];
  /** Whether a runtime can load the file. */
  readonly isRunnable: boolean;
}

/**
 * Decodes a model's file.
 *
 * @param absent supplies the weights of missing files; by default these are refused
 * @throws InputError (`format`, `unsupported`) if the bytes do not have the format
 */
export function openModel(format: ModelFormat, file: NamedBytes, absent?: AbsentBytes): Model {
  return READERS[format](file, absent === undefined ? {} : { absent });
}

/**
 * Opens a model that a user names.
 *
 * @throws InputError (`format`, `unsupported`) if the bytes do not have the format, or the name is that of another
 */
export function openModelFile(format: ModelFormat, file: NamedBytes): Model {
  expectOwnName(toSource(file.bytes), format, file.name);
  return openModel(format, file);
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
    // The decoder reports missing ones, and knows how many there must be.
    if (shard) shards.set(path, toBytes(shard));
  }
  return { json, shards };
}

/** Notes on preprocessing, which is not part of the weights. */
function preprocessNotes({ preprocess }: GraphMatch): readonly string[] {
  return preprocess ? [`preprocessing that is not converted: ${describePreprocess(preprocess)}`] : [];
}

/** Whether quantised tensors have one step each, or one per output channel. */
function stepsOf({ roundings }: GraphMatch): string {
  const isPerChannel = [...roundings.values()].some(({ weight }) => new Set(weight).size > 1);
  return isPerChannel ? "with a step per output channel" : "with a step per tensor";
}

function onnxNotes(model: OnnxModel, match: GraphMatch): readonly string[] {
  const { name, version } = model.producer;
  const exporter = [name || "an unknown exporter", version].filter((part) => part !== "").join(" ");
  return [
    `written by ${exporter}, opset ${model.opset}`,
    ...(model.sidecars ? [`weights in ${model.sidecars.join(", ")}`] : []),
    ...(isBlocked(model.graph)
      ? ["optimised by onnxruntime for one kind of processor, with channels in blocks (NCHWc)"]
      : []),
    ...preprocessNotes(match),
    ...(match.roundings.size > 0
      ? [
          `quantised: the weights of ${match.roundings.size} layers are dequantised, ${stepsOf(match)}, so precision was lost; a run cannot verify them, because it rounds activations too`,
        ]
      : []),
  ];
}

function tfjsNotes(model: TfjsModel, match: GraphMatch): readonly string[] {
  return [writtenBy(model), ...runNotes(model), ...quantisedNotes(model), ...preprocessNotes(match)];
}

function writtenBy({ format, convertedBy }: TfjsModel): string {
  return `${format === "graph-model" ? "a graph model" : "a layers model"}, written by ${convertedBy ?? "an unknown converter"}`;
}

function runNotes(model: TfjsModel): readonly string[] {
  if (!isRunnable(model))
    return ["its topology is in Keras 3 format, which tfjs cannot load: it was read, but not run"];
  return isBeyondWasm(model)
    ? [
        "tfjs-wasm does not support its fused biases, which have several axes, as Keras 3 writes them; tfjs-cpu does",
      ]
    : [];
}

/** Whether a model computes with a bias that tfjs-wasm's fused operators refuse, because it does not have exactly one axis. */
export function isBeyondWasm(model: TfjsModel): boolean {
  if (model.format !== "graph-model") return false;
  const nodes = new Map(model.nodes.map((node) => [node.name, node]));
  // Names that are added in the loop are visited too.
  const needed = new Set(graphOutputs(model).map(nodeOf));
  for (const name of needed) {
    const { op = "", inputs = [] } = nodes.get(name) ?? {};
    const rank = model.weights.get(nodeOf(inputs[2] ?? ""))?.tensor.shape.length ?? 1;
    if (/^_?Fused(Conv2D|DepthwiseConv2dNative|MatMul)$/.test(op) && rank !== 1) return true;
    for (const input of inputs) needed.add(nodeOf(input));
  }
  return false;
}

/** Whether tfjs can load a model. */
function isRunnable(model: TfjsModel): boolean {
  return model.format === "graph-model" || !isKeras3(model);
}

function quantisedNotes({ weights }: TfjsModel): readonly string[] {
  const stored = [...weights.values()].flatMap((weight) => weight.stored?.dtype ?? []);
  if (stored.length === 0) return [];
  const dtypes = [...new Set(stored)].join(", ");
  return [
    `${stored.length} weights are stored as ${dtypes}: they are dequantised as in tfjs, so precision was lost`,
  ];
}

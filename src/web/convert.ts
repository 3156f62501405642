import { castStateDict, compareBits, encodeWeights } from "../convert/export/encode-weights.js";
import { statedZeros } from "../convert/export/metadata.js";
import { lowerToOnnx, type OnnxOptions } from "../convert/export/onnx.js";
import { lowerToTfjs, type TfjsOptions } from "../convert/export/tfjs/graph-model.js";
import { lowerToTfjsLayers } from "../convert/export/tfjs/layers-model.js";
import { encodeOnnx, encodeOnnxFiles } from "../convert/formats/onnx/encode.js";
import {
  type FileFormat,
  isModelFormat,
  type ModelFormat,
  type WeightsFormat,
  withoutSuffix,
} from "../convert/formats/registry.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { encodeTfjs } from "../convert/formats/tfjs/codec.js";
import {
  type Checkpoint,
  decodeWeights,
  identifyCheckpoint,
  openCheckpoint,
} from "../convert/import/checkpoint.js";
import { type FileOutputs, keptResults, leftOut, withoutNorms } from "../convert/import/file-outputs.js";
import type { FileOptions } from "../convert/import/open-file.js";
import { type Inspection, inspectCheckpoint } from "../convert/inspect/inspection.js";
import type { ModelInspections } from "../convert/inspect/model-inspection.js";
import type { NamedBytes } from "../core/bytes.js";
import type { FloatDType } from "../core/tensor-cast.js";
import type { LiftedSource } from "../verify/verify.js";

/** What a user may say of a file that it does not say itself. */
export type SourceOptions = FileOptions;

/**
 * What `osnet-convert inspect` says of a file, as data: `renderInspection` and its kin make text of it. A model of another
 * network is described as far as it goes, with a `refusal`.
 *
 * @throws InputError if the file cannot be read, or a checkpoint is no OSNet
 */
export async function inspect(
  file: NamedBytes,
  options: SourceOptions = {},
): Promise<Inspection | ModelInspections[ModelFormat]> {
  const { name, bytes } = file;
  const { key, ...arch } = options;
  const format = sniffFormat(bytes);
  if (isModelFormat(format)) {
    const { inspectModel } = await import("../convert/inspect/model-inspection.js");
    return inspectModel(format, file, arch);
  }
  const checkpoint = identifyCheckpoint(bytes, {
    subject: name,
    format,
    ...arch,
    ...(key === undefined ? {} : { key }),
  });
  return inspectCheckpoint(checkpoint, { name, bytes });
}

/** A format to convert to, with its writer's options; every other field has a default, as on the command line. */
export type Target =
  | ({ readonly format: "onnx"; readonly externalData?: boolean } & OnnxOptions)
  | ({ readonly format: "tfjs"; readonly layers?: boolean } & TfjsOptions)
  | { readonly format: WeightsFormat; readonly dtype?: FloatDType };

/** How a file is converted. */
export interface ConvertOptions extends SourceOptions {
  /** Whether what a source model computes besides the network's own outputs may be left out. Default false. */
  readonly dropExtra?: boolean;
}

/** A file that was converted and not verified yet. */
export interface Conversion {
  /** What was asked for: the format and its options. */
  readonly target: Target;
  /** Read and understood: what the result is held against. */
  readonly source: LiftedSource;
  /** The result by the names of its files: one, or `model.json` and its shards, or an ONNX file and its weights. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** The same, to be opened again. */
  readonly result: NamedBytes;
  /** Choices made in reading and writing, one clause each. */
  readonly notes: readonly string[];
  /** Weights of dead channels that were written as zeros, and what that adds to any value at most, in roundings. */
  readonly zeros?: { readonly count: number; readonly bound: number };
}

/**
 * Converts a checkpoint or a model to the bytes that `osnet-convert` writes. Nothing is verified: `verifyConversion` does.
 *
 * @param name of the result: of its file, or of the folder that a TensorFlow.js model goes to
 * @throws InputError if the file cannot be used, or an option does not fit its network
 */
export async function convert(
  file: NamedBytes,
  name: string,
  target: Target,
  options: ConvertOptions = {},
): Promise<Conversion> {
  const { dropExtra, ...sourceOptions } = options;
  const { outputs, ...source } = await openSource(file, sourceOptions);
  const { checkpoint } = source;
  const isLayers = target.format === "tfjs" && target.layers === true;
  const kind = isModelFormat(target.format) ? "model" : "weights";
  const dropped = leftOut(file.name, outputs, isLayers ? "model without norms" : kind, {
    ...(dropExtra === undefined ? {} : { dropExtra }),
  });
  const written = write(checkpoint, outputs, name, target);
  return {
    target,
    source,
    files: written.files,
    result: written.result,
    notes: [...checkpoint.decoded.notes, ...written.notes, ...dropped],
    ...(written.zeros ? { zeros: written.zeros } : {}),
  };
}

/** A file that was read to be converted. */
export interface Source extends LiftedSource {
  /** What a model's file gives its users. */
  readonly outputs?: FileOutputs;
}

/**
 * Reads a file to convert: weights as they are, or those lifted out of a model, with the network that they are of.
 *
 * @throws InputError if the file cannot be used
 */
export async function openSource(file: NamedBytes, options: SourceOptions = {}): Promise<Source> {
  const { name, bytes } = file;
  const { key, ...arch } = options;
  const format = sniffFormat(bytes);
  // Readers of models, nearly as large as the rest together, are loaded for a model.
  if (isModelFormat(format)) {
    const { openModel } = await import("../convert/import/open-file.js");
    const { liftCheckpoint } = await import("../convert/import/lift.js");
    const { outputs, isRunnable, ...checkpoint } = liftCheckpoint(openModel(format, file), arch);
    return { ...file, checkpoint, outputs, isRunnable };
  }
  const wanted = { subject: name, format, ...arch, ...(key === undefined ? {} : { key }) };
  return { ...file, checkpoint: openCheckpoint(bytes, wanted) };
}

type Written = Pick<Conversion, "files" | "result" | "notes" | "zeros">;

function write(
  { graph, stateDict, decoded }: Checkpoint,
  outputs: FileOutputs | undefined,
  name: string,
  target: Target,
): Written {
  if (target.format === "onnx") {
    const { externalData = false, format: _, ...options } = target;
    const model = lowerToOnnx(graph, stateDict, { ...keptResults(outputs), ...options });
    const zeros = zerosOf(model.metadata);
    if (!externalData) return { ...oneFile(name, encodeOnnx(model)), ...zeros, notes: [] };
    const location = `${name}.data`;
    const { bytes, data } = encodeOnnxFiles(model, location);
    return {
      files: new Map([
        [name, bytes],
        [location, data],
      ]),
      result: { name, bytes, beside: new Map([[location, data]]) },
      notes: [],
      ...zeros,
    };
  }
  if (target.format === "tfjs") {
    const { layers = false, format: _, ...options } = target;
    const all = { ...keptResults(layers && outputs ? withoutNorms(outputs) : outputs), ...options };
    const model = layers ? lowerToTfjsLayers(graph, stateDict, all) : lowerToTfjs(graph, stateDict, all);
    const { json, shards } = encodeTfjs(model);
    return {
      files: new Map([["model.json", json], ...shards]),
      result: { name, bytes: json, beside: shards },
      notes: [],
      ...zerosOf(new Map(Object.entries(model.metadata ?? {}))),
    };
  }
  const { format, dtype } = target;
  const converted = dtype === undefined ? stateDict : castStateDict(stateDict, dtype, name);
  const bytes = encodeWeights(converted, format, { subject: name, metadata: decoded.metadata });
  const changed = [...stateDict].filter(([path, tensor]) => converted.get(path) !== tensor).length;
  const notes = changed > 0 ? [`${changed} of ${stateDict.size} tensors converted to ${dtype}`] : [];
  return { ...oneFile(name, bytes), notes };
}

function oneFile(name: string, bytes: Uint8Array): Pick<Written, "files" | "result"> {
  return { files: new Map([[name, bytes]]), result: { name, bytes } };
}

function zerosOf(metadata: ReadonlyMap<string, unknown>): Pick<Written, "zeros"> {
  const zeros = statedZeros(metadata);
  return zeros ? { zeros } : {};
}

/**
 * Reads converted weights back, and compares every tensor bit for bit with what was to be written.
 *
 * @returns what differs, one clause each; empty if nothing does
 * @throws InputError if the file does not read
 */
export function compareWritten({ source, result, target }: Conversion): readonly string[] {
  const { stateDict } = source.checkpoint;
  if (target.format === "onnx" || target.format === "tfjs")
    throw new TypeError("a model is run, not compared");
  const { format, dtype } = target;
  const expected = dtype === undefined ? stateDict : castStateDict(stateDict, dtype, source.name);
  return compareBits(expected, decodeWeights(result.bytes, { subject: result.name, format }).stateDict);
}

/** A name for a result: the source's with its suffixes exchanged, as the command line chooses it. */
export function resultName(source: string, format: FileFormat): string {
  return `${withoutSuffix(source) || "osnet"}.${format}`;
}

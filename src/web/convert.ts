import {
  compareBits,
  type FileOutputs,
  isWeightsTarget,
  leftOut,
  storedWeights,
  type Target,
  write,
} from "../convert/export/write.js";
import {
  type FileFormat,
  FORMATS,
  isModelFormat,
  type ModelFormat,
  withoutSuffix,
} from "../convert/formats/registry.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { type Inspection, inspectCheckpoint } from "../convert/inspect/inspection.js";
import type { ModelInspections } from "../convert/inspect/model-inspection.js";
import { decodeWeights, identifyCheckpoint, openCheckpoint } from "../convert/open/checkpoint.js";
import type { FileOptions, SourceFile } from "../convert/open/open-file.js";
import type { NamedBytes } from "../core/bytes.js";
import { definedOf } from "../core/functions.js";
import type { RuntimeName } from "../verify/backends/backend.js";
import type { Verification } from "../verify/candidate/candidate.js";
import { type OpenOptions, openVerification } from "../verify/open.js";
import type { ParityReport, Tolerance } from "../verify/outcome/report.js";
import { type LiftedSource, verify, verifyLifted } from "../verify/verify.js";

/** What a user may state about a file that the file does not. */
export type SourceOptions = FileOptions;

/**
 * The data that `osnet-convert inspect` shows; `renderInspection` and similar functions make text of it. A model of
 * another network is described as far as possible, with a `refusal`.
 *
 * @throws InputError if the file cannot be read, or a checkpoint is not an OSNet
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

/** Options for converting a file. */
export interface ConvertOptions extends SourceOptions {
  /** Whether to drop a source model's outputs other than the network's own. Default false. */
  readonly dropExtra?: boolean;
}

/** A file that was converted and not verified yet. */
export interface Conversion {
  /** The format and its options. */
  readonly target: Target;
  /** The source, which the result is compared with. */
  readonly source: LiftedSource;
  /** The result by the names of its files: one, or `model.json` and its shards, or an ONNX file and its weights. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** The same, to be opened again. */
  readonly result: NamedBytes;
  /** Choices made in reading and writing, one clause each. */
  readonly notes: readonly string[];
  /** Weights of dead channels that were written as zeros, and the most that this changes any value, in roundings. */
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
  const dropped = leftOut(file.name, outputs, target, definedOf({ dropExtra }));
  const { bytes, beside, notes, zeros } = await write(
    { ...checkpoint, outputs, name: file.name },
    target,
    name,
  );
  return {
    target,
    source,
    files: new Map([[FORMATS[target.format].main ?? name, bytes], ...(beside ?? [])]),
    result: { name, bytes, ...definedOf({ beside }) },
    notes: [...checkpoint.decoded.notes, ...notes, ...dropped],
    ...definedOf({ zeros }),
  };
}

/** A file that was read to be converted. */
export interface Source extends LiftedSource {
  /** The outputs of a model's file. */
  readonly outputs?: FileOutputs;
}

/**
 * Reads a file to convert: its weights, or those imported from a model, and their network.
 *
 * @throws InputError if the file cannot be used
 */
export async function openSource(file: NamedBytes, options: SourceOptions = {}): Promise<Source> {
  const { name, bytes } = file;
  const { key, ...arch } = options;
  const format = sniffFormat(bytes);
  // Readers of models, which are nearly as large as everything else, are loaded only for a model.
  if (isModelFormat(format)) {
    const { openModelFile } = await import("../convert/open/open-file.js");
    const { liftCheckpoint } = await import("../convert/open/lift.js");
    const { outputs, isRunnable, ...checkpoint } = liftCheckpoint(openModelFile(format, file), arch);
    return { ...file, checkpoint, outputs, isRunnable };
  }
  const wanted = { subject: name, format, ...arch, ...(key === undefined ? {} : { key }) };
  return { ...file, checkpoint: openCheckpoint(bytes, wanted) };
}

/**
 * Reads converted weights back, and compares every tensor bit for bit with the source.
 *
 * @returns the differences, one clause each
 * @throws InputError if the file cannot be read
 */
export function compareWritten({ source, result, target }: Conversion): readonly string[] {
  const { stateDict } = source.checkpoint;
  if (!isWeightsTarget(target)) throw new TypeError("a model is run, not compared");
  const expected = storedWeights(stateDict, target, source.name);
  const written = decodeWeights(result.bytes, { subject: result.name, format: target.format });
  return compareBits(expected, written.stateDict);
}

/** The name of a result: the source's with another suffix, as on the command line. */
export function resultName(source: string, format: FileFormat): string {
  return `${withoutSuffix(source) || "osnet"}.${format}`;
}

/** Options for judging a verification and reporting its progress. */
export interface VerifyOptions extends Pick<Verification, "onProgress"> {
  /** Default: each layer within its own rounding bound, where there is a checkpoint. */
  readonly tolerance?: Tolerance;
}

/**
 * Compares a model with a checkpoint, a recording or another model, as `osnet-verify` does.
 *
 * @throws InputError if a file cannot be used, the two do not match, or no runtime for the model is available
 */
export async function verifyFiles(
  candidate: SourceFile,
  reference: SourceFile,
  { onProgress, tolerance, ...options }: OpenOptions & VerifyOptions = {},
): Promise<ParityReport> {
  return verify({
    ...(await openVerification(candidate, reference, options)),
    ...(onProgress ? { onProgress } : {}),
    ...(tolerance ? { tolerance } : {}),
  });
}

/** Options for verifying a conversion. */
export interface ConversionOptions extends VerifyOptions {
  /** The runtime for the result. Default: the first runtime of its format. */
  readonly backend?: RuntimeName;
  /** As passed to `convert`: dropped outputs of a source model need not agree. */
  readonly dropExtra?: boolean;
}

/** The result of verifying a conversion. */
export interface Verified {
  /** Whether the result matches its source. */
  readonly passed: boolean;
  /** For a model: its comparison layer by layer. */
  readonly report?: ParityReport;
  /** For weights: the tensors that were not read back bit for bit. */
  readonly differences?: readonly string[];
  /** For a model as the source: its comparison with the network of its own weights. */
  readonly lifted?: ParityReport;
}

/**
 * Verifies a conversion as the command line does before it writes: a source model against its imported weights, then
 * the result layer by layer against those, or weights bit for bit. The result is opened from its bytes.
 *
 * @throws InputError (`unsupported`) if a source model does not compute what its weights say, or no runtime is
 * available
 */
export async function verifyConversion(
  conversion: Conversion,
  { backend, dropExtra, ...options }: ConversionOptions = {},
): Promise<Verified> {
  const { source, result, target } = conversion;
  const { onProgress } = options;
  const lifted = await verifyLifted(source, {
    ...(dropExtra === undefined ? {} : { dropExtra }),
    ...(onProgress ? { onProgress } : {}),
  });
  const before = lifted ? { lifted } : {};
  if (isWeightsTarget(target)) {
    const differences = compareWritten(conversion);
    return { passed: differences.length === 0, differences, ...before };
  }
  const report = await verifyFiles(result, source, { ...options, ...(backend ? { backend } : {}) });
  return { passed: report.passed, report, ...before };
}

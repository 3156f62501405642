import { basename } from "node:path";
import type { OsnetSpec } from "../arch/index.js";
import type { WeightsFormat } from "../convert/formats/sniff.js";
import { openCheckpoint } from "../convert/import/checkpoint.js";
import { InputError } from "../core/errors.js";
import { openInput } from "../node/index.js";
import { faultName } from "../verify/faults.js";
import type { ParityReport } from "../verify/report.js";
import { readArchitecture } from "./inputs.js";
import { badArgument } from "./options.js";
import type { Source } from "./sinks/sink.js";
import { type Io, readingProgress } from "./terminal.js";

/** The formats that commands read. */
export type SourceFormat = WeightsFormat | "onnx" | "tfjs";

interface SourceOptions {
  readonly arch?: string;
  readonly key?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** A source of which more may be read, until it is closed. */
export interface OpenSource extends Source {
  /** Whether a runtime loads it. Default true. */
  readonly isRunnable?: boolean;
  close(): void;
}

/** Reads a file to convert: weights as they are, or those lifted out of a model. */
export async function openSource(
  input: string,
  format: SourceFormat,
  options: SourceOptions,
  io: Io,
): Promise<OpenSource> {
  const arch = await readArchitecture(options.arch);
  if (format === "onnx") {
    const { openOnnxCheckpoint } = await import("../convert/import/lifted-checkpoint.js");
    const { readModel } = await import("./models.js");
    const model = await readModel(input, io, options);
    const name = input === "-" ? "standard input" : model.name;
    const checkpoint = openOnnxCheckpoint(model.bytes, {
      subject: name,
      ...(arch === undefined ? {} : { arch }),
      ...(model.sidecar ? { sidecar: model.sidecar } : {}),
    });
    return { ...model, name, checkpoint, close: () => undefined };
  }
  if (format === "tfjs") return openTfjs(input, arch, io);
  const name = input === "-" ? "standard input" : basename(input);
  const bar = readingProgress(input, options, io);
  const bytes = await openInput(input, { onProgress: bar.update, stdin: io.stdin });
  try {
    const checkpoint = openCheckpoint(bytes, {
      subject: name,
      format,
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(arch === undefined ? {} : { arch }),
    });
    return { name, bytes, checkpoint, close: () => bytes.close() };
  } catch (error) {
    bytes.close();
    throw error;
  } finally {
    bar.clear();
  }
}

/** Formats that hold a network to be run, and not only its weights. */
const MODELS: ReadonlySet<string> = new Set(["onnx", "tfjs"] satisfies SourceFormat[]);

/** @throws InputError (`argument`) for standard input, which is one file */
async function openTfjs(input: string, arch: string | OsnetSpec | undefined, io: Io): Promise<OpenSource> {
  if (input === "-")
    throw badArgument(
      "standard input",
      "one file",
      "the folder of a TensorFlow.js model, which is several",
      "give the folder or its model.json",
    );
  const { openTfjsCheckpoint } = await import("../convert/import/lifted-checkpoint.js");
  const { readModel } = await import("./models.js");
  const { name, bytes, shards = new Map() } = await readModel(input, io);
  const options = { subject: name, ...(arch === undefined ? {} : { arch }) };
  const checkpoint = openTfjsCheckpoint({ json: bytes, shards }, options);
  return { name, bytes, shards, checkpoint, isRunnable: checkpoint.isRunnable, close: () => undefined };
}

/**
 * Runs a model whose weights were lifted beside the network that they make, layer by layer. Undefined if there is none to
 * run, none that runs, or if it is quantised, so that it computes something else.
 *
 * @throws InputError (`unsupported`) if the two do not agree: then the model was misread, or is broken
 */
export async function verifyLifted(
  source: OpenSource,
  { dropExtra = false }: { readonly dropExtra?: boolean } = {},
): Promise<ParityReport | undefined> {
  if (!MODELS.has(source.checkpoint.decoded.format) || source.isRunnable === false) return undefined;
  const { openVerification } = await import("../verify/open.js");
  const { verify } = await import("../verify/verify.js");
  const { checkpoint, ...model } = source;
  const report = await verify(await openVerification(model, { ...model, checkpoint }));
  if (report.passed) return report;
  // A graph that departs from its network was refused: what is left is behind its outputs, which the user leaves out.
  if (dropExtra && report.faults.every(({ kind }) => kind === "structure")) return undefined;
  // Activations on integers are rounded, which no weights say: a run shows no more than that the structure is right.
  const isQuantised = (report.weights?.quantised ?? 0) > 0;
  if (isQuantised && report.faults.every(({ kind }) => kind === "numeric" || kind === "weights"))
    return undefined;
  throw new InputError({
    code: "unsupported",
    subject: source.name,
    found: `${report.faults.length === 1 ? "1 fault" : `${report.faults.length} faults`} when run beside the network of its own weights`,
    expected: "the network that its graph shows",
    remedy: "verify it against the checkpoint it came from, or write what was read by --no-verify",
    details: report.faults.map((fault) => `${faultName(fault)}: ${fault.explanation}`),
  });
}

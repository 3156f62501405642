import { basename } from "node:path";
import type { OsnetSpec } from "../arch/index.js";
import type { FileFormat } from "../convert/formats/registry.js";
import { openCheckpoint } from "../convert/import/checkpoint.js";
import { openInput } from "../node/index.js";
import { readArchitecture } from "./inputs.js";
import { badArgument } from "./options.js";
import type { Source } from "./sinks/sink.js";
import { type Io, readingProgress } from "./terminal.js";

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
  format: FileFormat,
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

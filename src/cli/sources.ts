import { basename } from "node:path";
import type { OsnetSpec } from "../arch/index.js";
import { type FileFormat, FORMATS, isModelFormat, type ModelFormat } from "../convert/formats/registry.js";
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
  if (isModelFormat(format)) return openModelSource(input, format, arch, options, io);
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

/** @throws InputError (`argument`) for standard input, which is one file, if a model of the format is several */
async function openModelSource(
  input: string,
  format: ModelFormat,
  arch: string | OsnetSpec | undefined,
  options: SourceOptions,
  io: Io,
): Promise<OpenSource> {
  if (input === "-" && FORMATS[format].main !== undefined)
    throw badArgument(
      "standard input",
      "one file",
      `the folder of ${FORMATS[format].noun}, which is several`,
      `give the folder or its ${FORMATS[format].main}`,
    );
  const { openModel } = await import("../convert/import/open-file.js");
  const { liftCheckpoint } = await import("../convert/import/lift.js");
  const { readModel } = await import("./models.js");
  const read = await readModel(input, io, options);
  const file = input === "-" ? { ...read, name: "standard input" } : read;
  const checkpoint = liftCheckpoint(openModel(format, file), arch === undefined ? {} : { arch });
  return { ...file, checkpoint, isRunnable: checkpoint.isRunnable, close: () => undefined };
}

import { basename, dirname, join } from "node:path";
import {
  expectFolderWritable,
  expectWritable,
  readInput,
  writeFilesChecked,
  writeFolderChecked,
} from "../node/index.js";
import { badArgument } from "./options.js";
import type { Encoded, Written } from "./sinks/sink.js";
import type { Io } from "./terminal.js";

/** How what is written gets its name. */
interface WriteOptions<T> {
  readonly force: boolean;
  /** The name of the main file, if a folder is written. */
  readonly main: string | undefined;
  /** A file that is removed once the output, a file, is there. */
  readonly obsolete: string | undefined;
  /** Whether `check` looks at what is on the disk, or at what was to be written. */
  readonly readBack: boolean;
  readonly check: (written: Written) => Promise<T>;
  readonly accept: (result: T) => boolean;
}

/** @throws InputError (`file`, `argument`) if the output's name is taken, or it is no place for a folder */
export async function expectOutput(output: string, isFolder: boolean, force: boolean): Promise<void> {
  if (isFolder && output === "-")
    throw badArgument(
      "--out",
      "standard output",
      "a folder, for a model of several files",
      "name one with -o",
    );
  if (isFolder) await expectFolderWritable(output, force, isModelFolder);
  else if (output !== "-") await expectWritable(output, force);
}

/** @throws InputError (`file`, `argument`) if files cannot be written beside an output */
export async function expectBeside(output: string, names: readonly string[], force: boolean): Promise<void> {
  if (output === "-" && names.length > 0)
    throw badArgument(
      "--external-data",
      "standard output",
      "a file's name, beside which the weights can lie",
      "name one with -o, or leave the weights inside by --no-external-data",
    );
  for (const name of names) await expectWritable(join(dirname(output), name), force);
}

/** Writes a file, a folder or to standard output; it appears only if it is accepted. */
export async function writeOutput<T>(
  output: string,
  encoded: Encoded,
  options: WriteOptions<T>,
  io: Io,
): Promise<T> {
  const { force, main, obsolete, readBack, check, accept } = options;
  const { bytes, beside = new Map<string, Uint8Array>() } = encoded;
  if (output === "-") {
    const result = await check(encoded);
    if (accept(result)) io.stdout.write(bytes);
    await io.settled?.();
    return result;
  }
  if (main === undefined) {
    const pathOf = (name: string): string => join(dirname(output), name);
    return writeFilesChecked(
      new Map([[output, bytes], ...[...beside].map(([name, data]) => [pathOf(name), data] as const)]),
      {
        force,
        obsolete,
        check: async (temporaries) => {
          if (!readBack) return check(encoded);
          const read = (path: string): Promise<Uint8Array> => readInput(temporaries.get(path) ?? path);
          const others = new Map<string, Uint8Array>();
          for (const name of beside.keys()) others.set(name, await read(pathOf(name)));
          return check({ bytes: await read(output), ...(others.size > 0 ? { beside: others } : {}) });
        },
        accept,
      },
    );
  }
  const { readModel } = await import("./models.js");
  return writeFolderChecked(output, new Map([[main, bytes], ...beside]), {
    force,
    replaces: isModelFolder,
    check: async (temporary) => check(readBack ? await readModel(temporary, io) : encoded),
    accept,
  });
}

/** Only a TensorFlow.js model is ever replaced: a folder of anything else keeps what it holds. */
function isModelFolder(names: readonly string[]): boolean {
  return (
    names.includes("model.json") && names.every((name) => /^(model\.json|.*\.bin)$/.test(basename(name)))
  );
}

/** All bytes of an output. */
export function sizeOf({ bytes, beside }: Encoded): number {
  const files = [bytes, ...(beside?.values() ?? [])];
  return files.reduce((sum, { length }) => sum + length, 0);
}

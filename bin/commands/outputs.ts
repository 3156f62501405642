import { basename } from "node:path";
import { InputError } from "../../src/errors.js";
import {
  expectFolderWritable,
  expectWritable,
  readInput,
  writeChecked,
  writeFolderChecked,
} from "../../src/files.js";
import type { Written } from "./sinks/sink.js";

/** How what is written gets its name. */
interface WriteOptions<T> {
  readonly force: boolean;
  /** Whether `check` looks at what is on the disk, or at what was to be written. */
  readonly readBack: boolean;
  readonly check: (written: Written) => Promise<T>;
  readonly accept: (result: T) => boolean;
}

/** @throws InputError (`file`, `argument`) if the output's name is taken, or it is no place for a folder */
export async function expectOutput(output: string, isFolder: boolean, force: boolean): Promise<void> {
  if (isFolder && output === "-")
    throw new InputError({
      code: "argument",
      subject: "--out",
      found: "standard output",
      expected: "a folder, for a model of several files",
      remedy: "name one with -o",
    });
  if (isFolder) await expectFolderWritable(output, force, isModelFolder);
  else if (output !== "-") await expectWritable(output, force);
}

/** Writes a file, a folder or to standard output; it appears only if it is accepted. */
export async function writeOutput<T>(output: string, encoded: Written, options: WriteOptions<T>): Promise<T> {
  const { force, readBack, check, accept } = options;
  const { bytes, shards } = encoded;
  if (output === "-") {
    const result = await check(encoded);
    if (accept(result)) process.stdout.write(bytes);
    return result;
  }
  if (!shards)
    return writeChecked(output, bytes, {
      force,
      check: async (temporary) => check(readBack ? { bytes: await readInput(temporary) } : encoded),
      accept,
    });
  const { readModel } = await import("./models.js");
  return writeFolderChecked(output, new Map([["model.json", bytes], ...shards]), {
    force,
    replaces: isModelFolder,
    check: async (temporary) => check(readBack ? await readModel(temporary) : encoded),
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
export function sizeOf({ bytes, shards }: Written): number {
  return [bytes, ...(shards?.values() ?? [])].reduce((sum, { length }) => sum + length, 0);
}

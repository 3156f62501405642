import { lstatSync, readFileSync } from "node:fs";
import { lstat, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import type { Encoded, NameBeside } from "../convert/export/write.js";
import { InputError } from "../core/errors.js";
import { readInput } from "../node/read.js";
import {
  expectFolderWritable,
  expectWritable,
  writeFilesChecked,
  writeFolderChecked,
} from "../node/write.js";
import { readModel } from "./inputs.js";
import { badArgument } from "./options.js";
import type { Written } from "./targets.js";
import type { Io } from "./terminal.js";

/** Options for writing an output under its final name. */
interface WriteOptions<T> {
  readonly force: boolean;
  /** The name of the main file, if a folder is written. */
  readonly main: string | undefined;
  /** A file to remove once the output file exists. */
  readonly obsolete: string | undefined;
  /** Whether `check` reads the file back, or checks what was to be written. */
  readonly readBack: boolean;
  readonly check: (written: Written) => Promise<T>;
  readonly accept: (result: T) => boolean;
}

/** @throws InputError (`file`, `argument`) if the output exists, or a folder is needed */
export async function expectOutput(output: string, isFolder: boolean, force: boolean): Promise<void> {
  if (isFolder && output === "-")
    throw badArgument(
      "--out",
      "standard output",
      "a folder, because the model has several files",
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
      "an output file, with the weights beside it",
      "name one with -o, or keep the weights in the model with --no-external-data",
    );
  for (const name of names) await expectWritable(join(dirname(output), name), force);
}

/** Writes a file, a folder or to standard output; the output appears only if it is accepted. */
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
  return writeFolderChecked(output, new Map([[main, bytes], ...beside]), {
    force,
    replaces: isModelFolder,
    check: async (temporary) => check(readBack ? await readModel(temporary, io) : encoded),
    accept,
  });
}

/** Only a TensorFlow.js model is ever replaced: other folders keep their content. */
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

/**
 * A model and its weight files are several files, and only one can be renamed at a time. The weight files of a model
 * that is replaced remain until the new model has its name, so new weights get unique names: `m.onnx.1f0c9a7b.data` or
 * `group1-shard1of1.1f0c9a7b.bin`.
 */

/** Whether a name is that of weights beside a model: `m.onnx.data`, or with eight digits of their SHA-256. */
function isOwn(name: string, model: string): boolean {
  return name.startsWith(`${model}.`) && /^([0-9a-f]{8}\.)?data$/.test(name.slice(model.length + 1));
}

/**
 * Names for weight files beside a model: the usual ones, unless a model exists that may refer to a file of that name
 * with other content.
 *
 * @param model the file that refers to them: an ONNX file, or a model.json
 */
export async function ownNames(model: string): Promise<NameBeside> {
  const isThere = model !== "-" && (await lstat(model).catch(() => undefined)) !== undefined;
  return (usual, data) => {
    const path = join(dirname(model), usual);
    const found = isThere ? lstatSync(path, { throwIfNoEntry: false }) : undefined;
    const isSame =
      found?.isFile() && found.size === data.length && Buffer.compare(readFileSync(path), data) === 0;
    if (!found || isSame) return usual;
    // Loaded only here, since that takes 8 ms.
    const { createHash } = createRequire(import.meta.url)("node:crypto") as typeof import("node:crypto");
    const digest = createHash("sha256").update(data).digest("hex").slice(0, 8);
    return usual.replace(/(?=\.[^.]*$)/, `.${digest}`);
  };
}

/**
 * The weights beside an ONNX model that is about to be replaced, which will then be unused. Only a file
 * named after the model belongs to it: others may belong to other models too.
 *
 * @param beside names of files that will be written beside the output, replacing existing ones
 * @returns the path of a regular file; undefined if there is none, or the existing model does not refer to it
 */
export async function weightsLeftBehind(
  output: string,
  beside: readonly string[],
): Promise<string | undefined> {
  const own = await ownFiles(output);
  const used = own.length > 0 ? await referredTo(output) : undefined;
  for (const name of own.filter((name) => used?.includes(name))) {
    const path = join(dirname(output), name);
    const found = await lstat(path).catch(() => undefined);
    if (!beside.includes(name) && found?.isFile()) return path;
  }
  return undefined;
}

/** The names beside an output that its weights have, or had. */
async function ownFiles(output: string): Promise<readonly string[]> {
  if (output === "-") return [];
  const names = await readdir(dirname(output)).catch(() => []);
  return names.filter((name) => isOwn(name, basename(output)));
}

/** The weight files of a model; undefined if it does not exist or is not a readable model. */
async function referredTo(output: string): Promise<readonly string[] | undefined> {
  const found = output === "-" ? undefined : await lstat(output).catch(() => undefined);
  if (!found?.isFile()) return undefined;
  const { zerosForAbsent } = await import("../convert/formats/refusals.js");
  const { decodeOnnx } = await import("../convert/formats/onnx/decode.js");
  try {
    const bytes = await readInput(output);
    return decodeOnnx(bytes, { subject: basename(output), absent: zerosForAbsent() }).missing ?? [];
  } catch (error) {
    // An unreadable model has no known references.
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** Longer than any conversion takes between writing its weights and its model. */
const ABANDONED_MS = 3_600_000;

/**
 * Removes weights of a model that a killed process left: their name is derived from their content, so nobody else
 * created the file, and the model does not refer to them.
 */
export async function sweepWeights(output: string): Promise<void> {
  const names = (await ownFiles(output)).filter((name) => name !== `${basename(output)}.data`);
  const used = names.length > 0 ? await referredTo(output) : undefined;
  for (const name of names) {
    const path = join(dirname(output), name);
    const found = await lstat(path).catch(() => undefined);
    if (used && !used.includes(name) && found?.isFile() && Date.now() - found.mtimeMs > ABANDONED_MS)
      await rm(path, { force: true }).catch(() => undefined);
  }
}

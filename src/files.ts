/** File helpers for Node: whole files in, whole files out or nothing. The only part of the library that imports `node:`. */
import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { InputError } from "./errors.js";

/** Node reads no more than this into one buffer; the largest OSNet checkpoint with optimizer state is under 100 MB. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/**
 * Reads a file, or standard input for `-`.
 *
 * @throws InputError (`file`) if it does not exist, is a folder, is larger than 2 GiB, or cannot be read
 */
export async function readInput(path: string): Promise<Uint8Array> {
  if (path === "-") return readStandardInput();
  const subject = basename(path);
  try {
    const { size } = await stat(path);
    if (size > MAX_FILE_BYTES)
      throw fileError(subject, `${size} bytes`, "at most 2 GiB", "give the checkpoint alone");
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw fileError(path || '""', describe(cause), "a file that can be read", "check the path", cause);
  }
}

async function readStandardInput(): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

/**
 * Writes a file so that it appears whole or not at all: into a temporary file beside it, which is handed to `check`
 * and then renamed. Whatever goes wrong, the temporary file is removed and an existing file stays as it was.
 *
 * @param check looks at the temporary file; its result is returned, and the file appears only if `accept` says so
 * @throws InputError (`file`) if the file exists and `force` is not set, or it cannot be written
 */
export async function writeChecked<T>(
  path: string,
  bytes: Uint8Array,
  {
    force,
    check,
    accept,
  }: {
    readonly force: boolean;
    readonly check: (temporary: string) => Promise<T>;
    readonly accept: (result: T) => boolean;
  },
): Promise<T> {
  await expectWritable(path, force);
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  const cleanUp = (): void => void rm(temporary, { force: true }).then(() => process.exit(130));
  process.once("SIGINT", cleanUp);
  try {
    await writeSynced(temporary, bytes).catch((cause: unknown) => {
      throw fileError(path, describe(cause), "a place that can be written", "choose another", cause);
    });
    const result = await check(temporary);
    await (accept(result) ? rename(temporary, path) : rm(temporary));
    return result;
  } catch (error) {
    // What went wrong is what the user hears of, not that its trace could not be removed.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  } finally {
    process.removeListener("SIGINT", cleanUp);
  }
}

/** @throws InputError (`file`) if the file exists and `force` is not set, or its folder does not exist */
export async function expectWritable(path: string, force: boolean): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (path === "" || found?.isDirectory())
    throw fileError(path || '""', found ? "a folder" : "no name", "a file name", "name the file to write");
  if (found && !force)
    throw fileError(path, "an existing file", "no file of this name", "add --force to replace it");
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (!folder?.isDirectory())
    throw fileError(path, "no such folder", "an existing folder", "create it first");
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EISDIR: "a folder",
  EACCES: "no permission",
  EPERM: "no permission",
  EROFS: "a read-only file system",
  ENOSPC: "a full disk",
  ENOTDIR: "a path through something that is no folder",
};

function describe(cause: unknown): string {
  const code = (cause as { readonly code?: string }).code ?? "";
  return DESCRIPTIONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
}

function fileError(
  subject: string,
  found: string,
  expected: string,
  remedy: string,
  cause?: unknown,
): InputError {
  return new InputError({ code: "file", subject, found, expected, remedy }, { cause });
}

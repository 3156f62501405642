import { appendFileSync, closeSync, openSync } from "node:fs";
import {
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
} from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { describe, fileError, unusable } from "./read.js";

/**
 * Writes a file atomically: into a temporary file beside it, which is passed to `check` and then renamed. On any
 * failure the temporary file is removed, and an existing file is unchanged.
 *
 * @param check examines the temporary file; its result is returned, and the file appears only if `accept` agrees
 * @throws InputError (`file`) if the file exists and `force` is not set, or it cannot be written
 */
export async function writeChecked<T>(
  path: string,
  bytes: Uint8Array,
  { check, ...options }: WriteOptions<string, T>,
): Promise<T> {
  return writeFilesChecked(new Map([[path, bytes]]), {
    ...options,
    check: (temporaries) => check(temporaries.get(path) ?? path),
  });
}

interface WriteOptions<Temporary, T> {
  readonly force: boolean;
  /**
   * A file that only the replaced one referred to: removed once the new files have their names. New files take its
   * mode.
   */
  readonly obsolete?: string | undefined;
  readonly check: (temporary: Temporary) => Promise<T>;
  readonly accept: (result: T) => boolean;
}

/**
 * As `writeChecked`, for files that belong together, by their paths: all appear or none. The first one refers to the
 * others, and appears last.
 *
 * @param check examines the temporary files, by their final paths
 */
export async function writeFilesChecked<T>(
  files: ReadonlyMap<string, Uint8Array>,
  { force, obsolete, check, accept }: WriteOptions<ReadonlyMap<string, string>, T>,
): Promise<T> {
  for (const path of files.keys()) await expectWritable(path, force);
  const temporaries = new Map([...files.keys()].map((path) => [path, temporaryFor(path)]));
  return wholly({
    write: async () => {
      for (const [path, bytes] of files)
        await writeSynced(temporaries.get(path) ?? path, bytes).catch((cause: unknown) => {
          throw unwritable(path, cause);
        });
    },
    check: () => check(temporaries),
    accept,
    appear: async () => {
      const mode = obsolete === undefined ? undefined : (await stat(obsolete).catch(() => undefined))?.mode;
      if (mode !== undefined)
        for (const temporary of [...temporaries.values()].slice(1))
          await chmod(temporary, mode & 0o777).catch(() => undefined);
      await appear([...temporaries], force);
      // The new files are complete, whether or not this can be removed.
      if (obsolete !== undefined) await rm(obsolete, { force: true }).catch(() => undefined);
    },
    remove: async () => {
      for (const temporary of temporaries.values()) await rm(temporary, { force: true });
    },
  });
}

/** A file or folder that is written under a temporary name first. */
interface Written<T> {
  readonly write: () => Promise<void>;
  readonly check: () => Promise<T>;
  readonly accept: (result: T) => boolean;
  /** Gives what was written its name. */
  readonly appear: () => Promise<void>;
  /** Removes what was written so far. */
  readonly remove: () => Promise<void>;
}

/** Signals that end a process but let it clean up: Ctrl+C, `kill`, a closed terminal. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** A hidden name beside a path. File names have at most 255 bytes, so only the start of a long one is used. */
function temporaryFor(path: string): string {
  return join(dirname(path), `.${basename(path).slice(0, 40)}.${uniqueId()}.tmp`);
}

/**
 * A random UUID. It may be guessable, since a file is only created if there is none; node:crypto would take 8 ms to load.
 */
function uniqueId(): string {
  const digit = (): string => Math.floor(16 * Math.random()).toString(16);
  return [8, 4, 4, 4, 12].map((length) => Array.from({ length }, digit).join("")).join("-");
}

/** Writes and checks a file or folder, and gives it its name. It is removed if it is not accepted, if anything fails, or on Ctrl+C. */
async function wholly<T>({ write, check, accept, appear, remove }: Written<T>): Promise<T> {
  const cleanUp = (_signal: string, number: number): void =>
    void remove()
      .catch(() => undefined)
      .then(() => process.exit(128 + number));
  for (const signal of SIGNALS) process.once(signal, cleanUp);
  try {
    await write();
    const result = await check();
    await (accept(result) ? appear() : remove());
    return result;
  } catch (error) {
    // The original error is reported, not a failure to clean up after it.
    await remove().catch(() => undefined);
    throw error;
  } finally {
    for (const signal of SIGNALS) process.removeListener(signal, cleanUp);
  }
}

function unwritable(path: string, cause: unknown): Error {
  return unusable(path, describe(cause), "choose another location", cause);
}

/** Gives files their names, the first one last. If that fails, the earlier files are restored. */
async function appear(
  [main, ...others]: readonly (readonly [path: string, temporary: string])[],
  force: boolean,
): Promise<void> {
  const earlier: (readonly [path: string, aside: string | undefined])[] = [];
  try {
    for (const [path, temporary] of others) earlier.push([path, await place(temporary, path, force)]);
    // The files that it refers to must be on the disk first.
    if (main && others.length > 0) await syncFolder(dirname(main[0]));
    if (main) await rm((await place(main[1], main[0], force)) ?? main[1], { force: true });
  } catch (error) {
    for (const [path, aside] of earlier) await (aside ? rename(aside, path) : rm(path, { force: true }));
    throw error;
  }
  for (const [, aside] of earlier) if (aside) await rm(aside, { recursive: true, force: true });
}

/**
 * Renames a file to its final name, in one step: the earlier or the new file exists at every moment. Without `force`, a
 * file that another process has created meanwhile is not replaced.
 *
 * @returns where the earlier file is kept, if there was one
 * @throws InputError (`file`) if there is one and `force` is not set
 */
async function place(temporary: string, path: string, force: boolean): Promise<string | undefined> {
  if (!force) {
    try {
      await link(temporary, path);
      await rm(temporary, { force: true });
      return undefined;
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === "EEXIST") throw existing(path);
      // Some file systems have no hard links.
      await rename(temporary, path);
      return undefined;
    }
  }
  const found = await stat(path).catch(() => undefined);
  expectNoDevice(path, found);
  if (!found) {
    await rename(temporary, path);
    return undefined;
  }
  const aside = `${temporary}.earlier`;
  await chmod(temporary, found.mode & 0o777).catch(() => undefined);
  const isKept = await link(path, aside).then(
    () => true,
    () => false,
  );
  await rename(temporary, path);
  return isKept ? aside : undefined;
}

function existing(path: string): Error {
  return unusable(path, "already exists", "add --force to replace it");
}

/** Names of unfinished files and folders, and of earlier files that are kept meanwhile. */
const TEMPORARY = /^\..+\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp(\.earlier)?$/;

/** Whether a name is temporary: this package writes under it before the file or folder gets its own. */
function isTemporary(name: string): boolean {
  return TEMPORARY.test(name);
}

/** No write takes that long: older temporary files were left by a killed process. */
const ABANDONED_MS = 3_600_000;

/** Removes temporary files that killed processes have left in a folder. */
export async function sweepTemporaries(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    if (!isTemporary(name)) continue;
    const path = join(folder, name);
    const found = await lstat(path).catch(() => undefined);
    // An earlier folder may be the only copy of what a run of an older version replaced.
    const isLeft = found && (found.isFile() || (found.isDirectory() && name.endsWith(".tmp")));
    if (isLeft && Date.now() - found.mtimeMs > ABANDONED_MS)
      await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Renaming over `/dev/null` would replace it with a file, for every program on the machine. */
function expectNoDevice(path: string, found: Awaited<ReturnType<typeof stat>> | undefined): void {
  if (found && !found.isFile())
    throw fileError(path, "a pipe or a device", "a regular file", "name a file, or - for standard output");
}

/**
 * @throws InputError (`file`) if there is anything but a file, or a file and `force` is not set, or its folder does not exist
 */
export async function expectWritable(path: string, force: boolean): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (path === "" || found?.isDirectory())
    throw fileError(path || '""', found ? "a folder" : "no name", "a file name", "name the file to write");
  expectNoDevice(path, found);
  if (found && !force) throw existing(path);
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (!folder?.isDirectory()) throw unusable(path, "its folder does not exist", "create the folder first");
}

/**
 * An output never replaces an input, with or without `--force`: also by another name, through a link or in a folder.
 *
 * @param outputs paths to be written, which may not exist; `-` is ignored
 * @param inputs paths of files and folders that are read; missing ones are refused elsewhere
 * @throws InputError (`file`) if an output is an input, or a folder that contains one
 */
export async function expectNotInputs(
  outputs: readonly string[],
  inputs: readonly (string | undefined)[],
): Promise<void> {
  const read = (await Promise.all(inputs.map(identityOf))).filter((found) => found !== undefined);
  for (const output of outputs) {
    const written = await identityOf(output);
    if (!written) continue;
    const isInput = read.some(
      ({ id, path }) => id === written.id || path.startsWith(`${written.path}${sep}`),
    );
    if (isInput) throw unusable(output, "is also an input of this command", "choose another output name");
  }
}

/** A file by its device and number, which links share, and its path without symbolic links. */
async function identityOf(path: string | undefined): Promise<{ id: string; path: string } | undefined> {
  if (path === undefined || path === "-" || path === "") return undefined;
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  const real = await realpath(path).catch(() => undefined);
  if (!found || real === undefined || !(found.isFile() || found.isDirectory())) return undefined;
  return { id: `${found.dev}:${found.ino}`, path: real };
}

/** Syncs a folder, on systems that can. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path).catch(() => undefined);
  try {
    await folder?.sync();
  } catch {
    // The written file itself has been synced.
  } finally {
    await folder?.close();
  }
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx");
  try {
    // One call, if the system accepts it; `writeFile` makes one for each half of a mebibyte.
    for (let written = 0; written < bytes.length; )
      written += (await file.write(bytes, written)).bytesWritten;
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A file that grows while a command runs, and keeps its content if the command is interrupted. */
export interface Appended {
  append(bytes: Uint8Array): void;
  close(): void;
}

/**
 * Creates a file. An existing one is not replaced, and a link is not followed.
 *
 * @throws InputError (`file`), also from `append`, if it cannot be written
 */
export function createAppended(path: string): Appended {
  const tried = <T>(task: () => T): T => {
    try {
      return task();
    } catch (cause) {
      throw unwritable(path, cause);
    }
  };
  const file = tried(() => openSync(path, "ax"));
  return {
    append: (bytes) => tried(() => appendFileSync(file, bytes)),
    close: () => closeSync(file),
  };
}

/**
 * Writes a folder of files completely or not at all, as `writeChecked` does with a file. An existing folder is kept, and only its
 * files are replaced: two folders cannot be swapped in one step, and a process that is killed between two steps would leave
 * none. The first file, which refers to the others, is renamed last. The others therefore may not have the name of an existing
 * file, unless it has the same content.
 *
 * @param files names to contents
 * @param replaces whether an existing folder of these names may be replaced, if `force` is set: nothing else is deleted
 * @throws InputError (`file`) if the folder exists and may not be replaced, or it cannot be written
 */
export async function writeFolderChecked<T>(
  path: string,
  files: ReadonlyMap<string, Uint8Array>,
  {
    force,
    replaces,
    check,
    accept,
  }: WriteOptions<string, T> & { readonly replaces: (names: readonly string[]) => boolean },
): Promise<T> {
  const earlier = await expectFolderWritable(path, force, replaces);
  // Inside an existing folder, which may be a mount or a link: files can only be renamed within one file system.
  const temporary = temporaryFor(earlier ? join(path, basename(path)) : path);
  return wholly({
    write: () =>
      writeAll(temporary, files).catch((cause: unknown) => {
        throw unwritable(path, cause);
      }),
    check: () => check(temporary),
    accept,
    appear: () => (earlier ? exchange(temporary, path, files, earlier) : appearFolder(temporary, path)),
    remove: () => rm(temporary, { recursive: true, force: true }),
  });
}

/**
 * @returns names of the folder's files; undefined if there is no folder
 * @throws InputError (`file`) if a folder of this name exists and may not be replaced, or its parent does not exist
 */
export async function expectFolderWritable(
  path: string,
  force: boolean,
  replaces: (names: readonly string[]) => boolean,
): Promise<readonly string[] | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (path === "" || (found && !found.isDirectory()))
    throw fileError(
      path || '""',
      found ? "a file" : "no name",
      "a folder's name",
      "name the folder to write",
    );
  const names = found ? (await readdir(path)).filter((name) => !isTemporary(name)) : [];
  if (names.length > 0 && !replaces(names))
    throw fileError(path, `a folder with other files (${names[0]})`, "a new folder", "choose another name");
  if (found && !force) throw existing(path);
  const parent = await stat(dirname(path)).catch(() => undefined);
  if (!parent?.isDirectory()) throw unusable(path, "its parent folder does not exist", "create that first");
  return found ? names : undefined;
}

async function writeAll(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await mkdir(folder);
  for (const [name, bytes] of files) await writeSynced(join(folder, name), bytes);
}

/** Gives a new folder its name. A folder that another process has created meanwhile is kept. */
async function appearFolder(temporary: string, path: string): Promise<void> {
  try {
    await rename(temporary, path);
  } catch (cause) {
    const isThere = await stat(path).then(
      () => true,
      () => false,
    );
    throw isThere ? existing(path) : unwritable(path, cause);
  }
  await syncFolder(dirname(path));
}

/**
 * Replaces earlier files by new ones: at every moment the first file is the old or the new one, and everything that it
 * refers to exists.
 *
 * @param earlier names of files to remove unless a new one has the same name
 */
async function exchange(
  temporary: string,
  path: string,
  files: ReadonlyMap<string, Uint8Array>,
  earlier: readonly string[],
): Promise<void> {
  const [main = "", ...others] = files.keys();
  const mode = (await stat(join(path, main)).catch(() => undefined))?.mode;
  const added: string[] = [];
  try {
    for (const name of [...others, main]) {
      const [from, to] = [join(temporary, name), join(path, name)];
      if (mode !== undefined) await chmod(from, mode & 0o777).catch(() => undefined);
      if (name === main) {
        await syncFolder(path);
        await rename(from, to);
        continue;
      }
      const there = await readFile(to).catch(() => undefined);
      if (there === undefined) {
        await rename(from, to);
        added.push(to);
      } else if (Buffer.compare(there, files.get(name) ?? there) !== 0)
        throw unusable(to, "was created by another program", "convert again, or into another folder");
    }
  } catch (error) {
    for (const name of added) await rm(name, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(path);
  // The new model is complete, whether or not the rest of the earlier one can be removed.
  for (const name of earlier)
    if (!files.has(name)) await rm(join(path, name), { recursive: true, force: true }).catch(() => undefined);
  await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
}

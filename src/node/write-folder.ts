import { chmod, mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileError, unusable } from "./read.js";
import {
  isTemporary,
  syncFolder,
  temporaryFor,
  unwritable,
  type WriteOptions,
  wholly,
  writeSynced,
} from "./write.js";

/**
 * Writes a folder of files so that it appears whole or not at all, as `writeChecked` does with a file. A folder that is there
 * stays, and only its files are exchanged: two folders cannot change places in one step, and between two steps a process that
 * is killed would leave none. The first file, which refers to the others, is renamed last. The others therefore may not have
 * the name of a file that is there, unless they are the same.
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
  // Within a folder that is there, which may be a mount or a link: files are renamed within one file system only.
  const temporary = temporaryFor(earlier ? join(path, basename(path)) : path);
  return wholly({
    write: () =>
      writeAll(temporary, files).catch((cause: unknown) => {
        throw unwritable(path, cause);
      }),
    check: () => check(temporary),
    accept,
    appear: () => (earlier ? exchange(temporary, path, files, earlier) : appear(temporary, path)),
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

function existing(path: string): Error {
  return unusable(path, "already exists", "add --force to replace it");
}

async function writeAll(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await mkdir(folder);
  for (const [name, bytes] of files) await writeSynced(join(folder, name), bytes);
}

/** Gives a new folder its name. Another process may have made one of that name meanwhile, which stays. */
async function appear(temporary: string, path: string): Promise<void> {
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
  // The new model is whole, whether or not what was left of the earlier one can be removed.
  for (const name of earlier)
    if (!files.has(name)) await rm(join(path, name), { recursive: true, force: true }).catch(() => undefined);
  await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
}

import { realpath, stat } from "node:fs/promises";
import { sep } from "node:path";
import { fileError } from "./errors.js";

/**
 * Nothing that a command writes replaces what it reads, `--force` or not: by another name, a link or in a folder either.
 *
 * @param outputs paths to be written, which may not exist; `-` is none
 * @param inputs paths of files and folders that are read; what does not exist is refused elsewhere
 * @throws InputError (`file`) if an output is an input, or a folder that an input is in
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
    if (isInput)
      throw fileError(output, "an input of the same command", "another name", "name another file to write");
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

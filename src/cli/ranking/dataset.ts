import { type Dirent, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileError } from "../../node/index.js";
import { type Dataset, readDataset } from "../../verify/ranking/dataset.js";

/** A data set, and the folder that the paths of its pictures start from. */
export interface OpenDataset {
  readonly name: string;
  readonly dataset: Dataset;
  readonly folder: string;
}

/**
 * Reads a data set off the names of its files. Files may be links; links to folders are not followed.
 *
 * @throws InputError (`file`) if there is no such folder
 */
export function openDataset(path: string): OpenDataset {
  const name = basename(resolve(path));
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found)
    throw fileError(name, "no such file or folder", "a folder of pictures, or a .csv", "check --data");
  const folder = found.isDirectory() ? path : dirname(path);
  const paths = found.isDirectory() ? filesBelow(path) : [basename(path)];
  const readText = (file: string): string => readFileSync(join(folder, file), "utf8");
  return { name, dataset: readDataset({ paths, readText }, name), folder };
}

/** The files below a folder, with forward slashes. */
function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const path = join(parentOf(entry), entry.name);
    const isFile =
      entry.isFile() ||
      (entry.isSymbolicLink() && statSync(path, { throwIfNoEntry: false })?.isFile() === true);
    return isFile ? [relative(folder, path).split(sep).join("/")] : [];
  });
}

/** Node before 20.12 calls it `path`. */
function parentOf(entry: Dirent): string {
  return entry.parentPath ?? (entry as { readonly path?: string }).path ?? "";
}

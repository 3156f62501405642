import { basename, join, resolve } from "node:path";
import type { NamedBytes } from "../core/bytes.js";
import { filesBeside, isFolder, readInput } from "../node/index.js";
import { type Io, readingProgress } from "./terminal.js";

/** A file that was read as a whole. */
export type ReadFile = NamedBytes & { readonly bytes: Uint8Array };

/** Reads a model: a file, or the folder of a TensorFlow.js model, or the model.json in one. */
export async function readModel(
  path: string,
  io: Io,
  show: { readonly quiet?: boolean; readonly json?: boolean } = {},
): Promise<ReadFile> {
  const file = (await isFolder(path)) ? join(path, "model.json") : path;
  const bar = readingProgress(file, show, io);
  const bytes = await readInput(file, { onProgress: bar.update, stdin: io.stdin });
  bar.clear();
  const name = basename(path);
  return file === "-" ? { name, bytes } : { name, bytes, beside: filesBeside(file), path: resolve(file) };
}

import { basename, join, resolve } from "node:path";
import type { SidecarReader } from "../convert/formats/onnx/external.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { tfjsShardPaths } from "../convert/formats/tfjs/codec.js";
import { toBytes } from "../core/bytes.js";
import { isFolder, readInput, sidecarReader } from "../node/index.js";
import { type Io, readingProgress } from "./terminal.js";

/** A model's bytes, under the name that reports give it. */
export interface ModelInput {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The weight files beside a model.json. */
  readonly shards?: ReadonlyMap<string, Uint8Array>;
  /** Reads the files beside an ONNX file. */
  readonly sidecar?: SidecarReader;
  /** Where an ONNX file is on disk. */
  readonly path?: string;
}

/** Reads a model: a file, or the folder of a TensorFlow.js model, or the model.json in one. */
export async function readModel(
  path: string,
  io: Io,
  show: { readonly quiet?: boolean; readonly json?: boolean } = {},
): Promise<ModelInput> {
  const file = (await isFolder(path)) ? join(path, "model.json") : path;
  const bar = readingProgress(file, show, io);
  const bytes = await readInput(file, { onProgress: bar.update, stdin: io.stdin });
  bar.clear();
  const name = basename(path);
  if (file === "-") return { name, bytes };
  if (sniffFormat(bytes) !== "tfjs")
    return { name, bytes, sidecar: sidecarReader(file), path: resolve(file) };
  const read = sidecarReader(file);
  const shards = new Map<string, Uint8Array>();
  for (const path of tfjsShardPaths(bytes, { subject: name })) {
    const shard = read(path);
    // One that is missing is named by the decoder, which knows how many there are.
    if (shard) shards.set(path, toBytes(shard));
  }
  return { name, bytes, shards };
}

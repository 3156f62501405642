import type { OsnetSpec } from "../../arch/index.js";
import type { NamedBytes } from "../../core/bytes.js";
import { type NpzArchive, openNpz } from "../formats/npz.js";
import { type FileFormat, isModelFormat, type ModelFormat } from "../formats/registry.js";
import { sniffFormat } from "../formats/sniff.js";
import { type Checkpoint, openCheckpoint } from "./checkpoint.js";
import { isWeightsArchive } from "./decode-weights.js";
import { type Model, openModel } from "./model.js";

/** A file that may be open already. */
export interface SourceFile extends NamedBytes {
  /** The checkpoint in it, or lifted from it. */
  readonly checkpoint?: Checkpoint;
}

/** How a file is understood, where its content leaves a choice. */
export interface FileOptions {
  /** The architecture of a checkpoint, if it cannot be inferred: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** Path of the state dict inside a checkpoint. */
  readonly key?: string;
}

/** A file of any kind, decoded once: weights, a graph with its weights, or the activations of a run. */
export type OpenFile =
  | { readonly kind: "checkpoint"; readonly format: FileFormat; readonly checkpoint: Checkpoint }
  | { readonly kind: "model"; readonly format: ModelFormat; readonly model: Model }
  | { readonly kind: "recording"; readonly format: FileFormat; readonly archive: NpzArchive };

/**
 * Decodes a file of any kind, by its content.
 *
 * @throws InputError (`format`, `unsupported`, `state-dict`) if it is none of these, or broken
 */
export function openFile(file: SourceFile, { arch, key }: FileOptions = {}): OpenFile {
  const { name, bytes, checkpoint } = file;
  if (checkpoint) return { kind: "checkpoint", format: checkpoint.decoded.format, checkpoint };
  const format = sniffFormat(bytes);
  if (isModelFormat(format)) return { kind: "model", format, model: openModel(format, file) };
  if (format === "npz") {
    const archive = openNpz(bytes, name);
    if (!isWeightsArchive(archive.names)) return { kind: "recording", format, archive };
  }
  const opened = openCheckpoint(bytes, {
    subject: name,
    format,
    ...(arch === undefined ? {} : { arch }),
    ...(key === undefined ? {} : { key }),
  });
  return { kind: "checkpoint", format, checkpoint: opened };
}

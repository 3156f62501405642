import { type LayerGraph, type OsnetSpec, variantOf } from "../arch/index.js";
import { type NpzArchive, openNpz } from "../convert/formats/npz.js";
import type { SidecarReader } from "../convert/formats/onnx/index.js";
import { type FileFormat, isModelFormat } from "../convert/formats/registry.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { type Checkpoint, openCheckpoint } from "../convert/import/checkpoint.js";
import { isWeightsArchive } from "../convert/import/decode-weights.js";
import { type Bytes, concatenate, sha256, toBytes, toSource } from "../core/bytes.js";
import type { BackendName } from "./backends/backend.js";
import { type ModelFile, openModel } from "./candidate/models.js";
import type { Party } from "./report.js";

/** A file's bytes under the name that reports and messages give it. */
export interface NamedBytes {
  /** A file name, without a folder. */
  readonly name: string;
  /** The content, in memory or read where it is needed. */
  readonly bytes: Bytes;
  /** The weight files beside a model.json, by their paths in it. */
  readonly shards?: ReadonlyMap<string, Uint8Array>;
  /** Reads the files beside an ONNX file that hold its weights. */
  readonly sidecar?: SidecarReader;
  /** Where the bytes are on disk, if they are: onnxruntime then opens an ONNX file itself, with what lies beside it. */
  readonly path?: string;
  /** What the bytes hold, if they are a checkpoint that is open already. */
  readonly checkpoint?: Checkpoint;
}

export interface FileOptions {
  /** The architecture of a checkpoint whose names and shapes do not tell it: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** Path of the state dict inside a checkpoint. */
  readonly key?: string;
  /** What runs the candidate, of those that run its format. Default: the only one, or tfjs-wasm. */
  readonly backend?: BackendName;
}

/** A file of any kind that a verification takes, read and understood. */
export type OpenFile =
  | { readonly kind: "model"; readonly format: FileFormat; readonly model: ModelFile }
  | { readonly kind: "checkpoint"; readonly format: FileFormat; readonly checkpoint: Checkpoint }
  | { readonly kind: "recording"; readonly format: FileFormat; readonly archive: NpzArchive };

/** @throws InputError (`format`, `unsupported`, …) if the bytes are none of these, or broken */
export function openFile(file: NamedBytes, options: FileOptions): OpenFile {
  const { name, bytes, checkpoint } = file;
  if (checkpoint) return { kind: "checkpoint", format: checkpoint.decoded.format, checkpoint };
  const format = sniffFormat(bytes);
  if (isModelFormat(format))
    return {
      kind: "model",
      format,
      model: openModel(format, { ...file, bytes: toBytes(bytes) }, options.backend),
    };
  if (format === "npz") {
    const archive = openNpz(bytes, name);
    if (!isWeightsArchive(archive.names)) return { kind: "recording", format, archive };
  }
  const { arch, key } = options;
  const opened = openCheckpoint(bytes, {
    subject: name,
    format,
    ...(arch === undefined ? {} : { arch }),
    ...(key === undefined ? {} : { key }),
  });
  return { kind: "checkpoint", format, checkpoint: opened };
}

/** What reports say of a file. */
export async function describe(file: NamedBytes, opened: OpenFile, graph: LayerGraph): Promise<Party> {
  const { name } = file;
  const { format } = opened;
  const variant = variantOf(graph.spec);
  return {
    name,
    format,
    ...(variant ? { variant } : {}),
    sha256: await digestOf(file, opened.kind === "model" ? opened.model.sidecars : []),
  };
}

/**
 * Of a file its SHA-256; of a TensorFlow.js model that of all its files, one after the other; of an ONNX file with weights beside
 * it, which may be large, that of the SHA-256s of all of them in hexadecimal digits.
 */
async function digestOf(
  { bytes, shards, sidecar }: NamedBytes,
  sidecars: readonly string[],
): Promise<string> {
  if (shards) return sha256(concatenate([toBytes(bytes), ...shards.values()]));
  const files = [bytes, ...sidecars.flatMap((path) => sidecar?.(path) ?? [])];
  const digests = await Promise.all(files.map((file) => toSource(file).sha256()));
  const [only = ""] = digests;
  return digests.length === 1 ? only : sha256(new TextEncoder().encode(digests.join("")));
}

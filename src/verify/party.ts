import { type LayerGraph, variantOf } from "../arch/index.js";
import { type OpenFile, tfjsFiles, weightFiles } from "../convert/import/open-file.js";
import { concatenate, type NamedBytes, sha256, toBytes, toSource } from "../core/bytes.js";
import type { Party } from "./report.js";

/** What reports say of a file. */
export async function describe(file: NamedBytes, opened: OpenFile, graph: LayerGraph): Promise<Party> {
  const variant = variantOf(graph.spec);
  return {
    name: file.name,
    format: opened.format,
    ...(variant ? { variant } : {}),
    sha256: await digestOf(file, opened),
  };
}

/**
 * Of a file its SHA-256; of a TensorFlow.js model that of all its files, one after the other; of an ONNX file with weights beside
 * it, which may be large, that of the SHA-256s of all of them in hexadecimal digits.
 */
async function digestOf(file: NamedBytes, opened: OpenFile): Promise<string> {
  // What was lifted before it came here is the same files.
  const lifted = opened.format === "tfjs" ? tfjsFiles(file).shards : new Map<string, Uint8Array>();
  const weights = [...(opened.kind === "model" ? weightFiles(opened.model, file) : lifted).values()];
  const files = [file.bytes, ...weights.flatMap((bytes) => bytes ?? [])];
  if (opened.format === "tfjs") return sha256(concatenate(files.map(toBytes)));
  const digests = await Promise.all(files.map((bytes) => toSource(bytes).sha256()));
  const [only = ""] = digests;
  return digests.length === 1 ? only : sha256(new TextEncoder().encode(digests.join("")));
}

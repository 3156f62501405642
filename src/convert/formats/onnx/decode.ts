import onnxProto from "onnx-proto";
import { bytesOf, toSource } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { isZip } from "../registry.js";
import { otherKind } from "../sniff.js";
import { expectUnambiguous } from "./ambiguity.js";
import { inlineFunctions } from "./functions.js";
import { decodeGraph, standardDomain } from "./graphs.js";
import { checkMessages, int64ToNumber, refusal } from "./limits.js";
import { FUNCTION, type IAttributeProto, type IGraphProto, MODEL } from "./messages.js";
import type { OnnxModel } from "./model.js";
import type { OnnxSource } from "./tensors.js";
import { topLevelPayloads } from "./wire.js";

// The package is CommonJS: its names are not visible to named imports of an ES module.
const { onnx } = onnxProto;

/**
 * ONNX: one protobuf message, `ModelProto` of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3),
 * little-endian, no header and no magic number.
 *
 * Accepted: any exporter's file of IR version 3 or later, weights inside it or beside it (tensors.ts); unknown fields
 * are skipped. Refused: truncated or foreign bytes, tensors whose size and shape disagree, types without a `DType`,
 * messages that would take far more memory than their length (limits.ts), and ambiguous files (limits.ts,
 * ambiguity.ts).
 */

/**
 * The model in an ONNX file. Tensors share the memory of `bytes` where alignment allows.
 *
 * @throws InputError (`format`) if the bytes are not a complete ONNX file, (`unsupported`) if the file contains what is
 * not supported; `source.subject` is the file's name in messages, and `source.sidecar` reads the weight files beside
 * it, if any.
 */
export function decodeOnnx(bytes: Uint8Array, source: OnnxSource): OnnxModel {
  const { subject } = source;
  expectNoOtherKind(bytes, subject);
  try {
    return decodeModel(bytes, source);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    // protobufjs reports malformed messages by a RangeError or its own Error.
    throw new InputError(notOnnx(subject, "bytes that are not a complete protobuf message").problem, {
      cause,
    });
  }
}

function decodeModel(bytes: Uint8Array, source: OnnxSource): OnnxModel {
  const { subject } = source;
  // A plain view: with a Node `Buffer`, protobufjs reads strings beyond the end without an error.
  const view = bytesOf(bytes);
  const sidecars = new Set<string>();
  const missing = new Set<string>();
  const copies = { held: view.length, copied: 0, read: 0 };
  const noted: OnnxSource = {
    subject,
    ...(source.absent ? { absent: source.absent } : {}),
    ...(source.sidecar || source.absent
      ? {
          sidecar: (name) => {
            const bytes = source.sidecar?.(name);
            if (bytes && !sidecars.has(name) && toSource(bytes).loaded) copies.held += bytes.length;
            (bytes ? sidecars : missing).add(name);
            return bytes;
          },
          copies,
        }
      : {}),
  };
  checkMessages(view, subject);
  const graphs = topLevelPayloads(view, MODEL.fields.graph.number);
  const model = onnx.ModelProto.decode(view);
  const whole = mergeGraphs(graphs) ?? model.graph;
  expectUnambiguous({ ...model, graph: whole ?? null }, subject);
  const opsets = new Map(
    model.opsetImport.map(({ domain, version }) => [standardDomain(domain ?? ""), int64ToNumber(version)]),
  );
  const opset = opsets.get("");
  if (!opset || !whole) throw notOnnx(subject, whole ? "no operator set" : "no graph");
  opsets.delete("");
  const defaults = functionDefaults(view);
  const { graph, calls } = inlineFunctions(whole, { functions: model.functions, defaults }, subject);
  return {
    irVersion: int64ToNumber(model.irVersion),
    opset,
    customOpsets: opsets,
    producer: { name: model.producerName, version: model.producerVersion },
    graph: decodeGraph(graph, noted),
    metadata: new Map(model.metadataProps.map(({ key, value }) => [key ?? "", value ?? ""])),
    ...(calls > 0 ? { inlined: calls } : {}),
    ...(sidecars.size > 0 ? { sidecars: [...sidecars] } : {}),
    ...(missing.size > 0 ? { missing: [...missing] } : {}),
  };
}

/**
 * The attributes of each function that a call may omit, with their default values: onnx-proto does not support this
 * field.
 */
function functionDefaults(view: Uint8Array): readonly (readonly IAttributeProto[])[] {
  return topLevelPayloads(view, MODEL.fields.functions.number).map((body) =>
    topLevelPayloads(body, FUNCTION.fields.attributeProto.number).map((payload) =>
      onnx.AttributeProto.decode(payload),
    ),
  );
}

/**
 * Protobuf merges a message field that occurs twice, which is the same as concatenating the encodings. protobufjs keeps
 * only the last one, which would hide a part of the network that runtimes run.
 */
function mergeGraphs(payloads: readonly Uint8Array[]): IGraphProto | undefined {
  if (payloads.length < 2) return undefined;
  const merged = new Uint8Array(payloads.reduce((length, payload) => length + payload.length, 0));
  let offset = 0;
  for (const payload of payloads) {
    merged.set(payload, offset);
    offset += payload.length;
  }
  return onnx.GraphProto.decode(merged);
}

/** Protobuf has no magic number, so other formats are detected first. */
function expectNoOtherKind(bytes: Uint8Array, subject: string): void {
  const isPickle = bytes[0] === 0x80;
  const other =
    isZip(bytes) || isPickle
      ? {
          found: isPickle ? "a pickle, as PyTorch writes it" : "a zip archive, as PyTorch and NumPy write it",
          remedy: "convert checkpoints with pth2… or npz2…, and unzip zipped models",
        }
      : otherKind(bytes);
  if (other) throw refusal(subject, other.found, "an ONNX model", other.remedy);
}

function notOnnx(subject: string, found: string): InputError {
  return refusal(subject, found, "an ONNX model", "check that the file is a complete .onnx file");
}

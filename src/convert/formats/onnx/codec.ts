import { InputError } from "../../../errors.js";
import { decodeGraph, encodeGraph, standardDomain } from "./graphs.js";
import type { OnnxModel } from "./model.js";
import { GraphProto, type IGraphProto, int64ToNumber, ModelProto } from "./proto.js";
import { refusal } from "./refusal.js";
import { topLevelPayloads } from "./wire.js";

/**
 * ONNX: one protobuf message, `ModelProto` of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3),
 * little-endian, no header and no magic number.
 *
 * Accepted: any exporter's file of IR version 3 or later whose weights are inside it; unknown fields are skipped.
 * Refused: truncated or foreign bytes, tensors whose size and shape disagree, external data, types without a `DType`.
 */

/** Field number of `ModelProto.graph`. */
const GRAPH_FIELD = 7;

/** The bytes of an ONNX file. The same model always gives the same bytes; tensors are copied once. */
export function encodeOnnx(model: OnnxModel): Uint8Array {
  const bytes = ModelProto.encode({
    irVersion: model.irVersion,
    ...(model.producer.name ? { producerName: model.producer.name } : {}),
    ...(model.producer.version ? { producerVersion: model.producer.version } : {}),
    graph: encodeGraph(model.graph),
    opsetImport: [["", model.opset] as const, ...model.customOpsets].map(([domain, version]) => ({
      domain,
      version,
    })),
    metadataProps: Array.from(model.metadata, ([key, value]) => ({ key, value })),
  }).finish();
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * The model in an ONNX file. Tensors share the memory of `bytes` where alignment allows.
 *
 * @throws InputError (`format`) if the bytes are not a whole ONNX file, (`unsupported`) if the file has what the
 * project does not read; `subject` is the file's name for the sentence.
 */
export function decodeOnnx(bytes: Uint8Array, { subject }: { readonly subject: string }): OnnxModel {
  try {
    return decodeModel(bytes, subject);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    // protobufjs reports every malformed message by a RangeError or an Error of its own.
    throw new InputError(notOnnx(subject, "bytes that are no protobuf message, or not all of one").problem, {
      cause,
    });
  }
}

function decodeModel(bytes: Uint8Array, subject: string): OnnxModel {
  // A plain view: on a Node `Buffer`, protobufjs reads strings beyond the end without complaint.
  const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const graphs = topLevelPayloads(view, GRAPH_FIELD);
  const model = ModelProto.decode(view);
  const opsets = new Map(
    model.opsetImport.map(({ domain, version }) => [standardDomain(domain ?? ""), int64ToNumber(version)]),
  );
  const opset = opsets.get("");
  if (!opset || !model.graph) throw notOnnx(subject, model.graph ? "no operator set" : "no graph");
  opsets.delete("");
  return {
    irVersion: int64ToNumber(model.irVersion),
    opset,
    customOpsets: opsets,
    producer: { name: model.producerName, version: model.producerVersion },
    graph: decodeGraph(mergeGraphs(graphs) ?? model.graph, subject),
    metadata: new Map(model.metadataProps.map(({ key, value }) => [key ?? "", value ?? ""])),
  };
}

/**
 * Protobuf merges a message field that occurs twice, and concatenating the encodings is merging them. protobufjs keeps
 * the last one only, which would hide from us a part of the network that runtimes run.
 */
function mergeGraphs(payloads: readonly Uint8Array[]): IGraphProto | undefined {
  if (payloads.length < 2) return undefined;
  return GraphProto.decode(concatenate(payloads));
}

/**
 * The same file with more of its values as graph outputs: the serialized fragment `{ graph: { output: … } }` is
 * appended, which readers merge into the model. Nothing is decoded or encoded again, so that fields unknown to us
 * survive. A value's name is enough: runtimes infer its type and shape.
 *
 * @param names Values of the graph that are not outputs yet.
 */
export function appendOutputs(bytes: Uint8Array, names: readonly string[]): Uint8Array {
  const fragment = ModelProto.encode({ graph: { output: names.map((name) => ({ name })) } }).finish();
  return concatenate([bytes, fragment]);
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

function notOnnx(subject: string, found: string): InputError {
  return refusal(subject, found, "an ONNX model", "check that the file is a complete .onnx file");
}

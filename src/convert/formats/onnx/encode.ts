import { bytesOf } from "../../../core/bytes.js";
import type { Tensor } from "../../../core/tensor.js";
import { encodeGraph } from "./graphs.js";
import type { IGraphProto, IModelProto, ITensorProto } from "./messages.js";
import { dtypeToCode, type OnnxGraph, type OnnxModel } from "./model.js";
import { encodeTensor } from "./tensors.js";
import { serializeModel } from "./wire.js";

/** The bytes of an ONNX file. The same model always gives the same bytes; tensors are copied once. */
export function encodeOnnx(model: OnnxModel): Uint8Array {
  return serializeModel(modelProto(model, encodeGraph(model.graph)), expectedSize(model.graph));
}

/** An ONNX file and the file beside it with its large tensors. */
export interface OnnxFiles {
  /** The model; its external tensors refer to the other file by name. */
  readonly bytes: Uint8Array;
  /** The weights beside it, one tensor after another, each at an offset stated in the model. */
  readonly data: Uint8Array;
}

/**
 * As `encodeOnnx`, with the weights in a file beside the model's.
 *
 * @param location the name of that file in the model's folder
 */
export function encodeOnnxFiles(model: OnnxModel, location: string): OnnxFiles {
  const { bytes: data, encodeTensor } = layOutSidecar(model.graph.initializers, location);
  const proto = modelProto(model, encodeGraph(model.graph, encodeTensor));
  return { bytes: serializeModel(proto, Math.max(8192, expectedSize(model.graph) - data.length)), data };
}

function modelProto(model: OnnxModel, graph: IGraphProto): IModelProto {
  const { name, version } = model.producer;
  const opsets = [["", model.opset] as const, ...model.customOpsets];
  return {
    irVersion: model.irVersion,
    ...(name ? { producerName: name } : {}),
    ...(version ? { producerVersion: version } : {}),
    graph,
    opsetImport: opsets.map(([domain, version]) => ({ domain, version })),
    metadataProps: Array.from(model.metadata, ([key, value]) => ({ key, value })),
  };
}

/** More than an OSNet's file needs, so that its buffer never grows: nodes take 250 bytes each, names included. */
function expectedSize({ initializers, nodes }: OnnxGraph): number {
  const weights = [...initializers.values()].reduce((size, { data }) => size + data.byteLength, 0);
  return weights + 512 * (nodes.length + initializers.size) + 8192;
}

/**
 * The same file with more of its values as graph outputs: the serialized fragment `{ graph: { output: … } }` is
 * appended, which readers merge into the model. Nothing is re-encoded, so unknown fields survive. A value's name is
 * enough: onnxruntime infers its type and shape.
 *
 * @param names Values of the graph that are not outputs yet.
 */
export function appendOutputs(bytes: Uint8Array, names: readonly string[]): Uint8Array {
  const fragment = serializeModel({ graph: { output: names.map((name) => ({ name })) } }, 64 * names.length);
  const tapped = new Uint8Array(bytes.length + fragment.length);
  tapped.set(bytes);
  tapped.set(fragment, bytes.length);
  return tapped;
}

/**
 * Writing external data (tensors.ts reads it): the elements of large tensors are consecutive in one file, in the order
 * of the initializers. onnx.proto3: "Offset values SHOULD be multiples 4096 (page size) to enable mmap support."
 */

/** A page of memory. */
const ALIGNMENT = 4096;

/** Smaller tensors stay in the model, as in onnx.save_model: runtimes read shapes and axes while they load it. */
const MIN_BYTES = 1024;

/** A file beside a model, and how the model refers to its tensors. */
interface Sidecar {
  readonly bytes: Uint8Array;
  readonly encodeTensor: (name: string, tensor: Tensor) => ITensorProto;
}

/**
 * Lays out the large ones of some tensors in a separate file.
 *
 * @param location the file's path, relative to the model's folder
 */
function layOutSidecar(initializers: ReadonlyMap<string, Tensor>, location: string): Sidecar {
  const offsets = new Map<string, number>();
  let end = 0;
  for (const [name, { data }] of initializers) {
    if (data.byteLength < MIN_BYTES) continue;
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    offsets.set(name, offset);
    end = offset + data.byteLength;
  }
  const bytes = new Uint8Array(end);
  for (const [name, offset] of offsets) bytes.set(rawBytes(initializers.get(name)), offset);
  return {
    bytes,
    encodeTensor(name, tensor) {
      const offset = offsets.get(name);
      if (offset === undefined) return encodeTensor(name, tensor);
      const entries = { location, offset: String(offset), length: String(tensor.data.byteLength) };
      return {
        dims: [...tensor.shape],
        dataType: dtypeToCode(tensor.dtype),
        name,
        externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
        dataLocation: 1,
      };
    },
  };
}

function rawBytes(tensor: Tensor | undefined): Uint8Array {
  const data = tensor?.data;
  return data ? bytesOf(data) : new Uint8Array();
}

import { encodeGraph } from "./graphs.js";
import type { OnnxGraph, OnnxModel } from "./model.js";
import type { IGraphProto, IModelProto } from "./proto.js";
import { serializeModel } from "./schema.js";
import { layOutSidecar } from "./sidecar.js";

/** The bytes of an ONNX file. The same model always gives the same bytes; tensors are copied once. */
export function encodeOnnx(model: OnnxModel): Uint8Array {
  return serializeModel(modelProto(model, encodeGraph(model.graph)), expectedSize(model.graph));
}

/** An ONNX file and the one beside it that holds its large tensors. */
export interface OnnxFiles {
  /** The model; its external tensors refer to the other file by name. */
  readonly bytes: Uint8Array;
  /** The weights beside it, one tensor after another, each at an offset that the model states. */
  readonly data: Uint8Array;
}

/**
 * As `encodeOnnx`, with the weights in a file beside the model's.
 *
 * @param location the name under which that file will lie in the model's folder
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

/** More than an OSNet's file takes, so that its buffer never grows: its nodes take 250 bytes each, names included. */
function expectedSize({ initializers, nodes }: OnnxGraph): number {
  const weights = [...initializers.values()].reduce((size, { data }) => size + data.byteLength, 0);
  return weights + 512 * (nodes.length + initializers.size) + 8192;
}

/**
 * The same file with more of its values as graph outputs: the serialized fragment `{ graph: { output: … } }` is
 * appended, which readers merge into the model. Nothing is decoded or encoded again, so that fields unknown to us
 * survive. A value's name is enough: onnxruntime infers its type and shape.
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

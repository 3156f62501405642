import type { Tensor } from "../../../tensor.js";
import { decodeAttribute, encodeAttribute, type GraphCodec } from "./attributes.js";
import { codeToDType, dtypeToCode } from "./dtypes.js";
import type { OnnxSource } from "./external.js";
import {
  type IGraphProto,
  type INodeProto,
  type ITensorProto,
  type IValueInfoProto,
  int64ToNumber,
} from "./messages.js";
import type { OnnxDimension, OnnxGraph, OnnxNode, OnnxValue } from "./model.js";
import { refusal } from "./refusal.js";
import { decodeTensor, encodeTensor } from "./tensors.js";

/** GraphProto, NodeProto and ValueInfoProto. */

const GRAPHS: GraphCodec = { encode: (graph) => encodeGraph(graph), decode: decodeGraph };

/** A graph as a GraphProto; tensors are viewed, not copied. `encodeInitializer` may put them into another file. */
export function encodeGraph(
  graph: OnnxGraph,
  encodeInitializer: typeof encodeTensor = encodeTensor,
): IGraphProto {
  return {
    node: graph.nodes.map(encodeNode),
    name: graph.name,
    initializer: Array.from(graph.initializers, ([name, tensor]) => encodeInitializer(name, tensor)),
    input: graph.inputs.map(encodeValue),
    output: graph.outputs.map(encodeValue),
  };
}

/** The graph of a GraphProto. Throws as `decodeOnnx`. */
export function decodeGraph(proto: IGraphProto, file: OnnxSource): OnnxGraph {
  if (proto.sparseInitializer?.length)
    throw refusal(
      file.subject,
      "sparse weights",
      "dense ones",
      "export the model without sparsity",
      "unsupported",
    );
  return {
    name: proto.name ?? "",
    inputs: (proto.input ?? []).map(decodeValue),
    outputs: (proto.output ?? []).map(decodeValue),
    nodes: (proto.node ?? []).map((node) => decodeNode(node, file)),
    initializers: decodeInitializers(proto.initializer ?? [], file),
  };
}

function decodeInitializers(protos: readonly ITensorProto[], file: OnnxSource): ReadonlyMap<string, Tensor> {
  const initializers = new Map<string, Tensor>();
  for (const proto of protos) {
    const name = proto.name ?? "";
    if (initializers.has(name))
      throw refusal(
        `tensor ${JSON.stringify(name)} of ${file.subject}`,
        "two tensors of that name",
        "one",
        "export the model again",
      );
    initializers.set(name, decodeTensor(proto, file));
  }
  return initializers;
}

function encodeNode({ name, opType, domain, inputs, outputs, attributes }: OnnxNode): INodeProto {
  return {
    input: [...inputs],
    output: [...outputs],
    name,
    opType,
    ...(domain ? { domain } : {}),
    attribute: Array.from(attributes, ([key, attribute]) => encodeAttribute(key, attribute, GRAPHS)),
  };
}

function decodeNode(proto: INodeProto, file: OnnxSource): OnnxNode {
  return {
    name: proto.name ?? "",
    opType: proto.opType ?? "",
    domain: standardDomain(proto.domain ?? ""),
    inputs: proto.input ?? [],
    outputs: proto.output ?? [],
    attributes: new Map(
      (proto.attribute ?? []).map((attribute) => [
        attribute.name ?? "",
        decodeAttribute(attribute, GRAPHS, file),
      ]),
    ),
  };
}

/** `ai.onnx` is the long form of the empty domain. */
export function standardDomain(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

/** A value's ValueInfoProto. A fixed size is dim_value, a named one dim_param, an unknown one neither. */
function encodeValue({ name, dtype, shape }: OnnxValue): IValueInfoProto {
  if (!dtype) return { name };
  const dim = shape?.map((size) =>
    size === null ? {} : typeof size === "number" ? { dimValue: size } : { dimParam: size },
  );
  return { name, type: { tensorType: { elemType: dtypeToCode(dtype), ...(dim ? { shape: { dim } } : {}) } } };
}

function decodeValue(proto: IValueInfoProto): OnnxValue {
  const tensorType = proto.type?.tensorType;
  const dtype = codeToDType(tensorType?.elemType ?? 0);
  const shape = tensorType?.shape?.dim?.map((dimension): OnnxDimension => {
    if (dimension.dimParam) return dimension.dimParam;
    const { dimValue } = dimension;
    // Exporters write 0 or −1 for a size that they do not know.
    const size = int64ToNumber(dimValue);
    return size > 0 ? size : null;
  });
  return { name: proto.name ?? "", ...(dtype ? { dtype } : {}), ...(shape ? { shape } : {}) };
}

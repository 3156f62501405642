import { int64ToNumber, refusal } from "./limits.js";
import type { IAttributeProto, IGraphProto, INodeProto, IValueInfoProto } from "./messages.js";
import {
  codeToDType,
  dtypeToCode,
  inOrder,
  type OnnxAttribute,
  type OnnxAttributeType,
  type OnnxAttributeValues,
  type OnnxDimension,
  type OnnxGraph,
  type OnnxNode,
  type OnnxValue,
} from "./model.js";
import { decodeTensor, encodeTensor, type OnnxSource } from "./tensors.js";

/** AttributeProto: a name, a type code and the one field that the type selects. */

/** How graphs inside attributes (`If`, `Loop`) are converted: the codec of whole graphs, passed in by it. */
interface GraphCodec {
  readonly encode: (graph: OnnxGraph) => IGraphProto;
  readonly decode: (proto: IGraphProto, file: OnnxSource) => OnnxGraph;
}

interface AttributeCodec<T extends OnnxAttributeType> {
  /** AttributeProto.AttributeType. */
  readonly code: number;
  readonly encode: (value: OnnxAttributeValues[T], graphs: GraphCodec) => IAttributeProto;
  readonly decode: (proto: IAttributeProto, graphs: GraphCodec, file: OnnxSource) => OnnxAttributeValues[T];
}

const text = {
  encode: (value: string) => new TextEncoder().encode(value),
  decode: (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes),
};

const CODECS: { readonly [T in OnnxAttributeType]: AttributeCodec<T> } = {
  float: { code: 1, encode: (f) => ({ f }), decode: ({ f }) => f ?? 0 },
  int: { code: 2, encode: (i) => ({ i }), decode: ({ i }) => int64ToNumber(i) },
  string: {
    code: 3,
    encode: (value) => ({ s: text.encode(value) }),
    decode: ({ s }) => text.decode(s ?? new Uint8Array()),
  },
  tensor: {
    code: 4,
    encode: (value) => ({ t: encodeTensor("", value) }),
    decode: ({ t, name }, _graphs, file) => decodeTensor({ ...t, name: t?.name || (name ?? "") }, file),
  },
  graph: {
    code: 5,
    encode: (value, graphs) => ({ g: graphs.encode(value) }),
    decode: ({ g }, graphs, file) => graphs.decode(g ?? {}, file),
  },
  floats: { code: 6, encode: (floats) => ({ floats: [...floats] }), decode: ({ floats }) => floats ?? [] },
  ints: {
    code: 7,
    encode: (ints) => ({ ints: [...ints] }),
    decode: ({ ints }) => (ints ?? []).map(int64ToNumber),
  },
  strings: {
    code: 8,
    encode: (values) => ({ strings: values.map(text.encode) }),
    decode: ({ strings }) => (strings ?? []).map(text.decode),
  },
};

const TYPE_BY_CODE: ReadonlyMap<number, OnnxAttributeType> = new Map(
  (Object.keys(CODECS) as OnnxAttributeType[]).map((type) => [CODECS[type].code, type]),
);

/** An attribute as an AttributeProto. */
function encodeAttribute(name: string, attribute: OnnxAttribute, graphs: GraphCodec): IAttributeProto {
  // One lookup over a union of attributes: the table's type pairs each type with its own codec.
  const codec = CODECS[attribute.type] as AttributeCodec<OnnxAttributeType>;
  return { name, type: codec.code, ...codec.encode(attribute.value, graphs) };
}

/**
 * The attribute of an AttributeProto.
 *
 * @throws InputError (`unsupported`) if its type does not occur in an OSNet: sparse tensors, types, lists of tensors or
 * graphs, or a reference from inside a function.
 */
function decodeAttribute(proto: IAttributeProto, graphs: GraphCodec, file: OnnxSource): OnnxAttribute {
  const type = TYPE_BY_CODE.get(proto.type ?? 0);
  if (!type)
    throw refusal(
      `attribute ${JSON.stringify(proto.name ?? "")} of ${file.subject}`,
      `attribute type ${proto.type ?? 0}`,
      "numbers, strings, a tensor or a graph",
      "export the model with standard operators",
      "unsupported",
    );
  return { type, value: CODECS[type].decode(proto, graphs, file) } as OnnxAttribute;
}

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
    nodes: sorted(proto.node ?? [], file.subject).map((node) => decodeNode(node, file)),
    initializers: new Map(
      (proto.initializer ?? []).map((tensor) => [tensor.name ?? "", decodeTensor(tensor, file)]),
    ),
  };
}

/** Nodes in topological order, in which runtimes run them: files may have them in any order. */
function sorted(nodes: readonly INodeProto[], subject: string): readonly INodeProto[] {
  const sources = new Map<string, string>();
  const keyOf = ({ output }: INodeProto, index: number): string =>
    output?.find((name) => name !== "") ?? `node ${index}`;
  const places = new Map(nodes.map((node, index) => [keyOf(node, index), index]));
  for (const [index, node] of nodes.entries())
    for (const name of node.output ?? []) if (name !== "") sources.set(name, keyOf(node, index));
  const before = (node: INodeProto): readonly string[] =>
    namesRead(node).flatMap((name) => sources.get(name) ?? []);
  const isSorted = nodes.every((node, index) =>
    before(node).every((source) => (places.get(source) ?? 0) < index),
  );
  if (isSorted) return nodes;
  return inOrder(new Map(nodes.map((node, index) => [keyOf(node, index), node])), before, subject);
}

/** The inputs of a node, including what the graphs in its attributes read from the enclosing graph. */
function namesRead({ input, attribute }: INodeProto): readonly string[] {
  const inside = (attribute ?? []).flatMap(({ g }) => [
    ...(g?.node ?? []).flatMap(namesRead),
    ...(g?.output ?? []).map(({ name }) => name ?? ""),
  ]);
  return inside.length > 0 ? [...(input ?? []), ...inside] : (input ?? []);
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
    // Exporters write 0 or −1 for an unknown size.
    const size = int64ToNumber(dimValue);
    return size > 0 ? size : null;
  });
  return { name: proto.name ?? "", ...(dtype ? { dtype } : {}), ...(shape ? { shape } : {}) };
}

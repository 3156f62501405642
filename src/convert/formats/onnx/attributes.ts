import type { OnnxSource } from "./external.js";
import { type IAttributeProto, type IGraphProto, int64ToNumber } from "./messages.js";
import type { OnnxAttribute, OnnxAttributeType, OnnxAttributeValues, OnnxGraph } from "./model.js";
import { refusal } from "./refusal.js";
import { decodeTensor, encodeTensor } from "./tensors.js";

/** AttributeProto: a name, a type code and the one field that the type selects. */

/** How graphs inside attributes (`If`, `Loop`) are converted: the codec of whole graphs, passed in by it. */
export interface GraphCodec {
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
  decode: (bytes: Uint8Array) => new TextDecoder().decode(bytes),
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
export function encodeAttribute(name: string, attribute: OnnxAttribute, graphs: GraphCodec): IAttributeProto {
  // One lookup over a union of attributes: the table's type pairs each type with its own codec.
  const codec = CODECS[attribute.type] as AttributeCodec<OnnxAttributeType>;
  return { name, type: codec.code, ...codec.encode(attribute.value, graphs) };
}

/**
 * The attribute of an AttributeProto.
 *
 * @throws InputError (`unsupported`) if it is of a type that no operator of an OSNet has: sparse tensors, types, lists
 * of tensors or graphs, or a reference from inside a function.
 */
export function decodeAttribute(proto: IAttributeProto, graphs: GraphCodec, file: OnnxSource): OnnxAttribute {
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

/**
 * The messages of onnx.proto3 (IR version 13), field by field: how each is encoded and whether it may occur twice. Readers
 * disagree about a field that is encoded in another way (protobuf's own skips it, protobufjs reads what follows as its
 * length), and about a message that occurs twice where one is allowed (merged, or the last one taken): limits.ts refuses both.
 */

/** Wire types of the protobuf encoding. */
const VARINT = 0;
const FIXED64 = 1;
export const DELIMITED = 2;
const FIXED32 = 5;

/** How many bytes of the file a packed number takes (0: a varint), and how many of memory. */
interface Packed {
  readonly size: 0 | 4 | 8;
  readonly memory: number;
}

export interface MessageField {
  readonly wireType: typeof VARINT | typeof FIXED64 | typeof DELIMITED | typeof FIXED32;
  /** Lists; and `ModelProto.graph`, which every reader of ours merges as protobuf does. */
  readonly repeated?: true;
  /** Bytes that must be UTF-8. */
  readonly isText?: true;
  readonly nested?: () => Message;
  /** Lists of numbers, which may be packed into one payload. */
  readonly packed?: Packed;
  /** What onnx-proto, which is older, does not know: refused unless it is empty. */
  readonly unread?: string;
}

export type Message = Readonly<Record<number, MessageField>>;

const int: MessageField = { wireType: VARINT };
const real: MessageField = { wireType: FIXED32 };
const text: MessageField = { wireType: DELIMITED, isText: true };
const texts: MessageField = { ...text, repeated: true };
const bytes: MessageField = { wireType: DELIMITED };
const byteStrings: MessageField = { ...bytes, repeated: true };
const one = (nested: () => Message): MessageField => ({ wireType: DELIMITED, nested });
const many = (nested: () => Message): MessageField => ({ wireType: DELIMITED, nested, repeated: true });
const numbers = (wireType: MessageField["wireType"], packed: Packed): MessageField => ({
  wireType,
  packed,
  repeated: true,
});

const floats = numbers(FIXED32, { size: 4, memory: 8 });
const doubles = numbers(FIXED64, { size: 8, memory: 8 });
const int32s = numbers(VARINT, { size: 0, memory: 8 });
/** protobufjs makes objects of two halves where the package `long` is installed. */
const int64s = numbers(VARINT, { size: 0, memory: 40 });

const ENTRY: Message = { 1: text, 2: text };
const entries = many(() => ENTRY);
const OPAQUE: Message = {};
const DIMENSION: Message = { 1: int, 2: text, 3: text };
const SHAPE: Message = { 1: many(() => DIMENSION) };
const TENSOR_TYPE: Message = { 1: int, 2: one(() => SHAPE) };
const ELEMENT_TYPE: Message = { 1: one(() => TYPE) };
const MAP_TYPE: Message = { 1: int, 2: one(() => TYPE) };
const TYPE: Message = {
  1: one(() => TENSOR_TYPE),
  4: one(() => ELEMENT_TYPE),
  5: one(() => MAP_TYPE),
  6: text,
  7: one(() => OPAQUE),
  8: one(() => TENSOR_TYPE),
  9: one(() => ELEMENT_TYPE),
};
const VALUE: Message = { 1: text, 2: one(() => TYPE), 3: text, 4: entries };
const SEGMENT: Message = { 1: int, 2: int };
const TENSOR: Message = {
  1: int64s,
  2: int,
  3: one(() => SEGMENT),
  4: floats,
  5: int32s,
  6: byteStrings,
  7: int64s,
  8: text,
  9: bytes,
  10: doubles,
  11: int64s,
  12: text,
  13: entries,
  14: int,
  16: entries,
};
const SPARSE: Message = { 1: one(() => TENSOR), 2: one(() => TENSOR), 3: int64s };
const ATTRIBUTE: Message = {
  1: text,
  2: real,
  3: int,
  4: bytes,
  5: one(() => TENSOR),
  6: one(() => GRAPH),
  7: floats,
  8: int64s,
  9: byteStrings,
  10: many(() => TENSOR),
  11: many(() => GRAPH),
  13: text,
  14: one(() => TYPE),
  15: many(() => TYPE),
  20: int,
  21: text,
  22: one(() => SPARSE),
  23: many(() => SPARSE),
};
const NODE: Message = {
  1: texts,
  2: texts,
  3: text,
  4: text,
  5: many(() => ATTRIBUTE),
  6: text,
  7: text,
  8: { ...text, unread: "a call of one of several functions of a name (overload)" },
  9: entries,
  10: many(() => OPAQUE),
};
const ANNOTATION: Message = { 1: text, 2: entries };
const GRAPH: Message = {
  1: many(() => NODE),
  2: text,
  5: many(() => TENSOR),
  10: text,
  11: many(() => VALUE),
  12: many(() => VALUE),
  13: many(() => VALUE),
  14: many(() => ANNOTATION),
  15: many(() => SPARSE),
  16: entries,
};
const TRAINING: Message = { 1: one(() => GRAPH), 2: one(() => GRAPH), 3: entries, 4: entries };
const OPSET: Message = { 1: text, 2: int };
const opsets = many(() => OPSET);
const FUNCTION: Message = {
  1: text,
  2: int,
  3: int,
  4: texts,
  5: texts,
  6: texts,
  7: many(() => NODE),
  8: text,
  9: opsets,
  10: text,
  11: many(() => ATTRIBUTE),
  12: many(() => VALUE),
  13: { ...text, unread: "one of several functions of a name (overload)" },
  14: entries,
};

export const MODEL: Message = {
  1: int,
  2: text,
  3: text,
  4: text,
  5: int,
  6: text,
  7: many(() => GRAPH),
  8: opsets,
  14: entries,
  20: many(() => TRAINING),
  25: many(() => FUNCTION),
  26: many(() => OPAQUE),
};

import { InputError, type InputErrorCode } from "../../../core/errors.js";
import type { Int64 } from "./proto.js";
import { fieldsOf, type WireField } from "./wire.js";

/** An ONNX file that cannot be used: `subject` is the file, or the tensor or node in it. */
export function refusal(
  subject: string,
  found: string,
  expected: string,
  remedy: string,
  code: InputErrorCode = "format",
): InputError {
  return new InputError({ code, subject, found, expected, remedy });
}

/** An int64 as a number, held within ±(2⁵³ − 1), beyond which numbers are not exact. */
export function int64ToNumber(value: Int64 | null | undefined): number {
  if (typeof value === "number") return value;
  if (!value) return 0;
  const number = value.high * 2 ** 32 + (value.low >>> 0);
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, number));
}

/** An int64, exactly. */
export function int64ToBigInt(value: Int64): bigint {
  return typeof value === "number" ? BigInt(value) : (BigInt(value.high) << 32n) | BigInt(value.low >>> 0);
}

/**
 * What a model's messages will take in memory, known before any is made: an empty node is two bytes of file and 400 of
 * memory, and graphs inside graphs cost stack. Walks over the bytes once, without recursion, and reads no weights.
 */

/** Upper estimates for protobufjs in V8 with 64-bit pointers: a message with its empty lists, one field of it. */
const MESSAGE_BYTES = 400;
const FIELD_BYTES = 64;

/**
 * As for checkpoints (`createBudget`); from PyTorch's exporters osnet_x1_0 has 3 MB of messages, but 21 MB from the dynamo
 * exporter of torch 2.1, which writes a function for each call of a module, whatever the width: osnet_x0_25 too.
 */
const FILE_MULTIPLE = 4;
const FLOOR_BYTES = 32 << 20;

/** An OSNet has no control flow; exporters' own, such as `If` inside `Loop`, are a few levels of three messages each. */
const MAX_DEPTH = 64;

/**
 * Refuses a model whose messages would take more than four times its file, or nest too deep, or that two readers of
 * protobuf may read in two ways (`MODEL`).
 *
 * @throws InputError (`unsupported`, `format`); RangeError if a message ends inside a field
 */
export function checkMessages(bytes: Uint8Array, subject: string): void {
  const limit = Math.max(FLOOR_BYTES, FILE_MULTIPLE * bytes.length);
  let total = 0;
  const pending = [{ message: MODEL, payload: bytes, depth: 1 }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { message, payload, depth } = next;
    if (depth > MAX_DEPTH)
      throw refusal(
        subject,
        `messages nested to a depth of ${depth}`,
        `at most ${MAX_DEPTH}`,
        "export the model without nested control flow",
        "unsupported",
      );
    total += MESSAGE_BYTES;
    const seen = new Set<number>();
    for (const field of fieldsOf(payload)) {
      total += FIELD_BYTES;
      const known = message[field.number];
      if (known) {
        expectReadable(field, known, seen, subject);
        if (known.packed && field.wireType === DELIMITED)
          total += known.packed.memory * countNumbers(field.payload, known.packed.size);
      }
      if (total > limit)
        throw refusal(
          subject,
          `messages that take the memory needed to ${total} bytes`,
          `at most ${limit} bytes for a file of ${bytes.length}`,
          "export the model again with its weights as raw data",
          "unsupported",
        );
      const inner = known?.nested?.();
      if (inner !== undefined && field.payload.length > 0)
        pending.push({ message: inner, payload: field.payload, depth: depth + 1 });
      else if (inner !== undefined) total += MESSAGE_BYTES;
    }
  }
}

/** A field that every reader takes alike: encoded as its type is, once where the message has room for one, text in UTF-8. */
function expectReadable(field: WireField, known: MessageField, seen: Set<number>, subject: string): void {
  const { number, wireType, payload } = field;
  const isPacked = known.packed !== undefined && wireType === DELIMITED;
  if (wireType !== known.wireType && !isPacked)
    throw unreadable(subject, `field ${number} encoded with wire type ${wireType}`, `${known.wireType}`);
  if (!known.repeated && seen.has(number))
    throw unreadable(subject, `field ${number} twice in one message`, "it once");
  seen.add(number);
  if (known.isText && !isUtf8(payload))
    throw unreadable(subject, `field ${number} with bytes that are not UTF-8`, "text");
  if (known.unread && payload.length > 0)
    throw refusal(
      subject,
      known.unread,
      "one function per name",
      "inline them first (onnx.inliner.inline_local_functions)",
      "unsupported",
    );
}

function unreadable(subject: string, found: string, expected: string): InputError {
  return refusal(subject, `${found}, which protobuf readers interpret differently`, expected, AGAIN);
}

const AGAIN = "save the model again with the onnx package";

const UTF8 = new TextDecoder("utf-8", { fatal: true });

function isUtf8(bytes: Uint8Array): boolean {
  // Names are ASCII as a rule.
  if (bytes.every((byte) => byte < 0x80)) return true;
  try {
    UTF8.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** How many numbers are packed into a payload. */
function countNumbers(payload: Uint8Array, size: number): number {
  if (size > 0) return payload.length / size;
  let count = 0;
  for (const byte of payload) if (byte < 0x80) count++;
  return count;
}

/**
 * The messages of onnx.proto3 (IR version 13), field by field: how each is encoded and whether it may occur twice. Readers
 * disagree about a field that is encoded in another way (protobuf's own skips it, protobufjs reads what follows as its
 * length), and about a message that occurs twice where one is allowed (merged, or the last one taken): `checkMessages` refuses both.
 */

/** Wire types of the protobuf encoding. */
const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

/** How many bytes of the file a packed number takes (0: a varint), and how many of memory. */
interface Packed {
  readonly size: 0 | 4 | 8;
  readonly memory: number;
}

interface MessageField {
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

type Message = Readonly<Record<number, MessageField>>;

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
  8: { ...text, unread: "a call of an overloaded function" },
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
  13: { ...text, unread: "an overloaded function" },
  14: entries,
};

const MODEL: Message = {
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

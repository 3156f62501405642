import { InputError, type InputErrorCode } from "../../../core/errors.js";
import { type Field, type Int64, type Message, MODEL, type NumberType } from "./messages.js";
import { fieldsOf, isNumber, varintsOf, WIRE, type WireField, wireTypeOf } from "./wire.js";

/** An unusable ONNX file: `subject` is the file, or the tensor or node in it. */
export function refusal(
  subject: string,
  found: string,
  expected: string,
  remedy: string,
  code: InputErrorCode = "format",
): InputError {
  return new InputError({ code, subject, found, expected, remedy });
}

/** An int64 as a number, clamped to ±(2⁵³ − 1), beyond which numbers are not exact. */
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
 * The memory that a model's messages will take, known before any is made: an empty node is two bytes of file and 400 of
 * memory, and nested graphs cost stack. Walks over the bytes once, without recursion, and reads no weights.
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
 * Refuses a model whose messages would take more than four times its file, nest too deep, or are ambiguous in protobuf
 * (`MODEL`).
 *
 * @throws InputError (`unsupported`, `format`); RangeError if a message ends inside a field
 */
export function checkMessages(bytes: Uint8Array, subject: string): void {
  const limit = Math.max(FLOOR_BYTES, FILE_MULTIPLE * bytes.length);
  let total = 0;
  const pending: {
    readonly message: Message<object>;
    readonly payload: Uint8Array;
    readonly depth: number;
  }[] = [{ message: MODEL, payload: bytes, depth: 1 }];
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
      const known = message.byNumber.get(field.number);
      if (!field.isShortest)
        throw unreadable(subject, `field ${field.number} with a malformed number`, SHORTEST);
      if (known) {
        expectReadable(field, known, seen, subject);
        if (isNumber(known.type)) total += memoryOfPacked(known.type, field);
      }
      if (total > limit)
        throw refusal(
          subject,
          `messages that take ${total} bytes`,
          `at most ${limit} bytes for a file of ${bytes.length}`,
          "export the model again with its weights as raw data",
          "unsupported",
        );
      const inner = typeof known?.type === "function" ? known.type() : undefined;
      if (inner !== undefined && field.payload.length > 0)
        pending.push({ message: inner, payload: field.payload, depth: depth + 1 });
      else if (inner !== undefined) total += MESSAGE_BYTES;
    }
  }
}

/**
 * A field that every reader interprets alike: encoded according to its type, not repeated if it is singular, text in
 * UTF-8.
 */
function expectReadable(field: WireField, known: Field, seen: Set<number>, subject: string): void {
  const { number, wireType, payload } = field;
  const expected = wireTypeOf(known.type);
  const isPacked = known.isRepeated && isNumber(known.type) && wireType === WIRE.lengthDelimited;
  if (wireType !== expected && !isPacked)
    throw unreadable(subject, `field ${number} encoded with wire type ${wireType}`, `${expected}`);
  if (!known.isRepeated && seen.has(number))
    throw unreadable(subject, `field ${number} twice in one message`, "it once");
  if (known.isChoice && seen.has(CHOICE))
    throw unreadable(subject, `field ${number} beside another field of the same oneof`, "one of them");
  seen.add(number);
  if (known.isChoice) seen.add(CHOICE);
  if (isNumber(known.type) && !isReadableNumber(known.type, field))
    throw unreadable(subject, `field ${number} with a malformed number`, SHORTEST);
  if (known.type === "string" && !isUtf8(payload))
    throw unreadable(subject, `field ${number} with bytes that are not UTF-8`, "text");
  if (known.refusedAs && payload.length > 0)
    throw refusal(
      subject,
      known.refusedAs,
      "one function per name",
      "inline them first (onnx.inliner.inline_local_functions)",
      "unsupported",
    );
}

const SHORTEST = "numbers in the shortest encoding";

/**
 * Whether all readers take the same bytes for a number, or a packed list of them. protobufjs reads 5 or 10 bytes for an
 * int32 of more than 4, and beyond the end of a list whose last number is cut.
 */
function isReadableNumber(type: NumberType, { wireType, payload, value }: WireField): boolean {
  if (type === "float" || type === "double") return payload.length % (type === "float" ? 4 : 8) === 0;
  const isReadable = (value: number): boolean =>
    type !== "int32" || value < 2 ** 31 || value >= 2 ** 64 - 2 ** 31;
  if (wireType !== WIRE.lengthDelimited) return value !== undefined && isReadable(value);
  const isCut = (payload.at(-1) ?? 0) >= 0x80;
  if (isCut) return false;
  for (const one of varintsOf(payload)) if (!one.isShortest || !isReadable(one.value)) return false;
  return true;
}

/** Stands for whichever field of a `oneof` was there. No field has this number. */
const CHOICE = 0;

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

/**
 * The memory of a packed list of numbers; protobufjs makes objects of two halves for int64 if the package `long` is
 * installed.
 */
function memoryOfPacked(type: NumberType, { wireType, payload }: WireField): number {
  if (wireType !== WIRE.lengthDelimited) return 0;
  if (type === "float" || type === "double") return 8 * (payload.length / (type === "float" ? 4 : 8));
  let count = 0;
  for (const byte of payload) if (byte < 0x80) count++;
  return count * (type === "int32" ? 8 : 40);
}

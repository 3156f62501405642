import type onnxProto from "onnx-proto";
import { InputError, type InputErrorCode } from "../../../core/errors.js";
import { fieldsOf } from "./wire.js";

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

/**
 * The messages of onnx.proto3 as the `onnx-proto` package types them. Types only: loading the package takes 30 ms and
 * 10 MB, a sixth of a whole conversion, and only reading needs it.
 */
export type IAttributeProto = onnxProto.onnx.IAttributeProto;
export type IFunctionProto = onnxProto.onnx.IFunctionProto;
export type IGraphProto = onnxProto.onnx.IGraphProto;
export type IModelProto = onnxProto.onnx.IModelProto;
export type INodeProto = onnxProto.onnx.INodeProto;
export type ITensorProto = onnxProto.onnx.ITensorProto;
export type IValueInfoProto = onnxProto.onnx.IValueInfoProto;

/** How protobufjs gives an int64: a number, or the two halves of one. */
export type Int64 = number | { readonly low: number; readonly high: number };

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

/** Packed numbers: how many bytes of file one takes (0: a varint), and how many of memory. */
const FLOATS = { size: 4, memory: 8 } as const;
const DOUBLES = { size: 8, memory: 8 } as const;
const INT32S = { size: 0, memory: 8 } as const;
/** protobufjs makes objects of two halves where the package `long` is installed. */
const INT64S = { size: 0, memory: 40 } as const;

type Packed = typeof FLOATS | typeof DOUBLES | typeof INT32S | typeof INT64S;

/**
 * As for checkpoints (budget.ts); from PyTorch's exporters osnet_x1_0 has 3 MB of messages, but 21 MB from the dynamo
 * exporter of torch 2.1, which writes a function for each call of a module, whatever the width: osnet_x0_25 too.
 */
const FILE_MULTIPLE = 4;
const FLOOR_BYTES = 32 << 20;

/** An OSNet has no control flow; exporters' own, such as `If` inside `Loop`, are a few levels of three messages each. */
const MAX_DEPTH = 64;

/** Which fields of a message are messages, and which are numbers that may be packed. */
interface Message {
  readonly nested: () => Readonly<Record<number, Message>>;
  readonly packed?: Readonly<Record<number, Packed>>;
}

const LEAF: Message = { nested: () => ({}) };
const SHAPE: Message = { nested: () => ({ 1: LEAF }) };
const TENSOR_TYPE: Message = { nested: () => ({ 2: SHAPE }) };
/** A sequence, map or optional: of a type. */
const TYPE_OF: Message = { nested: () => ({ 1: TYPE, 2: TYPE }) };
const TYPE: Message = {
  nested: () => ({ 1: TENSOR_TYPE, 4: TYPE_OF, 5: TYPE_OF, 8: TENSOR_TYPE, 9: TYPE_OF }),
};
const VALUE: Message = { nested: () => ({ 2: TYPE, 4: LEAF }) };
const TENSOR: Message = {
  nested: () => ({ 3: LEAF, 13: LEAF, 16: LEAF }),
  packed: { 1: INT64S, 4: FLOATS, 5: INT32S, 7: INT64S, 10: DOUBLES, 11: INT64S },
};
const SPARSE: Message = { nested: () => ({ 1: TENSOR, 2: TENSOR }), packed: { 3: INT64S } };
const ATTRIBUTE: Message = {
  nested: () => ({
    5: TENSOR,
    6: GRAPH,
    10: TENSOR,
    11: GRAPH,
    14: TYPE,
    15: TYPE,
    22: SPARSE,
    23: SPARSE,
  }),
  packed: { 7: FLOATS, 8: INT64S },
};
const NODE: Message = { nested: () => ({ 5: ATTRIBUTE, 9: LEAF }) };
const GRAPH: Message = {
  nested: () => ({
    1: NODE,
    5: TENSOR,
    11: VALUE,
    12: VALUE,
    13: VALUE,
    14: QUANTIZED,
    15: SPARSE,
    16: LEAF,
  }),
};
const QUANTIZED: Message = { nested: () => ({ 2: LEAF }) };
const TRAINING: Message = { nested: () => ({ 1: GRAPH, 2: GRAPH, 3: LEAF, 4: LEAF }) };
const FUNCTION: Message = { nested: () => ({ 7: NODE, 9: LEAF, 11: ATTRIBUTE, 12: VALUE, 14: LEAF }) };
const MODEL: Message = { nested: () => ({ 7: GRAPH, 8: LEAF, 14: LEAF, 20: TRAINING, 25: FUNCTION }) };

/**
 * Refuses a model whose messages would take more than four times its file, or nest too deep.
 *
 * @throws InputError (`unsupported`); RangeError if a message ends inside a field
 */
export function checkLimits(bytes: Uint8Array, subject: string): void {
  const limit = Math.max(FLOOR_BYTES, FILE_MULTIPLE * bytes.length);
  let total = 0;
  const pending = [{ message: MODEL, payload: bytes, depth: 1 }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { message, payload, depth } = next;
    if (depth > MAX_DEPTH)
      throw refusal(
        subject,
        `messages inside each other to a depth of ${depth}`,
        `at most ${MAX_DEPTH}`,
        "export the model without nested control flow",
        "unsupported",
      );
    total += MESSAGE_BYTES;
    const nested = message.nested();
    for (const field of fieldsOf(payload)) {
      total += FIELD_BYTES;
      const packed = message.packed?.[field.number];
      if (packed !== undefined) total += packed.memory * countNumbers(field.payload, packed.size);
      if (total > limit)
        throw refusal(
          subject,
          `messages that take the memory needed to ${total} bytes`,
          `at most ${limit} bytes for a file of ${bytes.length}`,
          "export the model again, its weights as raw data",
          "unsupported",
        );
      const inner = nested[field.number];
      if (inner !== undefined && field.payload.length > 0)
        pending.push({ message: inner, payload: field.payload, depth: depth + 1 });
      else if (inner !== undefined) total += MESSAGE_BYTES;
    }
  }
}

/** How many numbers are packed into a payload. */
function countNumbers(payload: Uint8Array, size: number): number {
  if (size > 0) return payload.length / size;
  let count = 0;
  for (const byte of payload) if (byte < 0x80) count++;
  return count;
}

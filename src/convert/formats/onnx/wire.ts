import {
  type Field,
  type FieldType,
  type IModelProto,
  type Message,
  MODEL,
  type NumberType,
} from "./messages.js";

/**
 * The encoding of a ModelProto, whole or a fragment to be merged; absent fields are omitted.
 *
 * @param capacity about the size of the result, or more
 */
export function serializeModel(model: IModelProto, capacity: number): Uint8Array {
  const writer = new WireWriter(capacity);
  serialize(writer, MODEL, model);
  return writer.finish();
}

function serialize(writer: WireWriter, { backwards }: Message<object>, message: object): void {
  const values = message as Readonly<Record<string, unknown>>;
  for (const field of backwards) {
    const value = values[field.name];
    if (value === undefined) continue;
    if (isNumber(field.type)) serializeNumbers(writer, field.number, field.type, value);
    else if (!Array.isArray(value)) serializeDelimited(writer, field, value);
    else
      for (let index = value.length - 1; index >= 0; index--) serializeDelimited(writer, field, value[index]);
  }
}

/** Lists of numbers are packed, as in proto3. */
function serializeNumbers(writer: WireWriter, field: number, type: NumberType, value: unknown): void {
  if (!Array.isArray(value)) writer.number(field, type, value as number);
  else if (value.length > 0)
    writer.delimited(field, () => {
      for (let index = value.length - 1; index >= 0; index--) writer.packed(type, value[index]);
    });
}

function serializeDelimited(writer: WireWriter, { number, type }: Field, value: unknown): void {
  writer.delimited(number, () => {
    if (typeof type === "function") serialize(writer, type(), value as object);
    else if (type === "string") writer.text(value as string);
    else writer.bytes(value as Uint8Array);
  });
}

/**
 * The protobuf wire format (https://protobuf.dev/programming-guides/encoding/), as far as needed to write messages and
 * iterate over a message's fields: each field is a varint tag, number × 8 + wire type, and a payload whose length
 * follows from the wire type. A varint has 7 bits per byte, least significant first; the top bit means that more
 * follow.
 */

export const WIRE = { varint: 0, fixed64: 1, lengthDelimited: 2, fixed32: 5 } as const;

const NUMBERS: Readonly<Record<NumberType, number>> = {
  int32: WIRE.varint,
  int64: WIRE.varint,
  uint64: WIRE.varint,
  float: WIRE.fixed32,
  double: WIRE.fixed64,
};

/** Whether lists of a type may be packed. */
export function isNumber(type: FieldType): type is NumberType {
  return typeof type === "string" && type in NUMBERS;
}

/** The encoding of a field by type. */
export function wireTypeOf(type: FieldType): number {
  return isNumber(type) ? NUMBERS[type] : WIRE.lengthDelimited;
}

const UTF8 = new TextEncoder();

/**
 * Writes a message from its end to its beginning, into a buffer that grows at the front. A payload's length precedes
 * it, and is known by then, so weights are copied only once, however deep the nesting.
 */
export class WireWriter {
  private buffer: Uint8Array<ArrayBuffer>;
  /** The start of the bytes written so far. */
  private start: number;
  /** A graph writes each of its names several times: as one node's output and as the inputs of others. */
  private readonly texts = new Map<string, Uint8Array>();

  /** @param capacity the expected size, to avoid growing; unused capacity is never touched */
  constructor(capacity: number) {
    this.buffer = new Uint8Array(capacity);
    this.start = capacity;
  }

  /** The written bytes, as a view of the buffer. */
  finish(): Uint8Array {
    return this.buffer.subarray(this.start);
  }

  bytes(bytes: Uint8Array | readonly number[]): void {
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.start);
  }

  text(text: string): void {
    const bytes = this.texts.get(text) ?? UTF8.encode(text);
    this.texts.set(text, bytes);
    this.bytes(bytes);
  }

  varint(value: number): void {
    if (value < 0 || value >= 0x80) {
      this.bytes(varint(value));
      return;
    }
    this.reserve(1);
    this.buffer[this.start] = value;
  }

  /** A number without a tag, as it is in a packed list. */
  packed(type: NumberType, value: number): void {
    const wireType = NUMBERS[type];
    if (wireType === WIRE.varint) {
      this.varint(value);
      return;
    }
    const size = wireType === WIRE.fixed32 ? 4 : 8;
    this.reserve(size);
    const view = new DataView(this.buffer.buffer, this.start, size);
    if (size === 4) view.setFloat32(0, value, true);
    else view.setFloat64(0, value, true);
  }

  /** A number's own field. */
  number(field: number, type: NumberType, value: number): void {
    this.packed(type, value);
    this.varint(field * 8 + NUMBERS[type]);
  }

  /** A field whose payload, written by `write`, is length-delimited: a message, string, bytes or packed numbers. */
  delimited(field: number, write: () => void): void {
    const end = this.buffer.length - this.start;
    write();
    this.varint(this.buffer.length - this.start - end);
    this.varint(field * 8 + WIRE.lengthDelimited);
  }

  private reserve(length: number): void {
    if (length > this.start) {
      const written = this.finish();
      const grown = new Uint8Array(2 * this.buffer.length + length);
      grown.set(written, grown.length - written.length);
      this.start = grown.length - written.length;
      this.buffer = grown;
    }
    this.start -= length;
  }
}

/** An integer as a varint: negative ones in 64-bit two's complement, hence ten bytes long. */
export function varint(value: number): readonly number[] {
  const bytes: number[] = [];
  let rest = value;
  if (value < 0) {
    // Numbers are exact to 53 bits only: the first seven bits by 64-bit arithmetic leave 57, the next 50.
    let bits = BigInt.asUintN(64, BigInt(value));
    for (; bits > Number.MAX_SAFE_INTEGER; bits >>= 7n) bytes.push(Number(bits & 0x7fn) | 0x80);
    rest = Number(bits);
  }
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return bytes;
}

/** One field of a message: its payload is a view, empty for numbers. */
export interface WireField {
  readonly number: number;
  readonly wireType: number;
  readonly payload: Uint8Array;
  /** The value of a varint field, unsigned, and inexact beyond 2⁵³. */
  readonly value?: number;
  /** Whether its tag, length and value have the only encoding that no reader misreads: the shortest. */
  readonly isShortest: boolean;
  /** Its offset in the message, including the tag. */
  readonly start: number;
  readonly end: number;
}

/**
 * The fields of a message in the order of the bytes.
 *
 * @throws RangeError if the message ends inside a field or has a wire type that proto3 does not use (as it is walked)
 */
export function* fieldsOf(bytes: Uint8Array): Generator<WireField> {
  let offset = 0;
  let isShortest = true;
  const next = (): number => {
    const read = readVarint(bytes, offset);
    offset = read.end;
    isShortest &&= read.isShortest;
    return read.value;
  };
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - offset) throw new RangeError(`field of ${length} bytes at byte ${offset}`);
    offset += length;
    return bytes.subarray(offset - length, offset);
  };
  while (offset < bytes.length) {
    const start = offset;
    isShortest = true;
    const tag = next();
    const wireType = tag % 8;
    const number = (tag - wireType) / 8;
    let payload: Uint8Array = NOTHING;
    let value: number | undefined;
    if (wireType === WIRE.varint) value = next();
    else if (wireType === WIRE.fixed64) take(8);
    else if (wireType === WIRE.fixed32) take(4);
    else if (wireType === WIRE.lengthDelimited) payload = take(next());
    else throw new RangeError(`wire type ${wireType} at byte ${offset}`);
    // Tags are 32 bits: readers that use fewer bits of a longer one would read another field.
    if (number === 0 || number >= 2 ** 29) throw new RangeError(`field ${number} at byte ${offset}`);
    yield {
      number,
      wireType,
      payload,
      ...(value === undefined ? {} : { value }),
      isShortest,
      start,
      end: offset,
    };
  }
}

/** The varints of a packed list. @throws RangeError if the last one has no end */
export function* varintsOf(payload: Uint8Array): Generator<Varint> {
  for (let offset = 0; offset < payload.length; ) {
    const read = readVarint(payload, offset);
    offset = read.end;
    yield read;
  }
}

/** A number of a message. */
interface Varint {
  /** Unsigned: a length of 64 bits must fail rather than wrap around. */
  readonly value: number;
  readonly isShortest: boolean;
  readonly end: number;
}

function readVarint(bytes: Uint8Array, start: number): Varint {
  let value = 0;
  for (let end = start, scale = 1; end < bytes.length && scale < 2 ** 70; scale *= 128) {
    const byte = bytes[end++] ?? 0;
    value += (byte & 0x7f) * scale;
    // Ten bytes have room for 70 bits.
    if (byte < 0x80)
      return { value, isShortest: (byte > 0 || scale === 1) && (scale < 2 ** 63 || byte === 1), end };
  }
  throw new RangeError(`unterminated number at byte ${start}`);
}

const NOTHING = new Uint8Array(0);

/**
 * The payloads of one length-delimited field of a message, in the order of the bytes, as views.
 *
 * @throws RangeError as `fieldsOf`
 */
export function topLevelPayloads(bytes: Uint8Array, field: number): readonly Uint8Array[] {
  const payloads: Uint8Array[] = [];
  for (const { number, wireType, payload } of fieldsOf(bytes))
    if (number === field && wireType === WIRE.lengthDelimited) payloads.push(payload);
  return payloads;
}

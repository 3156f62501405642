/** Mutations of a protobuf message as a tree of fields. Source: https://protobuf.dev/programming-guides/encoding/. */

import { pickFrom, type Random } from "../random.js";
import { integer, type Mutator, mutateBytes, replaced } from "./bytes.js";

/** A field: where its tag, length and payload are, and the lengths of the messages around it. */
interface Field {
  readonly start: number;
  readonly payload: number;
  readonly end: number;
  readonly wireType: number;
  readonly parents: readonly Field[];
}

/** Depth to which payloads are taken for messages. */
const MAX_DEPTH = 12;

/** All fields of a message, nested ones after the one they are in. */
function fieldsOf(bytes: Uint8Array): readonly Field[] {
  const fields: Field[] = [];
  const walk = (start: number, end: number, parents: readonly Field[]): boolean => {
    const from = fields.length;
    let at = start;
    while (at < end) {
      const tag = varintAt(bytes, at, end);
      if (tag === undefined || tag.value < 8) break;
      const wireType = tag.value % 8;
      const length = wireType === 2 ? varintAt(bytes, tag.end, end) : undefined;
      const payload = wireType === 2 ? length?.end : tag.end;
      const sizes = [
        varintAt(bytes, tag.end, end)?.end,
        tag.end + 8,
        (length?.end ?? 0) + (length?.value ?? 0),
      ];
      const stop = wireType === 5 ? tag.end + 4 : sizes[wireType];
      if (payload === undefined || stop === undefined || stop > end || stop <= at) break;
      const field = { start: at, payload, end: stop, wireType, parents };
      fields.push(field);
      if (wireType === 2 && stop > payload && parents.length < MAX_DEPTH)
        walk(payload, stop, [...parents, field]);
      at = stop;
    }
    // Not a message after all: what looked like its fields is text or numbers.
    if (at !== end) fields.length = from;
    return at === end;
  };
  walk(0, bytes.length, []);
  return fields;
}

function varintAt(bytes: Uint8Array, start: number, end: number) {
  let value = 0;
  for (let at = start, scale = 1; at < end && at < start + 10; at++, scale *= 128) {
    const byte = bytes[at] ?? 0;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, end: at + 1 };
  }
  return undefined;
}

function varint(value: bigint): readonly number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return bytes;
}

/** Puts `by` in place of a field's bytes from `from` to `to`, and corrects the lengths of the messages around it. */
function refit(
  bytes: Uint8Array,
  field: Field,
  from: number,
  to: number,
  by: Uint8Array,
  honest: boolean,
): Uint8Array {
  let result = replaced(bytes, from, to - from, by);
  if (!honest) return result;
  let growth = by.length - (to - from);
  for (const parent of field.parents.toReversed()) {
    const tag = varintAt(bytes, parent.start, parent.end)?.end ?? parent.start;
    const length = Uint8Array.from(varint(BigInt(Math.max(0, parent.end - parent.payload + growth))));
    result = replaced(result, tag, parent.payload - tag, length);
    growth += length.length - (parent.payload - tag);
  }
  return result;
}

type Change = (bytes: Uint8Array, field: Field, random: Random) => Uint8Array;

const CHANGES: readonly [Change, ...Change[]] = [
  // Gone, repeated, moved, or another field in its place.
  () => new Uint8Array(0),
  (bytes, { start, end }) => joined(bytes.subarray(start, end), bytes.subarray(start, end)),
  (bytes, { start, end }, random) => repeated(bytes.subarray(start, end), random.pick([3, 16, 200])),
  (bytes, _field, random) => {
    const other = pickFrom(fieldsOf(bytes), random);
    return bytes.slice(other?.start ?? 0, other?.end ?? 0);
  },
  (bytes, { start, end }, random) => {
    const other = pickFrom(fieldsOf(bytes), random);
    return joined(bytes.subarray(start, end), bytes.slice(other?.start ?? 0, other?.end ?? 0));
  },
  // Another number or wire type before the same payload.
  (bytes, { start, end }, random) =>
    joined(Uint8Array.from(varint(BigInt(random.below(30 * 8)))), bytes.subarray(start + 1, end)),
  // Another payload behind the same tag.
  (bytes, { start, wireType }, random) => {
    const tag = bytes.slice(start, start + 1);
    if (wireType === 1) return joined(tag, integer(random, 8));
    if (wireType === 5) return joined(tag, integer(random, 4));
    const value = BigInt.asUintN(64, new DataView(integer(random, 8).buffer).getBigInt64(0, true));
    return joined(tag, Uint8Array.from(varint(value)));
  },
  (bytes, { start, payload, end, wireType }, random) => {
    if (wireType !== 2) return mutateBytes(bytes.slice(start, end), random);
    const changed = mutateBytes(bytes.slice(payload, end), random);
    return joined(bytes.slice(start, start + 1), Uint8Array.from(varint(BigInt(changed.length))), changed);
  },
  // Depth: the field inside itself.
  (bytes, { start, end, wireType }, random) => {
    let nested: Uint8Array = bytes.slice(start, end);
    if (wireType !== 2) return nested;
    for (let depth = random.pick([1, 2, 8, 100, 1000]); depth > 0; depth--)
      nested = joined(bytes.slice(start, start + 1), Uint8Array.from(varint(BigInt(nested.length))), nested);
    return nested;
  },
];

/** One mutation of a message; lengths of the messages around it are mostly kept right. */
export const mutateProtobuf: Mutator = (bytes, random) => {
  const field = random.chance(0.1) ? undefined : pickFrom(fieldsOf(bytes), random);
  if (field === undefined) return mutateBytes(bytes, random);
  const changed = random.pick(CHANGES)(bytes, field, random);
  return refit(bytes, field, field.start, field.end, changed, random.chance(0.9));
};

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

function repeated(bytes: Uint8Array, times: number): Uint8Array {
  return joined(...Array.from({ length: times }, () => bytes));
}

/** Opcodes that push one number, string or byte string. Source: CPython's Lib/pickletools.py. */

import { decodeLatin1, decodeUtf8 } from "../../encodings.js";
import { corrupt, position } from "../../refusals.js";
import type { Machine, Opcode, OpcodeTable } from "./opcode.js";
import { parseFloatLine, parseIntLine, parseQuotedLine, parseUnicodeLine } from "./text.js";
import type { PickleValue } from "./values.js";

/**
 * Bytes in one arbitrary-precision integer. Legacy checkpoints hold one of 10; converting long ones to a BigInt takes
 * more than linear time.
 */
const MAX_INTEGER_BYTES = 256;

export const SCALAR_OPCODES: OpcodeTable = {
  N: pushing(() => null), // NONE
  "\x88": pushing(() => true), // NEWTRUE
  "\x89": pushing(() => false), // NEWFALSE

  J: pushing(({ cursor }) => cursor.int32()), // BININT
  K: pushing(({ cursor }) => cursor.uint8()), // BININT1
  M: pushing(({ cursor }) => cursor.uint16()), // BININT2
  "\x8a": pushing((machine) => longInteger(machine, machine.cursor.uint8())), // LONG1
  "\x8b": pushing((machine) => longInteger(machine, machine.cursor.uint32())), // LONG4
  I: pushing(({ cursor }) => parseIntLine(cursor)), // INT
  L: pushing(({ cursor }) => parseIntLine(cursor)), // LONG
  G: pushing(({ cursor }) => cursor.float64BigEndian()), // BINFLOAT
  F: pushing(({ cursor }) => parseFloatLine(cursor)), // FLOAT

  "\x8c": pushing((machine) => utf8(machine, machine.cursor.uint8())), // SHORT_BINUNICODE
  X: pushing((machine) => utf8(machine, machine.cursor.uint32())), // BINUNICODE
  "\x8d": pushing((machine) => utf8(machine, machine.cursor.uint64())), // BINUNICODE8
  V: pushing(({ cursor }) => parseUnicodeLine(cursor)), // UNICODE

  // Python 2's str: text and bytes in one. Latin-1 keeps every byte, so that arrays stored this way survive.
  U: pushing(({ cursor }) => decodeLatin1(cursor.take(cursor.uint8()))), // SHORT_BINSTRING
  T: pushing(({ cursor }) => decodeLatin1(cursor.take(cursor.uint32()))), // BINSTRING
  S: pushing(({ cursor }) => parseQuotedLine(cursor)), // STRING

  C: pushing(({ cursor }) => cursor.take(cursor.uint8())), // SHORT_BINBYTES
  B: pushing(({ cursor }) => cursor.take(cursor.uint32())), // BINBYTES
  "\x8e": pushing(({ cursor }) => cursor.take(cursor.uint64())), // BINBYTES8
  "\x96": pushing(({ cursor }) => cursor.take(cursor.uint64())), // BYTEARRAY8
};

function pushing(read: (machine: Machine) => PickleValue): Opcode {
  return (machine) => machine.stack.pushNew(read(machine));
}

function utf8({ cursor }: Machine, byteLength: number): string {
  const { offset } = cursor;
  const text = decodeUtf8(cursor.take(byteLength));
  if (text === undefined) {
    throw corrupt(
      cursor.region,
      `a string that is not UTF-8 at ${position(cursor.region, offset)}`,
      "UTF-8 text",
    );
  }
  return text;
}

/** A two's complement little-endian integer of any length; a number where one holds it exactly. */
function longInteger({ cursor }: Machine, byteLength: number): number | bigint {
  if (byteLength > MAX_INTEGER_BYTES) {
    throw corrupt(
      cursor.region,
      `an integer of ${byteLength} bytes at ${position(cursor.region, cursor.offset)}`,
      `at most ${MAX_INTEGER_BYTES} bytes`,
    );
  }
  const bytes = cursor.take(byteLength);
  let value = 0n;
  for (let index = byteLength - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[index] ?? 0);
  const signed = BigInt.asIntN(byteLength * 8, value);
  const number = Number(signed);
  return Number.isSafeInteger(number) ? number : signed;
}

/** Opcodes that push one number, string or byte string. Source: CPython's Lib/pickletools.py. */

import { corrupt, position } from "../refusals.js";
import type { Machine, Opcode } from "./machine.js";
import {
  decodeLatin1,
  decodeUtf8,
  parseFloatLine,
  parseIntLine,
  parseQuotedLine,
  parseUnicodeLine,
} from "./text.js";
import type { PickleValue } from "./values.js";

/**
 * Bytes in one arbitrary-precision integer. Legacy checkpoints hold one of 10; converting long ones to a BigInt takes
 * more than linear time.
 */
const MAX_INTEGER_BYTES = 256;

export const SCALAR_OPCODES: Readonly<Partial<Record<number, Opcode>>> = {
  78: pushing(() => null), // NONE
  136: pushing(() => true), // NEWTRUE
  137: pushing(() => false), // NEWFALSE

  74: pushing(({ cursor }) => cursor.int32()), // BININT
  75: pushing(({ cursor }) => cursor.uint8()), // BININT1
  77: pushing(({ cursor }) => cursor.uint16()), // BININT2
  138: pushing((machine) => longInteger(machine, machine.cursor.uint8())), // LONG1
  139: pushing((machine) => longInteger(machine, machine.cursor.uint32())), // LONG4
  73: pushing(({ cursor }) => parseIntLine(cursor)), // INT
  76: pushing(({ cursor }) => parseIntLine(cursor)), // LONG
  71: pushing(({ cursor }) => cursor.float64BigEndian()), // BINFLOAT
  70: pushing(({ cursor }) => parseFloatLine(cursor)), // FLOAT

  140: pushing((machine) => utf8(machine, machine.cursor.uint8())), // SHORT_BINUNICODE
  88: pushing((machine) => utf8(machine, machine.cursor.uint32())), // BINUNICODE
  141: pushing((machine) => utf8(machine, machine.cursor.uint64())), // BINUNICODE8
  86: pushing(({ cursor }) => parseUnicodeLine(cursor)), // UNICODE

  // Python 2's str: text and bytes in one. Latin-1 keeps every byte, so that arrays stored this way survive.
  85: pushing(({ cursor }) => decodeLatin1(cursor.take(cursor.uint8()))), // SHORT_BINSTRING
  84: pushing(({ cursor }) => decodeLatin1(cursor.take(cursor.uint32()))), // BINSTRING
  83: pushing(({ cursor }) => parseQuotedLine(cursor)), // STRING

  67: pushing(({ cursor }) => cursor.take(cursor.uint8())), // SHORT_BINBYTES
  66: pushing(({ cursor }) => cursor.take(cursor.uint32())), // BINBYTES
  142: pushing(({ cursor }) => cursor.take(cursor.uint64())), // BINBYTES8
  150: pushing(({ cursor }) => cursor.take(cursor.uint64())), // BYTEARRAY8
};

function pushing(read: (machine: Machine) => PickleValue): Opcode {
  return (machine) => machine.stack.push(read(machine));
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

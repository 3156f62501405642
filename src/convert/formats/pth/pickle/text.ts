/** The text forms of protocol 0, one value to a line. Source: CPython's Lib/pickletools.py. */

import type { Cursor } from "../../cursor.js";
import { decodeLatin1 } from "../../encodings.js";
import { corrupt, position, quote } from "../../refusals.js";

/** Characters in one number: converting long ones takes more than linear time. */
const MAX_DIGITS = 600;

/** INT and LONG: decimal digits, with `00` and `01` for booleans and an L after Python 2's long integers. */
export function parseIntLine(cursor: Cursor): number | bigint | boolean {
  const { line, fail } = readLine(cursor);
  if (line === "00") return false;
  if (line === "01") return true;
  if (line.length > MAX_DIGITS || !/^[+-]?\d+L?$/.test(line)) throw fail("an integer");
  const value = BigInt(line.replace(/^\+|L$/g, ""));
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** A memo index: decimal digits. */
export function parseIndexLine(cursor: Cursor): number {
  const { line, fail } = readLine(cursor);
  if (!/^\d{1,15}$/.test(line)) throw fail("a memo index");
  return Number(line);
}

/** FLOAT: what Python's repr writes. */
export function parseFloatLine(cursor: Cursor): number {
  const { line, fail } = readLine(cursor);
  const named = FLOAT_NAMES.get(line);
  if (named !== undefined) return named;
  if (line.length > MAX_DIGITS || !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(line))
    throw fail("a floating-point number");
  return Number(line);
}

const FLOAT_NAMES: ReadonlyMap<string, number> = new Map([
  ["inf", Number.POSITIVE_INFINITY],
  ["-inf", Number.NEGATIVE_INFINITY],
  ["nan", Number.NaN],
]);

/** STRING: a quoted Python 2 string literal; characters are bytes, as in `decodeLatin1`. */
export function parseQuotedLine(cursor: Cursor): string {
  const { offset, region } = cursor;
  const line = cursor.takeLine();
  const mark = line[0];
  if (line.length < 2 || (mark !== 0x22 && mark !== 0x27) || line.at(-1) !== mark) {
    throw corrupt(
      region,
      `${quote(decodeLatin1(line.subarray(0, 100)))} at ${position(region, offset)}`,
      "a quoted string",
    );
  }
  return decodeLatin1(resolveEscapes(line.subarray(1, -1)));
}

/** Resolves the escapes of a Python 2 string literal; a backslash before anything else stands for itself. */
function resolveEscapes(literal: Uint8Array): Uint8Array {
  const text = new Uint8Array(literal.length);
  let length = 0;
  for (let index = 0; index < literal.length; ) {
    const [byte, taken] = literal[index] === BACKSLASH ? escaped(literal, index) : [literal[index] ?? 0, 1];
    text[length] = byte;
    length += 1;
    index += taken;
  }
  return text.subarray(0, length);
}

/** The byte that the escape at `index` stands for, and how many bytes spell it. */
function escaped(literal: Uint8Array, index: number): readonly [byte: number, taken: number] {
  const spelling = decodeLatin1(literal.subarray(index + 1, index + 4));
  const hex = /^x([0-9a-fA-F]{2})/.exec(spelling)?.[1];
  if (hex !== undefined) return [Number.parseInt(hex, 16), 4];
  const octal = /^[0-7]{1,3}/.exec(spelling)?.[0];
  if (octal !== undefined) return [Number.parseInt(octal, 8) & 0xff, 1 + octal.length];
  const simple = ESCAPES.get(spelling.charAt(0));
  return simple === undefined ? [BACKSLASH, 1] : [simple.charCodeAt(0), 2];
}

const BACKSLASH = 0x5c;

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["\\", "\\"],
  ["'", "'"],
  ['"', '"'],
  ["a", "\x07"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
  ["v", "\v"],
]);

/** UNICODE: raw-unicode-escape, in which only \u and \U escape. */
export function parseUnicodeLine(cursor: Cursor): string {
  const { line, fail } = readLine(cursor);
  return line.replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_whole, short?: string, long?: string) => {
    const code = Number.parseInt(short ?? long ?? "", 16);
    if (code > 0x10ffff) throw fail("a Unicode character");
    return String.fromCodePoint(code);
  });
}

/** The next line as Latin-1, and the error to throw when it is not what it should be. */
export function readLine(cursor: Cursor): {
  readonly line: string;
  readonly fail: (expected: string) => Error;
} {
  const { offset, region } = cursor;
  const line = decodeLatin1(cursor.takeLine());
  return {
    line,
    fail: (expected) => corrupt(region, `${quote(line)} at ${position(region, offset)}`, expected),
  };
}

/** The text forms of protocol 0, one value to a line, and the string encodings. Source: CPython's pickletools.py. */

import type { Cursor } from "../cursor.js";
import { corrupt, position, quote } from "../refusals.js";

/** Characters in one number: converting long ones takes more than linear time. */
const MAX_DIGITS = 600;

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text, or undefined when the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** One character for each byte. Not TextDecoder's "latin1", which is windows-1252. */
export function decodeLatin1(bytes: Uint8Array): string {
  const pieces: string[] = [];
  for (let start = 0; start < bytes.length; start += 8192) {
    pieces.push(String.fromCharCode(...bytes.subarray(start, start + 8192)));
  }
  return pieces.join("");
}

/** The bytes of a string of characters up to U+00FF; undefined when there are others. */
export function encodeLatin1(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code > 0xff) return undefined;
    bytes[index] = code;
  }
  return bytes;
}

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
  const { line, fail } = readLine(cursor);
  const quoted = /^(["'])(.*)\1$/s.exec(line)?.[2];
  if (quoted === undefined) throw fail("a quoted string");
  return quoted.replace(
    /\\(?:x([0-9a-f]{2})|([0-7]{1,3})|(.))/gis,
    (whole, hex: string | undefined, octal: string | undefined, letter: string | undefined) => {
      if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
      return ESCAPES.get(letter ?? "") ?? whole;
    },
  );
}

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
  return line.replace(/\\u([0-9a-f]{4})|\\U([0-9a-f]{8})/gi, (_whole, short?: string, long?: string) => {
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

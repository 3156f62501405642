import { type Cursor, decodeLatin1 } from "../../cursor.js";
import { corrupt, position, quote } from "../../refusals.js";

/** The text forms of protocol 0, one value to a line. Source: CPython's Lib/pickletools.py. */

/** Characters in one number: converting long ones takes more than linear time. */
const MAX_DIGITS = 600;

/** INT: decimal digits, with `00` and `01` for booleans. */
export function parseIntLine(cursor: Cursor): number | bigint | boolean {
  const { line, fail } = readLine(cursor);
  if (line === "00") return false;
  if (line === "01") return true;
  return decimal(line, fail);
}

/** LONG: decimal digits and, as every pickler writes it, an L. */
export function parseLongLine(cursor: Cursor): number | bigint {
  const { line, fail } = readLine(cursor);
  return decimal(line.replace(/L$/, ""), fail);
}

/**
 * An integer as picklers write it. Python accepts more (octal for a leading zero in C's unpickler but not in Python's
 * own, hexadecimal, underscores, `+0` as False), which no pickler writes: that is refused.
 */
function decimal(digits: string, fail: (expected: string) => Error): number | bigint {
  if (digits.length > MAX_DIGITS || !/^(?:0|-?[1-9]\d*)$/.test(digits)) throw fail("a decimal integer");
  const value = BigInt(digits);
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

/** STRING: a quoted Python 2 string literal, as its bytes. */
export function parseQuotedLine(cursor: Cursor): Uint8Array {
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
  const text = resolveEscapes(line.subarray(1, -1));
  if (text === undefined)
    throw corrupt(region, `an unfinished escape at ${position(region, offset)}`, "a Python string literal");
  return text;
}

/**
 * Resolves the escapes of a Python 2 string literal; a backslash before any other character is literal. Undefined for
 * what Python refuses: a backslash at the end, or `\x` without its two digits.
 */
function resolveEscapes(literal: Uint8Array): Uint8Array | undefined {
  const text = new Uint8Array(literal.length);
  let length = 0;
  for (let index = 0; index < literal.length; ) {
    const [byte, taken] = literal[index] === BACKSLASH ? escaped(literal, index) : [literal[index] ?? 0, 1];
    if (taken === 0) return undefined;
    text[length] = byte;
    length += 1;
    index += taken;
  }
  return text.subarray(0, length);
}

/** The byte of the escape at `index`, and its length in bytes: 0 if it is incomplete. */
function escaped(literal: Uint8Array, index: number): readonly [byte: number, taken: number] {
  const spelling = decodeLatin1(literal.subarray(index + 1, index + 4));
  const hex = /^x([0-9a-fA-F]{2})/.exec(spelling)?.[1];
  if (hex !== undefined) return [Number.parseInt(hex, 16), 4];
  const octal = /^[0-7]{1,3}/.exec(spelling)?.[0];
  if (octal !== undefined) return [Number.parseInt(octal, 8) & 0xff, 1 + octal.length];
  if (spelling === "" || spelling.startsWith("x")) return [0, 0];
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

/**
 * UNICODE: raw-unicode-escape, in which only \u and \U escape, and a backslash consumes the next character. Half of a
 * surrogate pair is a separate character in Python, and would join its other half here: refused.
 */
export function parseUnicodeLine(cursor: Cursor): string {
  const { line, fail } = readLine(cursor);
  return line.replace(
    /\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))/gs,
    (whole, short?: string, long?: string, other?: string) => {
      const digits = short ?? long;
      if (digits === undefined) {
        if (other === "u" || other === "U") throw fail("an escape with all its digits");
        return whole;
      }
      const code = Number.parseInt(digits, 16);
      if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) throw fail("a Unicode character");
      return String.fromCodePoint(code);
    },
  );
}

/** The next line as Latin-1, and the error to throw if it is invalid. */
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

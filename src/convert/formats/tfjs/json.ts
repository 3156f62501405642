import { InputError, type InputErrorCode } from "../../../core/errors.js";
import { quoted } from "../../../core/text.js";

/** An unusable TensorFlow.js model: `subject` is the file, with the place in it. */
export function refusal(
  subject: string,
  found: string,
  expected: string,
  remedy = "convert the model again",
  code: InputErrorCode = "format",
): InputError {
  return new InputError({ code, subject, found, expected, remedy });
}

/** An osnet_x1_0 in Keras's layers has 0.5 MB, and a language model 10; parsed it takes up to twenty times as much memory. */
const MAX_BYTES = 32 << 20;

/** Keras's configurations nest about a dozen levels, and users add a few. Parsers and printers are recursive. */
const MAX_DEPTH = 64;

const [QUOTE, BACKSLASH, COLON] = ['"', "\\", ":"].map((character) => character.charCodeAt(0));
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = ["[", "]", "{", "}"].map((character) =>
  character.charCodeAt(0),
);

/**
 * Looks at a `model.json` before it is parsed. In UTF-8 no byte of another character is one of JSON's own. Of two members of
 * a name JavaScript and Python take the last, other readers the first.
 *
 * @throws InputError (`unsupported`) for one of more than 32 MiB, or that nests deeper than 64 levels, (`format`) for one
 * with a key twice in one object in an object
 */
export function expectModest(json: Uint8Array, subject: string): void {
  if (json.length > MAX_BYTES) throw immodest(subject, `${json.length} bytes`, `at most ${MAX_BYTES}`);
  let depth = 0;
  /** Start of the current string, after its quotation mark. */
  let start = -1;
  /** The last string, a name if a colon follows. */
  let [from, to] = [0, 0];
  const names: (Set<string> | undefined)[] = [];
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (start >= 0) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) {
        [from, to, start] = [start, at, -1];
      }
    } else if (byte === QUOTE) start = at + 1;
    else if (byte === COLON) expectNew(names[depth], nameAt(json, from, to), subject);
    else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth--;
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      if (++depth > MAX_DEPTH)
        throw immodest(subject, `more than ${MAX_DEPTH} nested lists or objects`, `at most ${MAX_DEPTH}`);
      names[depth] = byte === OPEN_OBJECT ? new Set() : undefined;
    }
  }
}

function expectNew(names: Set<string> | undefined, name: string, subject: string): void {
  if (names?.has(name)) throw refusal(subject, `the key ${quoted(name)} twice in one object`, "one");
  names?.add(name);
}

/** A decoded name: the same one may be written with escapes. */
function nameAt(json: Uint8Array, from: number, to: number): string {
  let name = "";
  for (let at = from; at < to; at++) {
    const byte = json[at] ?? 0;
    if (byte >= 0x80 || byte === BACKSLASH) return unescaped(UTF8.decode(json.subarray(from, to)));
    name += String.fromCharCode(byte);
  }
  return name;
}

const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Decodes escapes; invalid JSON is returned unchanged, and refused by parsing. */
function unescaped(text: string): string {
  try {
    return String(JSON.parse(`"${text}"`));
  } catch {
    return text;
  }
}

function immodest(subject: string, found: string, expected: string): Error {
  return refusal(
    subject,
    found,
    `${expected} in a model.json`,
    "use the model.json of an OSNet",
    "unsupported",
  );
}

/** What JSON can say. */
export type Json = string | number | boolean | null | readonly Json[] | JsonObject;

/** A JSON object; a missing key is undefined. */
export interface JsonObject {
  readonly [key: string]: Json;
}

/** A JSON value with its path for messages: `model.json, weightsManifest[0].paths`. */
export interface Located {
  readonly value: Json | undefined;
  readonly at: string;
}

/** A value as an object; an empty one if it is anything else, for optional fields. */
export function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

/** A value as an array; an empty one if it is anything else. */
export function arrayOf(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A member of an object; own properties only, so that `constructor` is not found. */
export function member({ value, at }: Located, key: string): Located {
  const object = asObject({ value, at });
  return { value: Object.hasOwn(object, key) ? object[key] : undefined, at: `${at}.${key}` };
}

/** All members of an object. */
export function members(located: Located): readonly (readonly [key: string, member: Located])[] {
  return Object.keys(asObject(located)).map((key) => [key, member(located, key)]);
}

export function asObject({ value, at }: Located): JsonObject {
  if (isObject(value)) return value;
  throw unexpected({ value, at }, "an object");
}

/** The elements of an array; none if the optional array is missing. */
export function elements({ value, at }: Located): readonly Located[] {
  if (value === undefined) return [];
  if (Array.isArray(value))
    return (value as readonly Json[]).map((element, index) => ({ value: element, at: `${at}[${index}]` }));
  throw unexpected({ value, at }, "an array");
}

export function asString({ value, at }: Located): string {
  if (typeof value === "string") return value;
  throw unexpected({ value, at }, "a string");
}

export function asBoolean({ value, at }: Located): boolean {
  if (typeof value === "boolean") return value;
  throw unexpected({ value, at }, "true or false");
}

export function asNumber({ value, at }: Located): number {
  // JSON.parse reads 1e999 as infinite.
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw unexpected({ value, at }, "a finite number");
}

/** An integer, which protobuf's JSON mapping also writes as a string: `"3"`. */
export function asInteger({ value, at }: Located): number {
  const number = typeof value === "string" && /^-?\d+$/.test(value) ? Number(value) : value;
  if (typeof number === "number" && Number.isSafeInteger(number)) return number;
  throw unexpected({ value, at }, "a whole number");
}

/** A description of an unexpected value, short enough for a sentence. */
function unexpected({ value, at }: Located, expected: string): Error {
  const found =
    value === undefined
      ? "nothing"
      : Array.isArray(value)
        ? "an array"
        : isObject(value)
          ? "an object"
          : JSON.stringify(value).slice(0, 60);
  return refusal(at, found, expected);
}

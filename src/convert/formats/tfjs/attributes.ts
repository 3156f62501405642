/**
 * Attributes of graph nodes in protobuf's JSON mapping of attr_value.proto: `{ "i": "3" }`, `{ "s": BASE64 }`,
 * `{ "list": { "i": ["1", "2"] } }`. 64-bit integers are strings, byte strings base64.
 */
import {
  asInteger,
  asNumber,
  asString,
  elements,
  type JsonObject,
  type Located,
  member,
  members,
} from "./json.js";
import type { TfjsAttribute, TfjsAttributeType, TfjsAttributeValues, TfjsShape } from "./model.js";
import { refusal } from "./refusal.js";

type Coders = {
  readonly [T in TfjsAttributeType]: {
    readonly encode: (value: TfjsAttributeValues[T]) => JsonObject;
    /** The value, or undefined if the JSON is of another type. */
    readonly decode: (located: Located) => TfjsAttributeValues[T] | undefined;
  };
};

const CODERS: Coders = {
  int: { encode: (value) => ({ i: String(value) }), decode: scalar("i", asInteger) },
  float: { encode: (value) => ({ f: value }), decode: scalar("f", asNumber) },
  bool: { encode: (value) => ({ b: value }), decode: scalar("b", ({ value }) => value === true) },
  string: { encode: (value) => ({ s: toBase64(value) }), decode: scalar("s", fromBase64) },
  dtype: { encode: (value) => ({ type: value }), decode: scalar("type", asString) },
  shape: { encode: (value) => ({ shape: encodeShape(value) }), decode: scalar("shape", decodeShape) },
  ints: { encode: (value) => ({ list: { i: value.map(String) } }), decode: list("i", asInteger) },
  floats: { encode: (value) => ({ list: { f: value } }), decode: list("f", asNumber) },
  strings: { encode: (value) => ({ list: { s: value.map(toBase64) } }), decode: list("s", fromBase64) },
  dtypes: { encode: (value) => ({ list: { type: value } }), decode: list("type", asString) },
  other: { encode: (value) => value, decode: ({ value }) => value as JsonObject },
};

export function encodeAttribute({ type, value }: TfjsAttribute): JsonObject {
  // One lookup over a union of attributes: the table's type pairs each type with its own value.
  return (CODERS[type].encode as (value: unknown) => JsonObject)(value);
}

/** @throws InputError (`format`) if a value is not of the type that its key says */
export function decodeAttribute(located: Located): TfjsAttribute {
  for (const [type, { decode }] of Object.entries(CODERS)) {
    const value = decode(located);
    if (value !== undefined) return { type, value } as TfjsAttribute;
  }
  throw refusal(located.at, "no attribute value", "an attr_value.proto message as JSON");
}

function scalar<T>(key: string, read: (located: Located) => T): (located: Located) => T | undefined {
  return (located) => {
    const found = member(located, key);
    return found.value === undefined ? undefined : read(found);
  };
}

function list<T>(key: string, read: (located: Located) => T): (located: Located) => readonly T[] | undefined {
  return (located) => {
    const found = member(located, "list");
    if (found.value === undefined) return undefined;
    const [only, ...others] = members(found).filter(
      ([, { value }]) => !Array.isArray(value) || value.length > 0,
    );
    // `{ "list": {} }` is an empty list of any type: read as one of integers, which it is for padding and axes.
    const type = only?.[0] ?? "i";
    return type === key && others.length === 0 ? elements(member(found, key)).map(read) : undefined;
  };
}

/** A shape as JSON: `{ "dim": [{ "size": "-1" }] }`. */
export function encodeShape(shape: TfjsShape): JsonObject {
  return shape === null ? { unknownRank: true } : { dim: shape.map((size) => ({ size: String(size) })) };
}

export function decodeShape(located: Located): TfjsShape {
  if (member(located, "unknownRank").value === true) return null;
  return elements(member(located, "dim")).map((dimension) => {
    const size = member(dimension, "size");
    // The mapping leaves out zeros.
    return size.value === undefined ? 0 : asInteger(size);
  });
}

/** Byte strings as text of one character per byte: the strings of a graph are ASCII words (`SAME`, `NHWC`, `Relu`). */
function toBase64(text: string): string {
  return btoa(text);
}

function fromBase64(located: Located): string {
  const text = asString(located);
  try {
    return atob(text);
  } catch {
    throw refusal(located.at, JSON.stringify(text.slice(0, 60)), "base64");
  }
}

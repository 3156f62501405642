/**
 * What a pickle can build here. Everything is data: containers, scalars, names, and inert records of the objects
 * that Python would have constructed. Nothing has behaviour.
 */

import type { ReadRange } from "../../../../core/bytes.js";
import { printable } from "../../refusals.js";

/** Lists are arrays and tuples frozen ones; dictionaries are Maps, so that a key called `__proto__` is a key like any other. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleDict
  | PickleSet
  | GlobalName
  | InertObject
  | Storage;

export type PickleDict = Map<PickleValue, PickleValue>;
type PickleSet = Set<PickleValue>;

/** A class or function by name, such as `torch.FloatStorage`: only the name, never the thing. */
export interface GlobalName {
  readonly kind: "global";
  /** Module and name joined by a dot, with the module names of Python 2 and of numpy 2 brought to one spelling. */
  readonly path: string;
}

/** What a class or function outside the closed table would have made: a record of how it was to be made. */
export interface InertObject {
  readonly kind: "object";
  /** The class or function called. */
  readonly path: string;
  readonly args: readonly PickleValue[];
  /** What `__setstate__` or `__dict__.update` would have been given; undefined while neither would have been called. */
  state: PickleValue | undefined;
  /** What `append` or `extend` would have been given. */
  items: PickleValue[] | null;
  /** What `__setitem__` would have been given. */
  entries: PickleDict | null;
}

/** A block of elements kept outside the pickle, or inside it as a byte string. */
export interface Storage {
  readonly kind: "storage";
  /** Name of the storage's element type in PyTorch, such as `Float`, `Long` or `Untyped`. */
  readonly element: string;
  readonly byteLength: number;
  readonly bigEndian: boolean;
  /** Finds, and if need be unpacks, the bytes; throws `InputError` when they are not what was declared. */
  readonly read: ReadRange;
}

/** A record of an object of class `path`. */
export function inertObject(path: string, args: readonly PickleValue[]): InertObject {
  return { kind: "object", path, args, state: undefined, items: null, entries: null };
}

/** A tuple, which nothing can add to. */
export function tuple(items: PickleValue[]): PickleValue[] {
  return Object.freeze(items) as PickleValue[];
}

export function isTuple(value: PickleValue | undefined): boolean {
  return Array.isArray(value) && Object.isFrozen(value);
}

/** A dict's key, so that keys which Python takes for equal are one here: True is 1, and 1e20 is 10 ** 20. */
export function dictKey(key: PickleValue): PickleValue {
  if (typeof key === "boolean") return Number(key);
  return typeof key === "number" && Number.isInteger(key) && !Number.isSafeInteger(key) ? BigInt(key) : key;
}

export function isDict(value: PickleValue | undefined): value is PickleDict {
  return value instanceof Map;
}

export function isGlobal(value: PickleValue | undefined): value is GlobalName {
  return hasKind(value, "global");
}

export function isObject(value: PickleValue | undefined): value is InertObject {
  return hasKind(value, "object");
}

export function isStorage(value: PickleValue | undefined): value is Storage {
  return hasKind(value, "storage");
}

function hasKind(value: PickleValue | undefined, kind: string): boolean {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === kind;
}

/** Names a value's type in Python's words, for messages. */
export function typeName(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "None";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float";
  if (typeof value === "bigint") return "int";
  if (typeof value === "string") return "str";
  if (value instanceof Uint8Array) return "bytes";
  if (Array.isArray(value)) return "list or tuple";
  if (value instanceof Map) return "dict";
  if (value instanceof Set) return "set";
  return value.kind === "storage" ? `${value.element}Storage` : printable(value.path);
}

/**
 * A key or identifier as text: strings and integers as they are, others by their type. Never `String(value)`: that
 * walks a list to its depths, where hostile ones have no end.
 */
export function keyText(value: PickleValue | undefined): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : typeName(value);
}

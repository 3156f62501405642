import type { ReadRange } from "../../../../core/bytes.js";
import type { Cursor } from "../../cursor.js";
import { type Budget, corrupt, position, printable, type Region } from "../../refusals.js";

/**
 * What a pickle can build here. Everything is data: containers, scalars, names, and inert records of the objects
 * that Python would have constructed. Nothing has behaviour.
 */

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

/** A class or function by name only, such as `torch.FloatStorage`. */
export interface GlobalName {
  readonly kind: "global";
  /** Module and name joined by a dot, with the module names of Python 2 and numpy 2 normalised. */
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
 * A key or identifier as text: strings and integers unchanged, others by their type. Never `String(value)`, which
 * recurses into lists, and hostile ones are endless.
 */
export function keyText(value: PickleValue | undefined): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : typeName(value);
}

/**
 * What values take in memory, for the budget: estimates from above for V8 with 64-bit pointers, measured by building a
 * million of each. Looking through a container for state dicts afterwards is included.
 */

/** One item added to a list, as a slot below; one of a set; a key and its value of a dict. */
export const ITEM_BYTES = 20;
export const MEMBER_BYTES = 40;
export const PAIR_BYTES = 48;

/**
 * A stack slot or memo entry, in arrays that grow alike: 8 bytes in the array, and 12 in the one of half as many again that
 * it is copied to. Memos that skip numbers take more and are charged as dicts.
 */
export const SLOT_BYTES = 20;

const LIST_BYTES = 64;
/** One item of a list made at its full length. */
const ELEMENT_BYTES = 8;
const DICT_BYTES = 280;
const SET_BYTES = 240;
/** A view over the file's bytes. */
const BYTES_BYTES = 160;
/** Its characters come on top, and are at most two bytes for each byte of the file. */
const STRING_BYTES = 24;
const NUMBER_BYTES = 16;
/** Records of objects, names and storages; a path is made from two names. */
const RECORD_BYTES = 200;

/** The memory of a new value, without that of the values in it. */
function bytesOf(value: PickleValue): number {
  if (typeof value === "string") return STRING_BYTES + value.length;
  if (typeof value === "number") return Number.isInteger(value) ? 0 : NUMBER_BYTES;
  if (typeof value === "bigint") return STRING_BYTES;
  if (typeof value !== "object" || value === null) return 0;
  if (Array.isArray(value)) return LIST_BYTES + ELEMENT_BYTES * value.length;
  if (value instanceof Map) return DICT_BYTES + PAIR_BYTES * value.size;
  if (value instanceof Set) return SET_BYTES + MEMBER_BYTES * value.size;
  return value instanceof Uint8Array ? BYTES_BYTES : RECORD_BYTES;
}

/**
 * Memoized values. Picklers count from 0, so entries are in an array, which takes a third of a map's memory; a number
 * that skips others, as pickletools.optimize leaves them, goes into a map.
 */
export class Memo {
  readonly #dense: PickleValue[] = [];
  readonly #sparse = new Map<number, PickleValue>();

  /** The number that MEMOIZE gives next: of entries, as CPython counts them. */
  get size(): number {
    return this.#dense.length + this.#sparse.size;
  }

  get(index: number): PickleValue | undefined {
    return index < this.#dense.length ? this.#dense[index] : this.#sparse.get(index);
  }

  set(index: number, value: PickleValue): void {
    if (index < this.#dense.length) this.#dense[index] = value;
    else if (index === this.#dense.length && !this.#sparse.has(index)) this.#dense.push(value);
    else this.#sparse.set(index, value);
  }
}

/** The operand stack of a pickle machine, and the marks on it; underflow is an `InputError`. */
export class PickleStack {
  readonly #cursor: Cursor;
  readonly #budget: Budget;
  readonly #values: PickleValue[] = [];
  readonly #marks: number[] = [];
  /** The most values and marks that there were at a time: what arrays have grown to, they keep. */
  #mostValues = 0;
  #mostMarks = 0;

  /** The cursor is used for the position in errors only; pushed values are charged to the budget. */
  constructor(cursor: Cursor, budget: Budget) {
    this.#cursor = cursor;
    this.#budget = budget;
  }

  /** Pushes a value that already exists on the stack, in the memo or in a table, or takes no memory. */
  push(value: PickleValue): void {
    this.#values.push(value);
    if (this.#values.length <= this.#mostValues) return;
    this.#mostValues = this.#values.length;
    this.#budget.build(SLOT_BYTES);
  }

  /** Pushes a value that was made just now. */
  pushNew(value: PickleValue): void {
    this.#budget.build(bytesOf(value));
    this.push(value);
  }

  /** Pops the top value, never from below the last mark. */
  pop(): PickleValue {
    const top = this.top();
    this.#values.pop();
    return top;
  }

  top(): PickleValue {
    const top = this.#values.at(-1);
    if (top === undefined || this.#values.length <= (this.#marks.at(-1) ?? 0)) throw this.#underflow();
    return top;
  }

  /** Takes the top `count` values, deepest first. */
  popMany(count: number): PickleValue[] {
    if (this.#values.length - (this.#marks.at(-1) ?? 0) < count) throw this.#underflow();
    return this.#values.splice(this.#values.length - count, count);
  }

  mark(): void {
    this.#marks.push(this.#values.length);
    if (this.#marks.length <= this.#mostMarks) return;
    this.#mostMarks = this.#marks.length;
    this.#budget.build(SLOT_BYTES);
  }

  /** Takes all values above the last mark, deepest first, and the mark. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#underflow();
    return this.#values.splice(mark, this.#values.length - mark);
  }

  /** The POP opcode: removes the last mark if nothing is above it, otherwise the top value. */
  discard(): void {
    if (this.#marks.at(-1) === this.#values.length) this.#marks.pop();
    else this.pop();
  }

  #underflow(): Error {
    const { region, offset } = this.#cursor;
    return corrupt(
      region,
      `a pickle that pops more values than it pushed, before ${position(region, offset)}`,
      "a complete pickle",
    );
  }
}

/** What a pickle depends on: its container gives meaning to persistent ids. */
export interface PickleEnvironment {
  readonly budget: Budget;
  /** The value of a persistent id; throws `InputError` for an unknown one. */
  readonly persistentLoad: (id: PickleValue, region: Region) => PickleValue;
  /** The storage in a file inside the pickle, which is how pickle.dump, without PyTorch, writes tensors. */
  readonly loadStorage: (file: Uint8Array, region: Region) => Storage;
}

/** The state of one run. */
export interface Machine {
  readonly cursor: Cursor;
  readonly environment: PickleEnvironment;
  readonly stack: PickleStack;
  readonly memo: Memo;
  /**
   * Containers that a class or function was given, or that were the state of an object, and whether they may lead to tensors. Python
   * reads them at once: later changes are not the object's.
   */
  readonly given: WeakMap<object, boolean>;
}

/** What one opcode does, after its own byte has been read. */
export type Opcode = (machine: Machine) => void;

/** Opcodes by their character, as in pickletools. */
export type OpcodeTable = Readonly<Partial<Record<string, Opcode>>>;

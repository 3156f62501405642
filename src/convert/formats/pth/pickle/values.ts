import type { ReadRange } from "../../../../core/bytes.js";
import type { Cursor } from "../../cursor.js";
import { type Budget, corrupt, position, printable, type Region } from "../../refusals.js";

/**
 * Values that a pickle can build here. Everything is data: containers, scalars, names, and inert records of the objects
 * that Python would have constructed. Nothing has behaviour.
 */

/**
 * Lists are arrays and tuples frozen ones; dictionaries are Maps, so that a key called `__proto__` is an ordinary key.
 */
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

/** An inert record for a class or function outside the closed table: how it would have been called. */
export interface InertObject {
  readonly kind: "object";
  /** The class or function called. */
  readonly path: string;
  readonly args: readonly PickleValue[];
  /** The argument of `__setstate__` or `__dict__.update`; undefined if neither would have been called. */
  state: PickleValue | undefined;
  /** The arguments of `append` or `extend`. */
  items: PickleValue[] | null;
  /** The arguments of `__setitem__`. */
  entries: PickleDict | null;
}

/** A block of elements outside the pickle, or inside it as a byte string. */
export interface Storage {
  readonly kind: "storage";
  /** Name of the storage's element type in PyTorch, such as `Float`, `Long` or `Untyped`. */
  readonly element: string;
  readonly byteLength: number;
  readonly bigEndian: boolean;
  /** Locates, and if necessary inflates, the bytes; throws `InputError` if they are not as declared. */
  readonly read: ReadRange;
}

/** A record of an object of class `path`. */
export function inertObject(path: string, args: readonly PickleValue[]): InertObject {
  return { kind: "object", path, args, state: undefined, items: null, entries: null };
}

/** A tuple, which cannot be extended. */
export function tuple(items: PickleValue[]): PickleValue[] {
  return Object.freeze(items) as PickleValue[];
}

export function isTuple(value: PickleValue | undefined): boolean {
  return Array.isArray(value) && Object.isFrozen(value);
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

export function isAscii(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte < 0x80);
}

/** Python's name of a value's type, for messages. */
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
 * The memory of values, for the budget: upper estimates for V8 with 64-bit pointers, measured by building a million of
 * each. Searching a container for state dicts afterwards is included.
 */

/** One item added to a list, as a slot below; one of a set; a key and its value of a dict. */
export const ITEM_BYTES = 20;
export const MEMBER_BYTES = 40;
export const PAIR_BYTES = 48;

/**
 * A stack slot or memo entry, in growing arrays: 8 bytes in the array, and 12 in the one of one and a half times the
 * size that it is copied to. Memos that skip numbers take more and are charged as dicts.
 */
export const SLOT_BYTES = 20;

const LIST_BYTES = 64;
/** One item of a list allocated at its full length. */
const ELEMENT_BYTES = 8;
const DICT_BYTES = 280;
const SET_BYTES = 240;
/** A view over the file's bytes. */
const BYTES_BYTES = 160;
/** Its characters come in addition, and are at most two bytes for each byte of the file. */
const STRING_BYTES = 24;
const NUMBER_BYTES = 16;
/** Records of objects, names and storages; a path is made from two names. */
const RECORD_BYTES = 200;

/** The memory of a new value, without the values in it. */
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

  /** The next number of MEMOIZE: the number of entries, as in CPython. */
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

/** The operand stack of a pickle interpreter, and its marks; underflow is an `InputError`. */
export class PickleStack {
  readonly #cursor: Cursor;
  readonly #budget: Budget;
  readonly #values: PickleValue[] = [];
  readonly #marks: number[] = [];
  /** The maximum number of values and marks so far, since arrays keep their size. */
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

  /** Pushes a newly made value. */
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

/** The context of a pickle: its container gives meaning to persistent ids. */
export interface PickleEnvironment {
  readonly budget: Budget;
  /** The value of a persistent id; throws `InputError` for an unknown one. */
  readonly persistentLoad: (id: PickleValue, region: Region) => PickleValue;
  /** The storage in a file inside the pickle, which is how pickle.dump, without PyTorch, writes tensors. */
  readonly loadStorage: (file: Uint8Array, region: Region) => Storage;
  /** Whether torch's C++ reads it, which gives some opcodes and names another meaning than Python. */
  readonly isScript: boolean;
  /** The number that an array without dimensions is; undefined for any other value. */
  readonly numberOf: (value: PickleValue) => number | bigint | undefined;
}

/** The state of one run. */
export interface Machine {
  readonly cursor: Cursor;
  readonly environment: PickleEnvironment;
  readonly stack: PickleStack;
  readonly memo: Memo;
  /**
   * Containers that a class or function was given, or that were the state of an object. Python reads them at once: later
   * changes do not affect the object.
   */
  readonly given: WeakSet<object>;
  /** Where the open frame ends, which is read as a whole; undefined outside of frames. */
  frameEnd: number | undefined;
}

/** The effect of an opcode, after its own byte has been read. */
export type Opcode = (machine: Machine) => void;

/** Opcodes by their character, as in pickletools. */
export type OpcodeTable = Readonly<Partial<Record<string, Opcode>>>;

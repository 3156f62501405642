import type { Budget } from "../../budget.js";
import type { Cursor } from "../../cursor.js";
import { corrupt, position, type Region } from "../../refusals.js";
import type { PickleValue, Storage } from "./values.js";

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
 * What a pickle numbered to refer to it again. Picklers count from 0, so entries lie in an array, which takes a third of
 * a map's memory; a number that skips others, as pickletools.optimize leaves them, goes into a map.
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

  /** Takes a cursor only to say where an error is; what is pushed is charged to the budget. */
  constructor(cursor: Cursor, budget: Budget) {
    this.#cursor = cursor;
    this.#budget = budget;
  }

  /** Pushes a value that is on the stack, in the memo or in a table already, or takes no memory. */
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

  /** Takes the top value, never from below the last mark. */
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

  /** What POP does: takes the last mark if nothing lies above it, otherwise the top value. */
  discard(): void {
    if (this.#marks.at(-1) === this.#values.length) this.#marks.pop();
    else this.pop();
  }

  #underflow(): Error {
    const { region, offset } = this.#cursor;
    return corrupt(
      region,
      `a pickle that takes more values than it made, before ${position(region, offset)}`,
      "a complete pickle",
    );
  }
}

/** What a pickle depends on: its container gives meaning to persistent ids. */
export interface PickleEnvironment {
  readonly budget: Budget;
  /** The value of a persistent id; throws `InputError` for one that the container does not know. */
  readonly persistentLoad: (id: PickleValue, region: Region) => PickleValue;
  /** The storage in a file of its own inside the pickle, which is how pickle.dump, without PyTorch, writes tensors. */
  readonly loadStorage: (file: Uint8Array, region: Region) => Storage;
}

/** The state of one run. */
export interface Machine {
  readonly cursor: Cursor;
  readonly environment: PickleEnvironment;
  readonly stack: PickleStack;
  readonly memo: Memo;
}

/** What one opcode does, after its own byte has been read. */
export type Opcode = (machine: Machine) => void;

/** Opcodes by the character that stands for them, as pickletools lists them. */
export type OpcodeTable = Readonly<Partial<Record<string, Opcode>>>;

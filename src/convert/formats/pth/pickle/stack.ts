import type { Cursor } from "../cursor.js";
import { corrupt, position, printable, unsupported } from "../refusals.js";
import type { PickleValue } from "./values.js";

/**
 * Containers and objects one pickle may make. Each takes 50 to 250 bytes of memory for as little as one byte of
 * pickle. A whole OSNet pickled with its modules makes 17,000; a data set's file list, seen in checkpoints, 130,000.
 */
const MAX_OBJECTS = 1 << 19;

/** The operand stack of a pickle machine, and the marks on it; underflow is an `InputError`. */
export class PickleStack {
  readonly #cursor: Cursor;
  readonly #values: PickleValue[] = [];
  readonly #marks: number[] = [];
  #objects = 0;

  /** Takes a cursor only to say where an error is. */
  constructor(cursor: Cursor) {
    this.#cursor = cursor;
  }

  push(value: PickleValue): void {
    this.#values.push(value);
  }

  /** Pushes a value that takes memory of its own, up to the limit. */
  pushObject(value: PickleValue): void {
    this.#objects += 1;
    if (this.#objects > MAX_OBJECTS) {
      const { region } = this.#cursor;
      throw unsupported(
        region,
        `a pickle of more than ${MAX_OBJECTS} objects in ${printable(region.part)}`,
        "a checkpoint",
      );
    }
    this.#values.push(value);
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

import type { Budget } from "../../budget.js";
import type { Cursor } from "../../cursor.js";
import { corrupt, position } from "../../refusals.js";
import { bytesOf, SLOT_BYTES } from "./memory.js";
import type { PickleValue } from "./values.js";

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

import type { PickleValue } from "./values.js";

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

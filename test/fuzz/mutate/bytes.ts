/** Mutations that know nothing of a format. */

import { pickFrom, type Random } from "../random.js";

/** Returns a changed copy; the input stays as it is. */
export type Mutator = (bytes: Uint8Array, random: Random) => Uint8Array;

/** Numbers at which readers go wrong: signs, carries, powers of two, and the limits of this project's readers. */
const INTERESTING_INTEGERS: readonly [bigint, ...bigint[]] = [
  0n,
  1n,
  2n,
  7n,
  16n,
  64n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  1n << 19n,
  1n << 21n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 32n,
  1n << 48n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** Longest run that one mutation inserts. */
const MAX_RUN = 4096;

const MUTATORS: readonly [Mutator, ...Mutator[]] = [
  // One bit, one byte.
  (bytes, random) =>
    edited(bytes, random, (copy, at) => copy.set([(copy[at] ?? 0) ^ (1 << random.below(8))], at)),
  (bytes, random) => edited(bytes, random, (copy, at) => copy.set([random.below(256)], at)),
  // A number in place of another, in either byte order.
  (bytes, random) =>
    edited(bytes, random, (copy, at) =>
      copy.set(integer(random, random.pick([1, 2, 4, 8])).slice(0, copy.length - at), at),
    ),
  (bytes, random) =>
    replaced(bytes, random.below(bytes.length + 1), 0, integer(random, random.pick([1, 2, 4, 8]))),
  // Truncation, loss, repetition, a piece from elsewhere, a run.
  (bytes, random) => bytes.slice(0, random.below(bytes.length + 1)),
  (bytes, random) => replaced(bytes, random.below(bytes.length), 1 + random.below(16), new Uint8Array(0)),
  (bytes, random) => {
    const at = random.below(bytes.length);
    return replaced(bytes, at, 0, bytes.subarray(at, at + 1 + random.below(64)));
  },
  (bytes, random) => {
    const from = random.below(bytes.length);
    return replaced(
      bytes,
      random.below(bytes.length),
      random.below(2) * 8,
      bytes.subarray(from, from + random.below(64)),
    );
  },
  (bytes, random) => {
    const run = new Uint8Array(1 + random.below(random.chance(0.1) ? MAX_RUN : 16));
    return replaced(
      bytes,
      random.below(bytes.length + 1),
      0,
      run.fill(bytes[random.below(bytes.length)] ?? 0),
    );
  },
];

/** One mutation of bytes as bytes. */
export const mutateBytes: Mutator = (bytes, random) => random.pick(MUTATORS)(bytes, random);

/** `bytes` with `removed` bytes at `at` replaced. */
export function replaced(bytes: Uint8Array, at: number, removed: number, by: Uint8Array): Uint8Array {
  const end = Math.min(bytes.length, at + removed);
  const result = new Uint8Array(at + by.length + bytes.length - end);
  result.set(bytes.subarray(0, at));
  result.set(by, at);
  result.set(bytes.subarray(end), at + by.length);
  return result;
}

/** An interesting number, one beside it, or any, in `size` bytes of either order. */
export function integer(random: Random, size: number): Uint8Array {
  const value = random.pick(INTERESTING_INTEGERS) + BigInt(random.below(3) - 1);
  const bytes = littleEndian(BigInt.asUintN(64, value), size);
  return random.chance(0.1) ? bytes.reverse() : bytes;
}

export function littleEndian(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn));
}

/** Where `pattern` occurs. */
export function occurrences(bytes: Uint8Array, pattern: readonly number[]): readonly number[] {
  const found: number[] = [];
  const [first] = pattern;
  if (first === undefined) return found;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1))
    if (pattern.every((byte, index) => bytes[at + index] === byte)) found.push(at);
  return found;
}

/** Text formats are mutated as text: one replacement of what `pattern` (global) matches, by one of `values`. */
export function replaceToken(
  text: string,
  pattern: RegExp,
  values: readonly string[],
  random: Random,
): string {
  const match = pickFrom([...text.matchAll(pattern)], random);
  if (match === undefined) return text;
  return text.slice(0, match.index) + pickFrom(values, random) + text.slice(match.index + match[0].length);
}

function edited(bytes: Uint8Array, random: Random, edit: (copy: Uint8Array, at: number) => void): Uint8Array {
  const copy = bytes.slice();
  if (copy.length > 0) edit(copy, random.below(copy.length));
  return copy;
}

import { concatenate } from "../../../core/bytes.js";
import { refusal } from "./json.js";

/** tensorflowjs's shard size: what browsers still cache. */
export const SHARD_BYTES: number = 4 * 2 ** 20;

/** Cuts a sequence of byte strings into files of `size` bytes, `group1-shard1of2.bin` on; at least one. */
export function splitShards(parts: readonly Uint8Array[], size: number): ReadonlyMap<string, Uint8Array> {
  const all = concatenate(parts);
  const count = Math.max(1, Math.ceil(all.length / size));
  return new Map(
    Array.from({ length: count }, (_, index) => [
      `group1-shard${index + 1}of${count}.bin`,
      all.subarray(index * size, (index + 1) * size),
    ]),
  );
}

/** What a group's files are to hold. */
interface GroupSize {
  /** Bytes in all. */
  readonly expected: number;
  /** Whether files may be missing. */
  readonly mayMiss: boolean;
}

/**
 * Gives ranges of the concatenation of a group's files; undefined for one of which a file may be missing. How long
 * missing files are is not known, only what lies before the first of them and behind the last.
 *
 * @throws InputError (`format`) if one is missing and may not, or together they are not of the expected size
 */
export function joinShards(
  paths: readonly string[],
  shards: ReadonlyMap<string, Uint8Array>,
  { expected, mayMiss }: GroupSize,
  at: string,
): (start: number, end: number) => Uint8Array | undefined {
  const parts = paths.map((path) => shards.get(path));
  const [first, last] = [parts.indexOf(undefined), parts.lastIndexOf(undefined)];
  if (first >= 0 && !mayMiss)
    throw refusal(
      at,
      `no file ${JSON.stringify(paths[first])}`,
      `all of ${paths.length} weight files`,
      "copy the model's whole folder",
    );
  const total = parts.reduce((sum, part) => sum + (part?.length ?? 0), 0);
  if (first >= 0 ? total > expected : total !== expected)
    throw refusal(
      at,
      `${total} bytes in ${paths.length === 1 ? "its file" : `its ${paths.length} files`}`,
      `${expected}, as its weights take`,
      "copy the model's whole folder, in binary",
    );
  const present = parts.map((part) => part ?? new Uint8Array());
  if (first < 0) {
    const all = concatenate(present);
    return (start, end) => all.subarray(start, end);
  }
  const [head, tail] = [concatenate(present.slice(0, first)), concatenate(present.slice(last + 1))];
  const behind = expected - tail.length;
  return (start, end) => {
    if (end <= head.length) return head.subarray(start, end);
    return start >= behind ? tail.subarray(start - behind, end - behind) : undefined;
  };
}

/**
 * A shard's path is relative to `model.json` and stays beside or below it, on every system: no `..`, no absolute path,
 * no drive, no URL, no backslash; nor any that it becomes as a part of a URL, where `%2e` is a dot.
 *
 * @throws InputError (`format`) if it does not
 */
export function expectSafePath(path: string, at: string): void {
  // Control characters have no place in a name, and a NUL ends one early in some systems.
  const plain = [...path].every((character) => character >= " " && !'\\:<>"|?*'.includes(character));
  const segments = path.split("/");
  const leadDown = segments.every((segment) => segment !== "" && segment !== "." && segment !== "..");
  if (plain && leadDown && path.length <= MAX_PATH && !/%(2e|2f|5c)/i.test(path)) return;
  throw refusal(
    at,
    JSON.stringify(path.slice(0, 100)),
    "the path of a file in the model's folder",
    "do not use a model that reaches outside its folder",
  );
}

/** As long as file systems take. */
const MAX_PATH = 1024;

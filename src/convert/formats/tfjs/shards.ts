import { refusal } from "./refusal.js";

/** tensorflowjs's shard size: what browsers still cache. */
export const SHARD_BYTES: number = 4 * 2 ** 20;

/** Cuts a sequence of byte strings into files of `size` bytes, `group1-shard1of2.bin` on; at least one. */
export function splitShards(parts: readonly Uint8Array[], size: number): ReadonlyMap<string, Uint8Array> {
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  const all = new Uint8Array(total);
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  const count = Math.max(1, Math.ceil(total / size));
  return new Map(
    Array.from({ length: count }, (_, index) => [
      `group1-shard${index + 1}of${count}.bin`,
      all.subarray(index * size, (index + 1) * size),
    ]),
  );
}

/**
 * The concatenation of a group's files.
 *
 * @throws InputError (`format`) if one is missing, or together they are not of the expected size
 */
export function joinShards(
  paths: readonly string[],
  shards: ReadonlyMap<string, Uint8Array>,
  expected: number,
  at: string,
): Uint8Array {
  const parts = paths.map((path) => {
    const part = shards.get(path);
    if (part) return part;
    throw refusal(
      at,
      `no file ${JSON.stringify(path)}`,
      `all of ${paths.length} weight files`,
      "copy the model's whole folder",
    );
  });
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  if (total !== expected)
    throw refusal(
      at,
      `${total} bytes in ${paths.length === 1 ? "its file" : `its ${paths.length} files`}`,
      `${expected}, as its weights take`,
      "copy the model's whole folder, in binary",
    );
  const [only] = parts;
  if (parts.length === 1 && only) return only;
  const all = new Uint8Array(total);
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/**
 * A shard's path is relative to `model.json` and stays beside or below it, on every system: no `..`, no absolute path,
 * no drive, no URL, no backslash.
 *
 * @throws InputError (`format`) if it does not
 */
export function expectSafePath(path: string, at: string): void {
  // Control characters have no place in a name, and a NUL ends one early in some systems.
  const plain = [...path].every((character) => character >= " " && !'\\:<>"|?*'.includes(character));
  const segments = path.split("/");
  if (plain && segments.every((segment) => segment !== "" && segment !== "." && segment !== "..")) return;
  throw refusal(
    at,
    JSON.stringify(path.slice(0, 100)),
    "the path of a file in the model's folder",
    "do not use a model that reaches outside its folder",
  );
}

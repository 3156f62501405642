import type { Cursor } from "../cursor.js";
import { corrupt, quote } from "../refusals.js";
import type { CentralEntry } from "./entry.js";
import { widen } from "./extra.js";

const LOCAL_SIGNATURE = 0x04034b50;

/** Sizes follow the data, and the local header need not have them (APPNOTE 4.4.4, bit 3). */
const HAS_DESCRIPTOR = 0x0008;

/**
 * Checks an entry's local header (APPNOTE 4.3.7) against the central directory and returns where its data starts.
 * The cursor is one over the whole archive. Readers that trust one and readers that trust the other must see the same file.
 */
export function checkLocalHeader(cursor: Cursor, central: CentralEntry): number {
  const { region } = cursor;
  cursor.seek(central.headerOffset);
  const differs = (what: string) =>
    corrupt(
      region,
      `zip entry ${quote(central.name)} with another ${what} in its local header, at byte ${central.headerOffset}`,
      "the same as in the directory",
    );
  if (cursor.uint32() !== LOCAL_SIGNATURE) throw differs("signature");
  cursor.skip(2); // version
  const flags = cursor.uint16();
  if (cursor.uint16() !== central.method) throw differs("compression method");
  cursor.skip(8); // time, date, checksum
  const sizes = { compressedSize: cursor.uint32(), size: cursor.uint32() };
  const nameBytes = cursor.uint16();
  const extraBytes = cursor.uint16();
  if (!sameBytes(cursor.take(nameBytes), central.nameBytes)) throw differs("name");
  const local = widen(sizes, cursor.take(extraBytes), region);
  const deferred = (flags & HAS_DESCRIPTOR) !== 0 && local.size === 0 && local.compressedSize === 0;
  if (!deferred && (local.size !== central.size || local.compressedSize !== central.compressedSize)) {
    throw differs("size");
  }
  const start = cursor.offset;
  cursor.skip(central.compressedSize);
  return start;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

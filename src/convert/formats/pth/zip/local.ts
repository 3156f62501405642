import { Cursor } from "../cursor.js";
import { corrupt, quote, type Region } from "../refusals.js";
import type { CentralEntry } from "./directory.js";
import { widen } from "./extra.js";

const LOCAL_SIGNATURE = 0x04034b50;

/** Sizes follow the data, and the local header need not have them (APPNOTE 4.4.4, bit 3). */
const HAS_DESCRIPTOR = 0x0008;

const UTF8 = new TextEncoder();

/**
 * Checks an entry's local header (APPNOTE 4.3.7) against the central directory and returns where its data starts.
 * Readers that trust one and readers that trust the other must see the same file.
 */
export function checkLocalHeader(bytes: Uint8Array, central: CentralEntry, region: Region): number {
  const cursor = new Cursor(bytes, region, central.headerOffset);
  const differs = (what: string) =>
    corrupt(
      region,
      `zip entry ${quote(central.name)} with another ${what} in its local header, at byte ${central.headerOffset}`,
      "the same as in the directory",
    );
  if (cursor.uint32() !== LOCAL_SIGNATURE) throw differs("signature");
  cursor.take(2); // version
  const flags = cursor.uint16();
  if (cursor.uint16() !== central.method) throw differs("compression method");
  cursor.take(8); // time, date, checksum
  const sizes = { compressedSize: cursor.uint32(), size: cursor.uint32() };
  const nameBytes = cursor.uint16();
  const extraBytes = cursor.uint16();
  if (!sameName(cursor.take(nameBytes), central.name)) throw differs("name");
  const local = widen(sizes, cursor.take(extraBytes), region);
  const deferred = (flags & HAS_DESCRIPTOR) !== 0 && local.size === 0 && local.compressedSize === 0;
  if (!deferred && (local.size !== central.size || local.compressedSize !== central.compressedSize)) {
    throw differs("size");
  }
  const start = cursor.offset;
  cursor.take(central.compressedSize);
  return start;
}

function sameName(bytes: Uint8Array, name: string): boolean {
  const encoded = UTF8.encode(name);
  return bytes.length === encoded.length && bytes.every((byte, index) => byte === encoded[index]);
}

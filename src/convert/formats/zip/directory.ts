/**
 * The directory of a zip archive. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.6 to 4.3.16 and 4.5.3 (zip64);
 * little-endian. PyTorch stores its entries uncompressed and 64-byte aligned; archives packed again by other tools
 * are deflated. Refused: encryption, several disks, and every disagreement an attack could hide in: an entry named
 * twice, entries that overlap, a local header that differs from the central directory.
 */

import { Cursor } from "../cursor.js";
import { decodeUtf8 } from "../encodings.js";
import { corrupt, quote, type Region } from "../refusals.js";
import type { CentralEntry, ZipEntry } from "./entry.js";
import { widen } from "./extra.js";
import { checkLocalHeader } from "./local.js";

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
const END64_SIGNATURE = 0x06064b50;
const END64_LOCATOR_SIGNATURE = 0x07064b50;
const END64_LOCATOR_BYTES = 20;
const CENTRAL_SIGNATURE = 0x02014b50;
const CENTRAL_BYTES = 46;

/** Whether bytes start as a zip archive does. */
export function isZip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 0x03 && bytes[3] === 0x04;
}

/** Reads the directory: entries by name, in the archive's order. Throws `InputError`. */
export function readZipDirectory(bytes: Uint8Array, region: Region): ReadonlyMap<string, ZipEntry> {
  const { count, offset, size } = readEnd(bytes, region);
  const cursor = new Cursor(bytes, region, offset);
  const local = new Cursor(bytes, region);
  const entries: (ZipEntry & CentralEntry)[] = [];
  for (let index = 0; index < count; index++) {
    const central = readCentralEntry(cursor);
    entries.push({ ...central, start: checkLocalHeader(local, central) });
  }
  if (cursor.offset !== offset + size) {
    throw corrupt(
      region,
      `a zip directory of ${cursor.offset - offset} bytes`,
      `the ${size} bytes it declares`,
    );
  }
  checkDisjoint(entries, offset, region);

  const byName = new Map<string, ZipEntry>();
  for (const entry of entries) {
    if (byName.has(entry.name)) throw corrupt(region, `two zip entries named ${quote(entry.name)}`, "one");
    byName.set(entry.name, entry);
  }
  return byName;
}

/** Finds the central directory from the end of the file (APPNOTE 4.3.16, for zip64 4.3.14 and 4.3.15). */
function readEnd(bytes: Uint8Array, region: Region) {
  const end = findEnd(bytes, region);
  const cursor = new Cursor(bytes, region, end + 4);
  const disks = [cursor.uint16(), cursor.uint16(), cursor.uint16()] as const;
  const plain = { count: cursor.uint16(), size: cursor.uint32(), offset: cursor.uint32() };
  const directory =
    plain.count === 0xffff || plain.size === 0xffffffff || plain.offset === 0xffffffff
      ? (readZip64End(bytes, end, region) ?? plain)
      : plain;
  if (disks[0] !== 0 || disks[1] !== 0 || (disks[2] !== plain.count && directory === plain)) {
    throw corrupt(region, "one part of a zip archive in several parts", "a whole archive");
  }
  // Also bounds the number of entries by the size of the file.
  if (directory.count * CENTRAL_BYTES > directory.size || directory.offset + directory.size > end) {
    throw corrupt(
      region,
      `a zip directory of ${directory.count} entries in ${directory.size} bytes at byte ${directory.offset}`,
      `a directory before byte ${end}`,
    );
  }
  return directory;
}

function findEnd(bytes: Uint8Array, region: Region): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // The record may be followed by a comment of up to 65535 bytes.
  const first = Math.max(0, bytes.length - END_BYTES - 0xffff);
  for (let offset = bytes.length - END_BYTES; offset >= first; offset--) {
    const isEnd = view.getUint32(offset, true) === END_SIGNATURE;
    if (isEnd && offset + END_BYTES + view.getUint16(offset + 20, true) === bytes.length) return offset;
  }
  throw corrupt(region, "a zip archive without its end", "a complete file");
}

function readZip64End(bytes: Uint8Array, end: number, region: Region) {
  if (end < END64_LOCATOR_BYTES) return undefined;
  const locator = new Cursor(bytes, region, end - END64_LOCATOR_BYTES);
  if (locator.uint32() !== END64_LOCATOR_SIGNATURE) return undefined;
  locator.skip(4);
  const cursor = new Cursor(bytes, region, locator.uint64());
  if (cursor.uint32() !== END64_SIGNATURE) {
    throw corrupt(region, "a zip64 locator that points elsewhere", "the zip64 end of the directory");
  }
  cursor.skip(28);
  return { count: cursor.uint64(), size: cursor.uint64(), offset: cursor.uint64() };
}

/** One file header of the central directory (APPNOTE 4.3.12). */
function readCentralEntry(cursor: Cursor): CentralEntry {
  const { offset, region } = cursor;
  if (cursor.uint32() !== CENTRAL_SIGNATURE) {
    throw corrupt(region, `no zip directory entry at byte ${offset}`, "as many as the archive declares");
  }
  cursor.skip(4); // versions
  const flags = cursor.uint16();
  const method = cursor.uint16();
  cursor.skip(8); // time, date, checksum
  const sizes = { compressedSize: cursor.uint32(), size: cursor.uint32() };
  const nameLength = cursor.uint16();
  const extraBytes = cursor.uint16();
  const commentBytes = cursor.uint16();
  cursor.skip(8); // disk, attributes
  const headerOffset = cursor.uint32();
  const nameBytes = cursor.take(nameLength);
  const name = decodeUtf8(nameBytes);
  if (name === undefined)
    throw corrupt(region, `a zip entry name that is not UTF-8 at byte ${offset}`, "UTF-8");
  const extra = cursor.take(extraBytes);
  cursor.skip(commentBytes);
  return { name, nameBytes, method, flags, ...widen({ ...sizes, headerOffset }, extra, region) };
}

/** No byte may belong to two entries, or to an entry and the directory. */
function checkDisjoint(
  entries: readonly (ZipEntry & CentralEntry)[],
  directory: number,
  region: Region,
): void {
  const ordered = entries.toSorted((a, b) => a.headerOffset - b.headerOffset);
  ordered.forEach((entry, index) => {
    const next = ordered[index + 1];
    if (entry.start + entry.compressedSize <= (next?.headerOffset ?? directory)) return;
    const other = next === undefined ? "the directory" : quote(next.name);
    throw corrupt(region, `zip entry ${quote(entry.name)} overlapping ${other}`, "entries side by side");
  });
}

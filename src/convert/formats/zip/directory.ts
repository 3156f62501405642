/**
 * The directory of a zip archive. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.6 to 4.3.16 and 4.5.3 (zip64);
 * little-endian. PyTorch stores its entries uncompressed and 64-byte aligned; archives packed again by other tools
 * are deflated. Refused: encryption, several disks, and every disagreement an attack could hide in: an entry named
 * twice, entries that overlap, a local header that differs from the central directory.
 */

import type { ByteSource } from "../../../byte-source.js";
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

/** The names that the directory lists, for telling what an archive is; nothing else of it is checked. */
export function listZipNames(source: ByteSource, region: Region): readonly string[] {
  return readCentralEntries(source, readEnd(source, region), region).map(({ name }) => name);
}

/** Reads the directory: entries by name, in the archive's order. Throws `InputError`. */
export function readZipDirectory(source: ByteSource, region: Region): ReadonlyMap<string, ZipEntry> {
  const directory = readEnd(source, region);
  const local = new Cursor(source, region);
  const entries = readCentralEntries(source, directory, region).map((central) => ({
    ...central,
    start: checkLocalHeader(local, central),
  }));
  checkDisjoint(entries, directory.offset, region);

  const byName = new Map<string, ZipEntry>();
  for (const entry of entries) {
    if (byName.has(entry.name)) throw corrupt(region, `two zip entries named ${quote(entry.name)}`, "one");
    byName.set(entry.name, entry);
  }
  return byName;
}

/** Where the central directory is. */
interface DirectoryPlace {
  readonly count: number;
  readonly size: number;
  readonly offset: number;
}

function readCentralEntries(
  source: ByteSource,
  { count, offset, size }: DirectoryPlace,
  region: Region,
): readonly CentralEntry[] {
  const cursor = new Cursor(source, region, offset);
  const entries: CentralEntry[] = [];
  for (let index = 0; index < count; index++) entries.push(readCentralEntry(cursor));
  if (cursor.offset === offset + size) return entries;
  throw corrupt(
    region,
    `a zip directory of ${cursor.offset - offset} bytes`,
    `the ${size} bytes it declares`,
  );
}

/** Finds the central directory from the end of the file (APPNOTE 4.3.16, for zip64 4.3.14 and 4.3.15). */
function readEnd(source: ByteSource, region: Region): DirectoryPlace {
  const end = findEnd(source, region);
  const cursor = new Cursor(source, region, end + 4);
  const disks = [cursor.uint16(), cursor.uint16(), cursor.uint16()] as const;
  const plain = { count: cursor.uint16(), size: cursor.uint32(), offset: cursor.uint32() };
  const directory =
    plain.count === 0xffff || plain.size === 0xffffffff || plain.offset === 0xffffffff
      ? (readZip64End(source, end, region) ?? plain)
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

function findEnd(source: ByteSource, region: Region): number {
  // The record may be followed by a comment of up to 65535 bytes; PyTorch and numpy write none.
  for (const searched of [END_BYTES, END_BYTES + 0xffff]) {
    const start = Math.max(0, source.length - searched);
    const bytes = source.read(start, source.length);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let offset = bytes.length - END_BYTES; offset >= 0; offset--) {
      const isEnd = view.getUint32(offset, true) === END_SIGNATURE;
      if (isEnd && offset + END_BYTES + view.getUint16(offset + 20, true) === bytes.length)
        return start + offset;
    }
  }
  throw corrupt(region, "a zip archive without its end", "a complete file");
}

function readZip64End(source: ByteSource, end: number, region: Region): DirectoryPlace | undefined {
  if (end < END64_LOCATOR_BYTES) return undefined;
  const locator = new Cursor(source, region, end - END64_LOCATOR_BYTES);
  if (locator.uint32() !== END64_LOCATOR_SIGNATURE) return undefined;
  locator.skip(4);
  const cursor = new Cursor(source, region, locator.uint64());
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

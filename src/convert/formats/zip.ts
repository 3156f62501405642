import { Inflate, type Zippable, zipSync } from "fflate";
import type { ByteSource, ReadRange } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { once } from "../../core/once.js";
import type { Budget } from "./budget.js";
import { Cursor } from "./cursor.js";
import { decodeUtf8 } from "./encodings.js";
import { corrupt, quote, type Region, unsupported } from "./refusals.js";

/** One file in an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly flags: number;
  readonly compressedSize: number;
  readonly size: number;
  /** Where its data starts in the archive. */
  readonly start: number;
}

/** An entry as the central directory has it, before its data has been found. */
export interface CentralEntry extends Omit<ZipEntry, "start"> {
  readonly nameBytes: Uint8Array;
  readonly headerOffset: number;
}

const ZIP64_EXTRA = 0x0001;

/** What a 32-bit field reads when the number is in the zip64 field. */
const WIDE = 0xffffffff;

/**
 * Replaces 32-bit fields that read 0xFFFFFFFF with those of the zip64 extra field, which holds only these, in the
 * order size, compressed size, header offset (APPNOTE 4.5.3).
 */
export function widen<F extends { readonly size: number; readonly compressedSize: number }>(
  fields: F & { readonly headerOffset?: number },
  extra: Uint8Array,
  region: Region,
): F {
  if (fields.size !== WIDE && fields.compressedSize !== WIDE && fields.headerOffset !== WIDE) return fields;
  const full = { ...fields };
  const cursor = new Cursor(extra, { ...region, part: "a zip64 field" });
  while (cursor.remaining >= 4) {
    const id = cursor.uint16();
    const body = new Cursor(cursor.take(cursor.uint16()), cursor.region);
    if (id !== ZIP64_EXTRA) continue;
    for (const field of ["size", "compressedSize", "headerOffset"] as const) {
      if (full[field] === WIDE) Object.assign(full, { [field]: body.uint64() });
    }
  }
  return full;
}

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

/**
 * The directory of a zip archive. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.6 to 4.3.16 and 4.5.3 (zip64);
 * little-endian. PyTorch stores its entries uncompressed and 64-byte aligned; archives packed again by other tools
 * are deflated. Refused: encryption, several disks, and every disagreement an attack could hide in: an entry named
 * twice, entries that overlap, a local header that differs from the central directory.
 */

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

/** Compression methods (APPNOTE 4.4.5). */
const STORED = 0;
const DEFLATED = 8;

const ENCRYPTED = 0x0001;

/** Input bytes unpacked at a time: a deflate bomb, at most 1032:1, is noticed after 16 MB at the latest. */
const CHUNK_BYTES = 1 << 14;

/** The data of an entry: as it lies in the archive when it is stored, unpacked within the budget when it is deflated. */
export function readZipEntry(
  source: ByteSource,
  entry: ZipEntry,
  budget: Budget,
  region: Region,
): Uint8Array {
  return openZipEntry(source, entry, budget, region)(0, entry.size);
}

/** The same in parts: of a stored entry nothing but these is read, and a deflated one is unpacked when the first is. */
export function openZipEntry(source: ByteSource, entry: ZipEntry, budget: Budget, region: Region): ReadRange {
  if ((entry.flags & ENCRYPTED) !== 0) {
    throw unsupported(region, `an encrypted zip entry ${quote(entry.name)}`, "no encryption");
  }
  const { start, size, compressedSize } = entry;
  if (entry.method === STORED) {
    if (size !== compressedSize) throw wrongSize(region, entry, `${compressedSize} bytes`);
    return (from, to) => source.read(start + from, start + to);
  }
  if (entry.method === DEFLATED) {
    const unpacked = once(() => inflate(source.read(start, start + compressedSize), entry, budget, region));
    return (from, to) => unpacked().subarray(from, to);
  }
  throw unsupported(
    region,
    `zip entry ${quote(entry.name)} with compression method ${entry.method}`,
    "stored or deflated entries",
  );
}

function inflate(data: Uint8Array, entry: ZipEntry, budget: Budget, region: Region): Uint8Array {
  budget.spend(entry.size, `zip entry ${quote(entry.name)} unpacked`);
  const unpacked = new Uint8Array(entry.size);
  let length = 0;
  const stream = new Inflate((chunk) => {
    if (length + chunk.length > unpacked.length) throw wrongSize(region, entry, "more");
    unpacked.set(chunk, length);
    length += chunk.length;
  });
  try {
    for (let start = 0; start < data.length; start += CHUNK_BYTES) {
      stream.push(data.subarray(start, start + CHUNK_BYTES), start + CHUNK_BYTES >= data.length);
    }
  } catch (cause) {
    if (isFlateError(cause))
      throw corrupt(region, `broken compressed data in ${quote(entry.name)}`, "deflated data");
    throw cause;
  }
  if (length !== unpacked.length) throw wrongSize(region, entry, `${length} bytes`);
  return unpacked;
}

function isFlateError(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "number";
}

function wrongSize(region: Region, entry: ZipEntry, found: string): Error {
  return corrupt(
    region,
    `zip entry ${quote(entry.name)} holding ${found}`,
    `the ${entry.size} bytes it declares`,
  );
}

/**
 * Zip archives as numpy.savez and torch.save write them: entries one after the other, none compressed. The same
 * entries give the same bytes, whatever the time and its zone. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.5.
 */

/** The first day that a zip archive can state, as numpy and PyTorch write it; midnight where the program runs. */
const TIMESTAMP = new Date(1980, 0, 1);

/** Bytes of a local header besides the name, and of an extra field besides its content. */
const LOCAL_HEADER_BYTES = 30;
const EXTRA_HEADER_BYTES = 4;

/** Of the extra field that pads, as PyTorch calls it: "FB" (caffe2/serialize/inline_container.cc, `getPadding`). */
const PADDING_ID = 0x4246;

/** What the directory's 16-bit count holds; archives with more are zip64, and no network has as many tensors. */
const MAX_ENTRIES = 0xffff - 1;

/**
 * An archive of the entries, in their order.
 *
 * @param alignment a power of two: every entry's data starts at a multiple of it
 * @throws InputError (`unsupported`) for more entries than an archive can have
 */
export function encodeStoredZip(
  entries: ReadonlyMap<string, Uint8Array>,
  { subject, alignment = 1 }: { readonly subject: string; readonly alignment?: number },
): Uint8Array {
  if (entries.size > MAX_ENTRIES)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${entries.size} entries`,
      expected: `the ${MAX_ENTRIES} that a zip archive can have`,
      remedy: "write safetensors instead",
    });
  const files: Zippable = {};
  let offset = 0;
  for (const [name, data] of entries) {
    const nameEnd = offset + LOCAL_HEADER_BYTES + new TextEncoder().encode(name).length;
    const extra = alignment > 1 ? paddingField(nameEnd, alignment) : {};
    const extraBytes = Object.values(extra).reduce(
      (sum, field) => sum + EXTRA_HEADER_BYTES + field.length,
      0,
    );
    files[name] = [data, { extra }];
    offset = nameEnd + extraBytes + data.length;
  }
  return zipSync(files, { level: 0, mtime: TIMESTAMP });
}

/** The extra field that ends at a multiple of the alignment if it begins at `start`. */
function paddingField(start: number, alignment: number): Record<number, Uint8Array> {
  const content = start + EXTRA_HEADER_BYTES;
  return { [PADDING_ID]: new Uint8Array((alignment - (content % alignment)) % alignment) };
}

import { Inflate, inflateSync, type Zippable, zipSync } from "fflate/browser";
import { type ByteSource, type ReadRange, sameBytes } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { once } from "../../core/functions.js";
import { Cursor, decodeUtf8 } from "./cursor.js";
import { type Budget, corrupt, quote, type Region, unsupported } from "./refusals.js";

/**
 * Zip archives, as PyTorch and numpy read and write them. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.6 to 4.3.16
 * and 4.5.3 (zip64); little-endian. PyTorch stores its entries uncompressed and 64-byte aligned; archives repacked by
 * other tools are deflated.
 *
 * Python's zipfile, PyTorch's miniz and other readers find the directory and its entries in different ways. Anything
 * that could make them see different files is refused: a directory that does not end where its end record begins, a
 * zip64 record that is elsewhere or contradicts it, a second end record in a comment, names that are equal or become so
 * (case, NUL, backslashes, a leading slash, a second name), a local header that differs from the directory, overlapping
 * entries; also encryption, patches and several disks.
 */

/** One file in an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly flags: number;
  readonly compressedSize: number;
  readonly size: number;
  /** CRC-32 of the unpacked data. PyTorch may omit it, and it is not checked here. */
  readonly checksum: number;
  /** Offset of its data in the archive. */
  readonly start: number;
}

/** An entry of the central directory, before its data is located. */
interface CentralEntry extends Omit<ZipEntry, "start"> {
  readonly nameBytes: Uint8Array;
  readonly headerOffset: number;
}

// The directory: what an archive contains.

/** The names in the directory, to detect the content of an archive; nothing else is checked. */
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
  // PyTorch ignores the case of names.
  const names = new Set<string>();
  for (const entry of entries) {
    checkName(entry.name, region);
    const folded = entry.name.toLowerCase();
    if (byName.has(entry.name)) throw corrupt(region, `two zip entries named ${quote(entry.name)}`, "one");
    if (names.has(folded))
      throw unsupported(region, `two zip entries named ${quote(entry.name)} that differ only in case`, "one");
    names.add(folded);
    byName.set(entry.name, entry);
  }
  return byName;
}

/** In Python, names end at NUL; leading slashes, and backslashes, are interpreted differently by platform. */
function checkName(name: string, region: Region): void {
  if (name === "" || name.startsWith("/") || name.includes("\0") || name.includes("\\"))
    throw unsupported(region, `a zip entry named ${quote(name)}`, "a relative path with forward slashes");
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
    throw corrupt(
      region,
      `zip entry ${quote(entry.name)} overlapping ${other}`,
      "entries that do not overlap",
    );
  });
}

// The end record, which is searched for from the end of the file, and its entries.

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
const END64_SIGNATURE = 0x06064b50;
const END64_LOCATOR_SIGNATURE = 0x07064b50;
const END64_LOCATOR_BYTES = 20;
/** The size of the zip64 end record in its first version, without extensible data. */
const END64_BYTES = 56;
const CENTRAL_SIGNATURE = 0x02014b50;
const CENTRAL_BYTES = 46;

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
  if (disks[0] !== 0 || disks[1] !== 0 || disks[2] !== plain.count) {
    throw corrupt(region, "one part of a multi-part zip archive", "a whole archive");
  }
  const wide = readZip64End(source, end, region);
  const directory = wide ?? plain;
  const agrees = (narrow: number, full: number, saturated: number) => narrow === full || narrow === saturated;
  if (
    !agrees(plain.count, directory.count, 0xffff) ||
    !agrees(plain.size, directory.size, WIDE) ||
    !agrees(plain.offset, directory.offset, WIDE)
  )
    throw corrupt(region, "two conflicting end records of the zip directory", "one directory");
  // Also bounds the number of entries by the size of the file.
  const directoryEnd = wide === undefined ? end : end - END64_LOCATOR_BYTES - END64_BYTES;
  if (
    directory.count * CENTRAL_BYTES > directory.size ||
    directory.offset + directory.size !== directoryEnd
  ) {
    throw corrupt(
      region,
      `a zip directory of ${directory.count} entries in ${directory.size} bytes at byte ${directory.offset}`,
      `a directory that ends at byte ${directoryEnd}`,
    );
  }
  return directory;
}

/** The last end record, which every reader uses, if its comment reaches the end of the file. */
function findEnd(source: ByteSource, region: Region): number {
  // The record may be followed by a comment of up to 65535 bytes; PyTorch and numpy write none.
  for (const searched of [END_BYTES, END_BYTES + 0xffff]) {
    const start = Math.max(0, source.length - searched);
    const bytes = source.read(start, source.length);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let offset = bytes.length - END_BYTES; offset >= 0; offset--) {
      if (view.getUint32(offset, true) !== END_SIGNATURE) continue;
      if (offset + END_BYTES + view.getUint16(offset + 20, true) === bytes.length) return start + offset;
      throw corrupt(region, "data after the end of the zip archive", "a complete file");
    }
  }
  throw corrupt(region, "a zip archive without its end record", "a complete file");
}

function readZip64End(source: ByteSource, end: number, region: Region): DirectoryPlace | undefined {
  if (end < END64_LOCATOR_BYTES) return undefined;
  const locator = new Cursor(source, region, end - END64_LOCATOR_BYTES);
  if (locator.uint32() !== END64_LOCATOR_SIGNATURE) return undefined;
  const disk = locator.uint32();
  const at = locator.uint64();
  const disks = locator.uint32();
  // Some readers follow the locator, others look directly before it.
  if (at !== end - END64_LOCATOR_BYTES - END64_BYTES)
    throw corrupt(
      region,
      "a zip64 locator that points elsewhere",
      "the zip64 end of the directory before it",
    );
  const cursor = new Cursor(source, region, at);
  if (cursor.uint32() !== END64_SIGNATURE || cursor.uint64() !== END64_BYTES - 12)
    throw corrupt(
      region,
      "a zip64 locator that points elsewhere",
      "the zip64 end of the directory before it",
    );
  cursor.skip(4); // versions
  const parts = [disk, cursor.uint32(), cursor.uint32()];
  const counted = cursor.uint64();
  if (parts.some((part) => part !== 0) || disks > 1 || counted !== cursor.uint64())
    throw corrupt(region, "one part of a multi-part zip archive", "a whole archive");
  cursor.seek(cursor.offset - 8);
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
  cursor.skip(4); // time, date
  const checksum = cursor.uint32();
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
  // Without the flag, Python reads code page 437.
  if ((flags & UTF8_NAME) === 0 && nameBytes.some((byte) => byte > 0x7f))
    throw unsupported(
      region,
      `a zip entry name in an unknown encoding at byte ${offset}`,
      "a name flagged as UTF-8",
    );
  if ((flags & ENCRYPTED) !== 0)
    throw unsupported(region, `an encrypted zip entry ${quote(name)}`, "no encryption");
  if ((flags & PATCHED) !== 0)
    throw unsupported(region, `a zip entry ${quote(name)} that is a patch`, "whole entries");
  const extra = cursor.take(extraBytes);
  cursor.skip(commentBytes);
  return { name, nameBytes, method, flags, checksum, ...widen({ ...sizes, headerOffset }, extra, region) };
}

// Local headers, which other readers trust instead of the directory: the two must agree.

const LOCAL_SIGNATURE = 0x04034b50;

/** Flags that change how an entry is read: encryption of three kinds, patches; and UTF-8 names (APPNOTE 4.4.4). */
const ENCRYPTED = 0x2041;
const PATCHED = 0x0020;
const UTF8_NAME = 0x0800;

/** Sizes follow the data, and the local header need not have them (APPNOTE 4.4.4, bit 3). */
const HAS_DESCRIPTOR = 0x0008;

/**
 * Checks an entry's local header (APPNOTE 4.3.7) against the central directory and returns the offset of its data. The
 * cursor is one over the whole archive. Readers that trust one and readers that trust the other must see the same file.
 */
function checkLocalHeader(cursor: Cursor, central: CentralEntry): number {
  const { region } = cursor;
  cursor.seek(central.headerOffset);
  const differs = (what: string) =>
    corrupt(
      region,
      `zip entry ${quote(central.name)} with a different ${what} in its local header, at byte ${central.headerOffset}`,
      "the same as in the directory",
    );
  if (cursor.uint32() !== LOCAL_SIGNATURE) throw differs("signature");
  cursor.skip(2); // version
  const flags = cursor.uint16();
  if (((flags ^ central.flags) & (ENCRYPTED | PATCHED | UTF8_NAME)) !== 0) throw differs("set of flags");
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

// Sizes and offsets beyond 32 bits.

const ZIP64_EXTRA = 0x0001;

/** Info-ZIP's field of another name for the entry, which Python takes and PyTorch does not (APPNOTE 4.6.9). */
const UNICODE_PATH_EXTRA = 0x7075;
/** The value of a 32-bit field whose number is in the zip64 field. */
const WIDE = 0xffffffff;

/**
 * Replaces 32-bit fields with the value 0xFFFFFFFF by those of the zip64 extra field, which contains only these, in the
 * order size, compressed size, header offset (APPNOTE 4.5.3).
 */
function widen<F extends { readonly size: number; readonly compressedSize: number }>(
  fields: F & { readonly headerOffset?: number },
  extra: Uint8Array,
  region: Region,
): F {
  if (extra.length === 0) return fields;
  const full = { ...fields };
  let widened = false;
  const cursor = new Cursor(extra, { ...region, part: "a zip64 field" });
  while (cursor.remaining >= 4) {
    const id = cursor.uint16();
    const body = new Cursor(cursor.take(cursor.uint16()), cursor.region);
    if (id === UNICODE_PATH_EXTRA) throw unsupported(region, "a zip entry with two names", "one name");
    if (id !== ZIP64_EXTRA) continue;
    if (widened) throw corrupt(region, "a zip entry with two zip64 fields", "one");
    widened = true;
    for (const field of ["size", "compressedSize", "headerOffset"] as const) {
      if (full[field] === WIDE) Object.assign(full, { [field]: body.uint64() });
    }
  }
  return full;
}

// An entry's data.

/** Compression methods (APPNOTE 4.4.5). */
export const STORED = 0;
const DEFLATED = 8;

/** Input bytes unpacked at a time: a deflate bomb, at most 1032:1, is noticed after 16 MB at the latest. */
const CHUNK_BYTES = 1 << 14;

/** The data of an entry: a view if it is stored, unpacked within the budget if it is deflated. */
export function readZipEntry(
  source: ByteSource,
  entry: ZipEntry,
  budget: Budget,
  region: Region,
): Uint8Array {
  return openZipEntry(source, entry, budget, region)(0, entry.size);
}

/**
 * The same in parts: from a stored entry only the requested bytes are read; a deflated one is inflated on the first
 * request.
 */
export function openZipEntry(source: ByteSource, entry: ZipEntry, budget: Budget, region: Region): ReadRange {
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
  // A byte more than it declares, so that more is noticed.
  const unpacked = new Uint8Array(entry.size + 1);
  let length = 0;
  const stream = new Inflate((chunk) => {
    if (length + chunk.length > entry.size) throw wrongSize(region, entry, "more");
    unpacked.set(chunk, length);
    length += chunk.length;
  });
  try {
    // An array of a recording, of which there are hundreds: a stream would allocate 200 KB for each.
    if (0 < data.length && data.length <= CHUNK_BYTES) length = inflateSync(data, { out: unpacked }).length;
    else
      for (let start = 0; start < data.length; start += CHUNK_BYTES)
        stream.push(data.subarray(start, start + CHUNK_BYTES), start + CHUNK_BYTES >= data.length);
  } catch (cause) {
    if (cause instanceof RangeError) throw wrongSize(region, entry, "more");
    if (isFlateError(cause))
      throw corrupt(region, `broken compressed data in ${quote(entry.name)}`, "deflated data");
    throw cause;
  }
  if (length !== entry.size) throw wrongSize(region, entry, length > entry.size ? "more" : `${length} bytes`);
  return unpacked.subarray(0, length);
}

function isFlateError(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "number";
}

function wrongSize(region: Region, entry: ZipEntry, found: string): Error {
  return corrupt(
    region,
    `zip entry ${quote(entry.name)} containing ${found}`,
    `the ${entry.size} bytes it declares`,
  );
}

// Writing: entries are stored in order and with a fixed date, so that the same entries give the same bytes.

/** The earliest date of zip archives, as numpy and PyTorch write it; midnight in local time. */
const TIMESTAMP = new Date(1980, 0, 1);

/** Bytes of a local header without its name, and of an extra field without its content. */
const LOCAL_HEADER_BYTES = 30;
const EXTRA_HEADER_BYTES = 4;

/** The extra field for padding, as in PyTorch: "FB" (caffe2/serialize/inline_container.cc, `getPadding`). */
const PADDING_ID = 0x4246;

/** The maximum of the directory's 16-bit count; archives with more are zip64, and no network has as many tensors. */
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

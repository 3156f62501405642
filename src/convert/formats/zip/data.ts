import { Inflate } from "fflate";
import type { ByteSource, ReadRange } from "../../../byte-source.js";
import { once } from "../../../once.js";
import type { Budget } from "../budget.js";
import { corrupt, quote, type Region, unsupported } from "../refusals.js";
import type { ZipEntry } from "./entry.js";

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

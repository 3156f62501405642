import { Inflate } from "fflate";
import type { Budget } from "../budget.js";
import { corrupt, quote, type Region, unsupported } from "../refusals.js";
import type { ZipEntry } from "./entry.js";

/** Compression methods (APPNOTE 4.4.5). */
const STORED = 0;
const DEFLATED = 8;

const ENCRYPTED = 0x0001;

/** Input bytes unpacked at a time: a deflate bomb, at most 1032:1, is noticed after 16 MB at the latest. */
const CHUNK_BYTES = 1 << 14;

/** The data of an entry: a view when it is stored, unpacked within the budget when it is deflated. */
export function readZipEntry(bytes: Uint8Array, entry: ZipEntry, budget: Budget, region: Region): Uint8Array {
  if ((entry.flags & ENCRYPTED) !== 0) {
    throw unsupported(region, `an encrypted zip entry ${quote(entry.name)}`, "no encryption");
  }
  const data = bytes.subarray(entry.start, entry.start + entry.compressedSize);
  if (entry.method === STORED) {
    if (entry.size !== entry.compressedSize) throw wrongSize(region, entry, `${entry.compressedSize} bytes`);
    return data;
  }
  if (entry.method === DEFLATED) return inflate(data, entry, budget, region);
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

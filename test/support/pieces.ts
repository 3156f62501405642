import { type ByteSource, expectInside } from "../../src/core/bytes.js";

/** Bytes as a file has them: every read is a copy, and counted. */
export interface Pieces extends ByteSource {
  /** The bytes read so far. */
  readonly taken: number;
}

export function inPieces(bytes: Uint8Array): Pieces {
  let taken = 0;
  let loaded = false;
  return {
    length: bytes.length,
    get taken() {
      return taken;
    },
    get loaded() {
      return loaded;
    },
    read(start, end) {
      expectInside(start, end, bytes.length);
      taken += loaded ? 0 : end - start;
      return loaded ? bytes.subarray(start, end) : bytes.slice(start, end);
    },
    load() {
      taken += loaded ? 0 : bytes.length;
      loaded = true;
    },
    sha256: () => Promise.reject(new Error("not asked for")),
  };
}

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { type ByteSource, expectInside } from "../core/bytes.js";
import { InputError } from "../core/errors.js";

/** Read at a time for a digest, and the most that is read ahead of small pieces. */
const CHUNK_BYTES = 4 << 20;
const AHEAD_BYTES = 256 << 10;

/** What workers have and windows do not, and Node's types neither. */
interface SyncReader {
  /** Reads a blob at once, where the thread may wait for it. */
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

/** Whether a file can be read where it is needed: only a worker may wait for the disk. */
export function canReadRanges(): boolean {
  return "FileReaderSync" in globalThis;
}

/**
 * A file that a user chose, read where it is needed, as `FileSource` reads one on the disk: of a checkpoint with its
 * optimizer's state, no more than the weights. In a worker only (`canReadRanges`).
 *
 * Readers ask for a few bytes hundreds of times, and each question goes through the browser's own process: behind a
 * small piece, what follows is read with it.
 */
export class BlobSource implements ByteSource {
  /** Size of the file in bytes, as it was when it was chosen. */
  readonly length: number;
  readonly #name: string;
  readonly #blob: Blob;
  readonly #reader: SyncReader;
  #all: Uint8Array | undefined;
  #ahead: { readonly start: number; readonly bytes: Uint8Array } | undefined;
  #digest: string | undefined;

  /** @param name what messages call the file */
  constructor(name: string, blob: Blob) {
    this.#name = name;
    this.#blob = blob;
    this.length = blob.size;
    const { FileReaderSync } = globalThis as unknown as { readonly FileReaderSync: new () => SyncReader };
    this.#reader = new FileReaderSync();
  }

  /** Whether `load` has read it all. */
  get loaded(): boolean {
    return this.#all !== undefined;
  }

  /**
   * The bytes from `start` to before `end`: a copy, until all are loaded.
   *
   * @throws RangeError if they do not lie inside; InputError (`file`) if the file has changed since it was chosen, or is gone
   */
  read(start: number, end: number): Uint8Array {
    expectInside(start, end, this.length);
    if (this.#all) return this.#all.subarray(start, end);
    if (end - start >= AHEAD_BYTES) return this.#readNow(start, end);
    const known = this.#ahead;
    if (known && known.start <= start && end <= known.start + known.bytes.length)
      return known.bytes.slice(start - known.start, end - known.start);
    const bytes = this.#readNow(start, Math.min(start + AHEAD_BYTES, this.length));
    this.#ahead = { start, bytes };
    return bytes.slice(0, end - start);
  }

  /** Reads the whole file into memory. @throws InputError (`file`) if it has changed since it was chosen, or is gone */
  load(): void {
    this.#all ??= this.#readNow(0, this.length);
    this.#ahead = undefined;
  }

  /** In pieces: Web Crypto takes no more than a whole file at once. */
  async sha256(): Promise<string> {
    if (this.#digest !== undefined) return this.#digest;
    const hash = sha256.create();
    for (let start = 0; start < this.length; start += CHUNK_BYTES)
      hash.update(this.read(start, Math.min(start + CHUNK_BYTES, this.length)));
    this.#digest = bytesToHex(hash.digest());
    return this.#digest;
  }

  #readNow(start: number, end: number): Uint8Array {
    try {
      return new Uint8Array(this.#reader.readAsArrayBuffer(this.#blob.slice(start, end)));
    } catch (cause) {
      throw unreadable(this.#name, cause);
    }
  }
}

/** A whole file; @throws InputError (`file`) if it cannot be read any more */
export async function readWhole(name: string, blob: Blob): Promise<Uint8Array> {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (cause) {
    throw unreadable(name, cause);
  }
}

function unreadable(name: string, cause: unknown): InputError {
  return new InputError(
    {
      code: "file",
      subject: name,
      found: "a file that the browser cannot read, or that has changed since it was chosen",
      expected: "the file as it was",
      remedy: "choose it again",
    },
    { cause },
  );
}

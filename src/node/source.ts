import { createHash } from "node:crypto";
import { closeSync, readSync } from "node:fs";
import { type ByteSource, expectInside } from "../core/bytes.js";
import { describe, fileError } from "./errors.js";

/** Is told how many bytes of a file were read so far; `total` is undefined where nobody knows. */
export type ReadProgress = (done: number, total: number | undefined) => void;

/** Read at a time: between two such reads progress is told, and as much memory does a digest take. */
const CHUNK_BYTES = 4 << 20;

/** An open file, read where it is needed; whoever opened it closes it. */
export class FileSource implements ByteSource {
  readonly length: number;
  readonly #name: string;
  readonly #descriptor: number;
  readonly #onProgress: ReadProgress | undefined;
  #all: Uint8Array | undefined;
  #done = 0;

  /** @param descriptor of a plain file of `length` bytes */
  constructor(name: string, descriptor: number, length: number, onProgress?: ReadProgress) {
    this.#name = name;
    this.#descriptor = descriptor;
    this.length = length;
    this.#onProgress = onProgress;
  }

  get loaded(): boolean {
    return this.#all !== undefined;
  }

  /** @throws InputError (`file`) if the file has become shorter, or cannot be read any more */
  read(start: number, end: number): Uint8Array {
    expectInside(start, end, this.length);
    if (this.#all) return this.#all.subarray(start, end);
    const bytes = new Uint8Array(end - start);
    this.#fill(bytes, start);
    return bytes;
  }

  load(): void {
    this.#all ??= this.read(0, this.length);
  }

  async sha256(): Promise<string> {
    const hash = createHash("sha256");
    if (this.#all) return hash.update(this.#all).digest("hex");
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, this.length));
    this.#done = 0;
    for (let start = 0; start < this.length; start += chunk.length) {
      const part = chunk.subarray(0, this.length - start);
      this.#fill(part, start);
      hash.update(part);
    }
    return hash.digest("hex");
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #fill(bytes: Uint8Array, start: number): void {
    for (let filled = 0; filled < bytes.length; ) {
      const wanted = Math.min(bytes.length - filled, CHUNK_BYTES);
      const count = this.#read(bytes, filled, wanted, start + filled);
      if (count === 0)
        throw fileError(
          this.#name,
          `an end at byte ${start + filled}`,
          `the ${this.length} bytes that it had`,
          "wait until it is written, and try again",
        );
      filled += count;
      this.#done += count;
      this.#onProgress?.(this.#done, this.length);
    }
  }

  #read(bytes: Uint8Array, offset: number, count: number, position: number): number {
    try {
      return readSync(this.#descriptor, bytes, offset, count, position);
    } catch (cause) {
      throw fileError(this.#name, describe(cause), "a file that can be read", "check the disk", cause);
    }
  }
}

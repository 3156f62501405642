import { corrupt, position, type Region } from "./refusals.js";

/**
 * A position in bytes that can only move inside them: every read is checked, so a short or lying file ends in an
 * `InputError` with the byte offset, never in a RangeError. Numbers are little-endian unless named otherwise.
 */
export class Cursor {
  readonly region: Region;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset: number;

  constructor(bytes: Uint8Array, region: Region, offset = 0) {
    this.region = region;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#offset = 0;
    this.seek(offset);
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  seek(offset: number): void {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > this.#bytes.length) {
      throw corrupt(
        this.region,
        `a reference to ${position(this.region, offset)}`,
        `an offset within its ${this.#bytes.length} bytes`,
      );
    }
    this.#offset = offset;
  }

  /** The next `count` bytes, as a view: nothing is copied or allocated. */
  take(count: number): Uint8Array {
    const start = this.#advance(count);
    return this.#bytes.subarray(start, start + count);
  }

  skip(count: number): void {
    this.#advance(count);
  }

  /** The bytes up to the next line feed, which is consumed and not returned. */
  takeLine(): Uint8Array {
    const end = this.#bytes.indexOf(0x0a, this.#offset);
    if (end < 0) {
      throw corrupt(
        this.region,
        `no end to the line at ${position(this.region, this.#offset)}`,
        "a complete file",
      );
    }
    const line = this.#bytes.subarray(this.#offset, end);
    this.#offset = end + 1;
    return line;
  }

  uint8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  uint16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  /** A 64-bit size or offset. Above 2^53 no file can mean it, and a number could not hold it. */
  uint64(): number {
    const start = this.#advance(8);
    const value = this.#view.getBigUint64(start, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw corrupt(
        this.region,
        `the size ${value} at ${position(this.region, start)}`,
        "a size that a file can have",
      );
    }
    return Number(value);
  }

  float64BigEndian(): number {
    return this.#view.getFloat64(this.#advance(8), false);
  }

  /** Moves past `count` bytes and returns where they start. */
  #advance(count: number): number {
    const start = this.#offset;
    // Counts come from files too: a negative one would go back, NaN pass every comparison.
    if (!Number.isSafeInteger(count) || count < 0) {
      throw corrupt(this.region, `${count} bytes at ${position(this.region, start)}`, "a number of bytes");
    }
    if (count > this.remaining) {
      throw corrupt(
        this.region,
        `${this.remaining} bytes left where ${count} should follow at ${position(this.region, start)}`,
        "a complete file",
      );
    }
    this.#offset = start + count;
    return start;
  }
}

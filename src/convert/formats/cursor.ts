import { type ByteSource, type Bytes, type ReadRange, toSource } from "../../core/bytes.js";
import { corrupt, position, type Region } from "./refusals.js";

/**
 * Bytes read ahead from a file: few after a jump, where often only a header is needed, and twice as many each time
 * reading continues.
 */
const MIN_AHEAD = 256;
const MAX_AHEAD = 1 << 16;

const NOTHING = new Uint8Array(0);

const LINE_FEED = 0x0a;

/**
 * A position in bytes that can only move inside them: every read is checked, so a truncated or malicious file ends in
 * an `InputError` with the byte offset, never in a RangeError. Numbers are little-endian unless named otherwise.
 */
export class Cursor {
  readonly region: Region;
  readonly #source: ByteSource;
  /** The part of the source in memory: all of it, or what was read ahead, which begins at byte `#base`. */
  #window: Uint8Array = NOTHING;
  #view: DataView = viewOf(NOTHING);
  #base = 0;
  /** The position in the window. */
  #at = 0;
  #ahead = MIN_AHEAD;

  constructor(bytes: Bytes, region: Region, offset = 0) {
    this.region = region;
    this.#source = toSource(bytes);
    if (this.#source.loaded) this.#readAhead(0, this.#source.length);
    this.seek(offset);
  }

  get offset(): number {
    return this.#base + this.#at;
  }

  get remaining(): number {
    return this.#source.length - this.offset;
  }

  seek(offset: number): void {
    const { length } = this.#source;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > length) {
      throw corrupt(
        this.region,
        `a reference to ${position(this.region, offset)}`,
        `an offset within its ${length} bytes`,
      );
    }
    if (offset >= this.#base && offset <= this.#base + this.#window.length) {
      this.#at = offset - this.#base;
      return;
    }
    this.#readAhead(offset, 0);
    this.#ahead = MIN_AHEAD;
  }

  /** The next `count` bytes, as a view over those in memory. */
  take(count: number): Uint8Array {
    const start = this.#advance(count);
    return this.#window.subarray(start, start + count);
  }

  skip(count: number): void {
    this.#expect(count);
    this.seek(this.offset + count);
  }

  /** Skips the next `count` bytes, which may be read later. */
  defer(count: number): ReadRange {
    const start = this.offset;
    this.skip(count);
    return (from, to) => this.#source.read(start + from, start + to);
  }

  /** The bytes up to the next line feed, which is consumed but not returned. */
  takeLine(): Uint8Array {
    for (;;) {
      const end = this.#window.indexOf(LINE_FEED, this.#at);
      if (end >= 0) {
        const line = this.#window.subarray(this.#at, end);
        this.#at = end + 1;
        return line;
      }
      const searched = this.#window.length - this.#at;
      if (searched === this.remaining) break;
      this.#readAhead(this.offset, Math.max(MIN_AHEAD, 2 * searched));
    }
    throw corrupt(
      this.region,
      `an unterminated line at ${position(this.region, this.offset)}`,
      "a complete file",
    );
  }

  uint8(): number {
    const start = this.#advance(1);
    return this.#view.getUint8(start);
  }

  uint16(): number {
    const start = this.#advance(2);
    return this.#view.getUint16(start, true);
  }

  int32(): number {
    const start = this.#advance(4);
    return this.#view.getInt32(start, true);
  }

  uint32(): number {
    const start = this.#advance(4);
    return this.#view.getUint32(start, true);
  }

  /** A 64-bit size or offset, at most 2^53, since numbers above are not exact. */
  uint64(): number {
    const { offset } = this;
    const start = this.#advance(8);
    const value = this.#view.getBigUint64(start, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw corrupt(this.region, `the size ${value} at ${position(this.region, offset)}`, "a valid size");
    }
    return Number(value);
  }

  float64BigEndian(): number {
    const start = this.#advance(8);
    return this.#view.getFloat64(start, false);
  }

  /** Moves past `count` bytes, which are then in memory, and returns their position in the window. */
  #advance(count: number): number {
    const start = this.#at;
    // False for NaN, and for a negative count: counts come from files too.
    if (count >= 0 && start + count <= this.#window.length && Number.isSafeInteger(count)) {
      this.#at = start + count;
      return start;
    }
    this.#expect(count);
    this.#readAhead(this.offset, Math.max(count, this.#ahead));
    this.#ahead = Math.min(2 * this.#ahead, MAX_AHEAD);
    this.#at = count;
    return 0;
  }

  /** @throws InputError (`format`) if fewer than `count` bytes are left */
  #expect(count: number): void {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw corrupt(
        this.region,
        `${count} bytes at ${position(this.region, this.offset)}`,
        "a number of bytes",
      );
    }
    if (count > this.remaining) {
      throw corrupt(
        this.region,
        `${this.remaining} bytes left where ${count} should follow at ${position(this.region, this.offset)}`,
        "a complete file",
      );
    }
  }

  /** Sets the window, of `count` bytes or up to the end, and the position to `offset`. */
  #readAhead(offset: number, count: number): void {
    this.#window = this.#source.read(offset, Math.min(offset + count, this.#source.length));
    this.#view = viewOf(this.#window);
    this.#base = offset;
    this.#at = 0;
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** Bytes to text and back: the two encodings that pickles and zip directories use. */

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text, or undefined if the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** One character for each byte. Not TextDecoder's "latin1", which is windows-1252. */
export function decodeLatin1(bytes: Uint8Array): string {
  const pieces: string[] = [];
  for (let start = 0; start < bytes.length; start += 8192) {
    pieces.push(String.fromCharCode(...bytes.subarray(start, start + 8192)));
  }
  return pieces.join("");
}

/** The bytes of a string of characters up to U+00FF; undefined if it contains others. */
export function encodeLatin1(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code > 0xff) return undefined;
    bytes[index] = code;
  }
  return bytes;
}

/** SHA-256 of bytes as 64 hexadecimal digits, by the platform's own implementation (FIPS 180-4, Web Crypto). */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Bytes that are read on demand. Most of a checkpoint may be its optimizer's state, which is then never read from the
 * file. Synchronous, so that readers are plain functions.
 */
export interface ByteSource {
  /** Number of bytes. */
  readonly length: number;
  /** Whether all bytes are in memory. Then `read` returns views of them, otherwise copies. */
  readonly loaded: boolean;
  /**
   * The bytes from `start` to before `end`, which must not be modified.
   *
   * @throws RangeError if they are out of range
   */
  read(start: number, end: number): Uint8Array;
  /** Reads everything at once: faster than in parts if most is needed. */
  load(): void;
  /** The SHA-256 of all bytes, 64 hexadecimal digits. */
  sha256(): Promise<string>;
}

/** Bytes in memory, or read on demand. */
export type Bytes = Uint8Array | ByteSource;

/** Files beside a file, by their paths from its folder: a map of them, or a reader of that folder. */
export interface FilesBeside {
  /**
   * The bytes of one file, in memory or read on demand; undefined if there is none.
   *
   * @throws InputError (`file`) if it is not a regular file, or cannot be read
   */
  get(path: string): Bytes | undefined;
}

/** A file with the files beside it, and its name in reports and messages. */
export interface NamedBytes {
  /** The file's name, or that of a TensorFlow.js model's folder. */
  readonly name: string;
  /** The file's content; the `model.json` of a TensorFlow.js model. */
  readonly bytes: Bytes;
  /** The weight files that it refers to: an ONNX model's external data, or a TensorFlow.js model's shards. */
  readonly beside?: FilesBeside;
  /** The file's path, if it is on disk: onnxruntime then opens an ONNX file itself, with its external data. */
  readonly path?: string;
}

/** Reads bytes from `start` to before `end` of some part of a file. */
export type ReadRange = (start: number, end: number) => Uint8Array;

/** One interface for both. */
export function toSource(bytes: Bytes): ByteSource {
  if (!(bytes instanceof Uint8Array)) return bytes;
  // A Node Buffer's slice() shares memory where a Uint8Array's copies.
  const plain = bytesOf(bytes);
  return {
    length: plain.length,
    loaded: true,
    read(start, end) {
      expectInside(start, end, plain.length);
      return plain.subarray(start, end);
    },
    load: () => undefined,
    sha256: () => sha256(plain),
  };
}

/** The bytes of a typed array, sharing its memory. */
export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** All parts, concatenated; a single one is returned unchanged. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only) return only;
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** A part of a source, read through it. */
export function sliceOf(source: ByteSource, start: number, length: number): ByteSource {
  return {
    length,
    get loaded() {
      return source.loaded;
    },
    read(from, to) {
      expectInside(from, to, length);
      return source.read(start + from, start + to);
    },
    load: () => source.load(),
    sha256: async () => sha256(source.read(start, start + length)),
  };
}

/** All bytes, for readers that need them together. */
export function toBytes(bytes: Bytes): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes;
  bytes.load();
  return bytes.read(0, bytes.length);
}

/** The first bytes, at most `count`, for detecting formats. */
export function headOf(source: ByteSource, count: number): Uint8Array {
  return source.read(0, Math.min(count, source.length));
}

/** @throws RangeError if a range exceeds `length` bytes, which is a bug in a reader, not in a file */
export function expectInside(start: number, end: number, length: number): void {
  if (!(0 <= start && start <= end && end <= length))
    throw new RangeError(`bytes ${start} to ${end} of ${length}`);
}

/**
 * A port without a listener: buffers transferred to it are released immediately, without waiting for the garbage
 * collector.
 */
let nowhere: InstanceType<typeof MessagePort> | undefined;

/**
 * Releases an array's memory at once, instead of waiting for the garbage collector. The array is empty afterwards.
 * Shared memory, and buffers larger than the array, are kept.
 */
export function discard({ buffer, byteLength }: ArrayBufferView): void {
  // Browsers refuse to transfer what is released already.
  const isReleased = byteLength === 0;
  if (isReleased || !(buffer instanceof ArrayBuffer) || buffer.byteLength !== byteLength) return;
  if (!nowhere) {
    const { port1, port2 } = new MessageChannel();
    port2.close();
    nowhere = port1;
  }
  nowhere.postMessage(undefined, [buffer]);
}

import { closeSync, lstatSync, openSync, readFileSync, readSync, realpathSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import {
  type ByteSource,
  type Bytes,
  expectInside,
  type FilesBeside,
  toBytes,
  toSource,
} from "../core/bytes.js";
import { InputError } from "../core/errors.js";

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EISDIR: "is a folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "read-only file system",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is exceeded",
  EFBIG: "the file size limit is exceeded",
  ENOTDIR: "part of the path is not a folder",
};

/** Why the system could not use a file, as a clause. */
export function describe(cause: unknown): string {
  const code = (cause as { readonly code?: string }).code ?? "";
  return DESCRIPTIONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
}

/** A file or folder that is not what it should be: code `file`. */
export function fileError(subject: string, found: string, expected: string, remedy: string): InputError {
  return new InputError({ code: "file", subject, found, expected, remedy });
}

/** A file or folder that cannot be used, for the reason that a clause gives: code `file`. */
export function unusable(subject: string, reason: string, remedy: string, cause?: unknown): InputError {
  return new InputError({ code: "file", subject, found: reason, remedy }, { cause });
}

/** Node reads no more than this into one buffer; the largest OSNet checkpoint with optimizer state is under 100 MB. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/** Larger files beside a model are read in parts, on demand. */
const WHOLE_SIDECAR_BYTES = 64 * 2 ** 20;

/** Reading this much from a slow disk takes long enough to show progress. */
const PROGRESS_BYTES = 50e6;

/** Is called with the number of bytes read so far; `total` is undefined if unknown. */
export type ReadProgress = (done: number, total: number | undefined) => void;

/** A file to read, in parts or as a whole, until it is closed. */
interface OpenInput extends ByteSource {
  close(): void;
}

/** Options for reading a file. */
interface ReadOptions {
  /** Called for large files only. */
  readonly onProgress?: ReadProgress;
  /** Bytes that are read at most. Default: 2 GiB. */
  readonly most?: number;
  /** The source of `-`. Default: the process's standard input. */
  readonly stdin?: AsyncIterable<Uint8Array>;
  /**
   * Whether a file that is loaded as a whole is in memory that threads share, so that they need no copies of its tensors.
   * onnxruntime and Web Crypto refuse such memory. Default: false.
   */
  readonly isShared?: boolean;
}

/**
 * Opens a file, or reads standard input for `-`. Pipes and other special files are read as a whole.
 *
 * @throws InputError (`file`) if it does not exist, is a folder, is larger than 2 GiB, or cannot be read
 */
export async function openInput(path: string, options: ReadOptions = {}): Promise<OpenInput> {
  if (path === "-") return inMemory(await readStandardInput(options));
  const subject = basename(path);
  try {
    const found = await stat(path);
    const { size } = found;
    const { most = MAX_FILE_BYTES } = options;
    if (size > most)
      throw most === MAX_FILE_BYTES
        ? fileError(subject, `${size} bytes`, "at most 2 GiB", "pass the checkpoint itself")
        : fileError(subject, `${size} bytes`, `at most ${most}`, "use a smaller file");
    if (!found.isFile()) return inMemory(await readFile(path));
    return new FileSource(subject, openSync(path, "r"), size, {
      ...(size >= PROGRESS_BYTES && options.onProgress ? { onProgress: options.onProgress } : {}),
      ...(options.isShared ? { isShared: true } : {}),
    });
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw unusable(path || '""', describe(cause), "check the path", cause);
  }
}

/**
 * Reads a file, or standard input for `-`.
 *
 * @throws InputError as `openInput` does
 */
export async function readInput(path: string, options: ReadOptions = {}): Promise<Uint8Array> {
  const input = await openInput(path, options);
  try {
    return toBytes(input);
  } finally {
    input.close();
  }
}

function inMemory(bytes: Uint8Array): OpenInput {
  return { ...toSource(bytes), close: () => undefined };
}

async function readStandardInput({ stdin = process.stdin, onProgress }: ReadOptions): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let done = 0;
  for await (const chunk of stdin) {
    chunks.push(chunk);
    done += chunk.length;
    if (done >= PROGRESS_BYTES) onProgress?.(done, undefined);
  }
  return Buffer.concat(chunks);
}

/** Whether a path is a folder's. */
export async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** A file of this package's own, if it is one that can be read: no link, no pipe, no device is opened. */
export function readRegularFile(path: string): Uint8Array | undefined {
  try {
    const found = lstatSync(path);
    return found.isFile() && found.size <= MAX_FILE_BYTES ? readFileSync(path) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Reads the files beside a model, by their paths relative to its folder, which the caller has checked: an ONNX file may
 * have its weights there. Only regular files in regular folders are read: a link could lead anywhere. One is followed that leads to
 * a file beside the model's own, as in Hugging Face's cache, where the model and its weights are links to the same folder.
 *
 * @returns a reader that returns undefined for a file that does not exist, and a source of parts for a large one
 * @throws InputError (`file`), from the reader, for anything but a regular file, or if it cannot be read
 */
export function filesBeside(model: string): FilesBeside {
  const contents = new Map<string, Bytes | undefined>();
  return {
    get(name) {
      if (!contents.has(name)) contents.set(name, readSidecar(model, name));
      return contents.get(name);
    },
  };
}

function readSidecar(model: string, name: string): Bytes | undefined {
  const refuse = (found: string): InputError =>
    fileError(name, found, "a regular file beside the model", "copy the file itself into the model's folder");
  try {
    let path = dirname(model);
    let size = 0;
    for (const [index, part] of name.split("/").entries()) {
      path = join(path, part);
      const linked = lstatSync(path, { throwIfNoEntry: false });
      if (linked?.isSymbolicLink()) path = besideItself(model, path) ?? path;
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (!found) return undefined;
      const isLast = index === name.split("/").length - 1;
      if (found.isSymbolicLink()) throw refuse("a link");
      if (isLast ? !found.isFile() : !found.isDirectory())
        throw refuse(isLast ? "something other than a file" : "something other than a folder");
      size = found.size;
    }
    return size > WHOLE_SIDECAR_BYTES ? partsOf(path, name, size) : readFileSync(path);
  } catch (cause) {
    throw cause instanceof InputError ? cause : unusable(name, describe(cause), "check the file", cause);
  }
}

/** The target of a link, if it is a file in the folder of the model's own target. */
function besideItself(model: string, link: string): string | undefined {
  try {
    const target = realpathSync(link);
    return dirname(target) === dirname(realpathSync(model)) ? target : undefined;
  } catch {
    return undefined;
  }
}

/** A file that is read in parts, and open only while reading. */
function partsOf(path: string, name: string, length: number): ByteSource {
  const opened = <T>(read: (file: FileSource) => T): T => {
    const file = new FileSource(name, openSync(path, "r"), length);
    try {
      return read(file);
    } finally {
      file.close();
    }
  };
  const expectModest = (): void => {
    if (length > MAX_FILE_BYTES)
      throw fileError(name, `${length} bytes`, "at most 2 GiB", "use an OSNet model");
  };
  let all: Uint8Array | undefined;
  return {
    length,
    get loaded() {
      return all !== undefined;
    },
    read: (start, end) => all?.subarray(start, end) ?? opened((file) => file.read(start, end)),
    load() {
      expectModest();
      all ??= opened((file) => file.read(0, length));
    },
    sha256: async () => {
      expectModest();
      const file = new FileSource(name, openSync(path, "r"), length);
      return file.sha256().finally(() => file.close());
    },
  };
}

/** Bytes per read: progress is reported between two reads, and a digest uses a buffer of this size. */
const CHUNK_BYTES = 4 << 20;

/** An open file, read on demand and closed by whoever opened it. */
class FileSource implements ByteSource {
  readonly length: number;
  readonly #name: string;
  readonly #descriptor: number;
  readonly #options: Pick<ReadOptions, "onProgress" | "isShared">;
  #all: Uint8Array | undefined;
  #done = 0;

  /** @param descriptor of a regular file of `length` bytes */
  constructor(
    name: string,
    descriptor: number,
    length: number,
    options: Pick<ReadOptions, "onProgress" | "isShared"> = {},
  ) {
    this.#name = name;
    this.#descriptor = descriptor;
    this.length = length;
    this.#options = options;
  }

  get loaded(): boolean {
    return this.#all !== undefined;
  }

  /** @throws InputError (`file`) if the file has become shorter, or cannot be read any more */
  read(start: number, end: number): Uint8Array {
    expectInside(start, end, this.length);
    if (this.#all) return this.#all.subarray(start, end);
    return this.#filled(new Uint8Array(end - start), start);
  }

  load(): void {
    const { isShared = false } = this.#options;
    this.#all ??= this.#filled(
      new Uint8Array(isShared ? new SharedArrayBuffer(this.length) : new ArrayBuffer(this.length)),
      0,
    );
  }

  async sha256(): Promise<string> {
    const { createHash } = await import("node:crypto");
    const hash = createHash("sha256");
    if (this.#all) return hash.update(this.#all).digest("hex");
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, this.length));
    this.#done = 0;
    for (let start = 0; start < this.length; start += chunk.length)
      hash.update(this.#filled(chunk.subarray(0, this.length - start), start));
    return hash.digest("hex");
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #filled(bytes: Uint8Array, start: number): Uint8Array {
    for (let filled = 0; filled < bytes.length; ) {
      const wanted = Math.min(bytes.length - filled, CHUNK_BYTES);
      const count = this.#read(bytes, filled, wanted, start + filled);
      if (count === 0)
        throw unusable(
          this.#name,
          `the file now ends at byte ${start + filled} of ${this.length}`,
          "wait until it is fully written, and try again",
        );
      filled += count;
      this.#done += count;
      this.#options.onProgress?.(this.#done, this.length);
    }
    return bytes;
  }

  #read(bytes: Uint8Array, offset: number, count: number, position: number): number {
    try {
      return readSync(this.#descriptor, bytes, offset, count, position);
    } catch (cause) {
      throw unusable(this.#name, describe(cause), "check the disk", cause);
    }
  }
}

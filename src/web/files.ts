import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { openNpz } from "../convert/formats/npz.js";
import { isModelFormat } from "../convert/formats/registry.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { tfjsShardPaths } from "../convert/formats/tfjs/codec.js";
import { isWeightsArchive } from "../convert/open/checkpoint.js";
import { type ByteSource, expectInside, headOf, type NamedBytes, toBytes } from "../core/bytes.js";
import { InputError } from "../core/errors.js";

/** A file that a user chose or dropped; a `File` with its path in the folder that was dropped. */
export interface ChosenFile {
  /** The name, or the path inside a folder with forward slashes, as `webkitRelativePath` has it. */
  readonly path: string;
  /** The content, which is not read before a file is opened. */
  readonly blob: Blob;
}

/** A checkpoint or a model, of one or more files, not read yet, so that it can be sent to a worker. */
export interface ChosenModel {
  /** Its name in reports and messages: the file's, or that of a TensorFlow.js model's folder. */
  readonly name: string;
  /** The checkpoint, the ONNX file or the model.json. */
  readonly main: ChosenFile;
  /** Weight files beside a model.json or an ONNX file, by their relative paths. */
  readonly beside: readonly ChosenFile[];
}

const MODEL_SUFFIX = /\.(pth|pt|pyth|pkl|ckpt|bin|tar|safetensors|npz|onnx)(-\d+)?$/i;

/**
 * Finds the models among files that were chosen together: a JSON file with its `.bin` shards, an ONNX file with all
 * files whose names are not models'. Other files in a folder (a README, licences) are ignored; a single chosen file is
 * a model whatever its name, and its reader reports what is wrong with it.
 */
export function groupFiles(files: readonly ChosenFile[]): readonly ChosenModel[] {
  const folders = new Map<string, ChosenFile[]>();
  for (const { path, blob } of files) {
    if (/(^|\/)(\.|__MACOSX\/)/.test(path)) continue;
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    const members = folders.get(folder) ?? [];
    members.push({ path: path.slice(folder.length), blob });
    folders.set(folder, members);
  }
  return [...folders].flatMap(([folder, members]) => groupFolder(folder, members));
}

function groupFolder(folder: string, members: readonly ChosenFile[]): readonly ChosenModel[] {
  const json = members.filter(({ path }) => /\.json$/i.test(path));
  const shards = json.length > 0 ? members.filter(({ path }) => /\.bin$/i.test(path)) : [];
  const models = members.filter((file) => MODEL_SUFFIX.test(file.path) && !shards.includes(file));
  const rest = members.filter((file) => ![json, shards, models].some((group) => group.includes(file)));
  // A config.json beside a checkpoint is not a model; a single chosen one may be meant as one.
  const isModel = shards.length > 0 || models.length === 0;
  const topologies = isModel ? json.filter(({ path }) => json.length === 1 || path === "model.json") : [];
  const hasOnnx = models.some(({ path }) => isOnnx(path));
  const unrelated = hasOnnx || folder !== "" ? [] : rest;
  return [
    ...topologies.map((main) => ({
      name: folder === "" ? main.path : (folder.split("/").at(-2) ?? main.path),
      main,
      beside: shards,
    })),
    ...models.map((main) => ({ name: main.path, main, beside: isOnnx(main.path) ? rest : [] })),
    ...unrelated.map((main) => ({ name: main.path, main, beside: [] })),
  ];
}

function isOnnx(path: string): boolean {
  return /\.onnx$/i.test(path);
}

/**
 * Opens a chosen model: in a worker only the ranges that its reader asks for, in a window the whole file.
 *
 * @throws InputError (`file`) if a file can no longer be read; (`format`) if a model.json is not one
 */
export async function openChosen({ name, main, beside }: ChosenModel): Promise<NamedBytes> {
  const bytes = canReadRanges() ? new BlobSource(name, main.blob) : await readWhole(name, main.blob);
  const format = sniffFormat(bytes);
  if (!isModelFormat(format)) return { name, bytes };
  const files = new Map<string, Uint8Array>();
  const read = async (wanted: readonly ChosenFile[]): Promise<void> => {
    for (const { path, blob } of wanted) files.set(path, await readWhole(path, blob));
  };
  const whole = toBytes(bytes);
  if (format === "onnx") {
    if (!canReadRanges()) await read(beside);
    const get = (path: string) => files.get(path) ?? readBeside(beside, path, files);
    return { name, bytes: whole, beside: { get } };
  }
  const paths = new Set(tfjsShardPaths(whole, { subject: name }));
  await read(beside.filter(({ path }) => paths.has(path)));
  return { name, bytes: whole, beside: files };
}

/** A weight file, read when its model names it. */
function readBeside(
  beside: readonly ChosenFile[],
  path: string,
  files: Map<string, Uint8Array>,
): Uint8Array | undefined {
  const file = beside.find((candidate) => candidate.path === path);
  if (!file || !canReadRanges()) return undefined;
  const source = new BlobSource(path, file.blob);
  const bytes = headOf(source, source.length);
  files.set(path, bytes);
  return bytes;
}

/** Whether a file is a recording of activations: a reference for verification, which is not converted. */
export function isRecording({ name, bytes }: NamedBytes): boolean {
  return sniffFormat(bytes) === "npz" && !isWeightsArchive(openNpz(bytes, name).names);
}

/** Bytes per read for a digest, and the most that is read ahead of small pieces. */
const CHUNK_BYTES = 4 << 20;
const AHEAD_BYTES = 256 << 10;

/** Exists in workers only, and not in Node's types. */
interface SyncReader {
  /** Reads a blob at once, where the thread may wait for it. */
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

/** Whether a file can be read where it is needed: only a worker may wait for the disk. */
export function canReadRanges(): boolean {
  return "FileReaderSync" in globalThis;
}

/**
 * A chosen file that is read on demand, like `FileSource` on disk: from a checkpoint with optimizer state, only the
 * weights. In a worker only (`canReadRanges`).
 *
 * Readers ask for a few bytes hundreds of times, and each request goes through the browser's process, so a small
 * request also reads what follows.
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

  /** @param name of the file in messages */
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
   * @throws RangeError if they are out of range; InputError (`file`) if the file has changed since it was chosen, or is
   * gone
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

  /** In parts: Web Crypto hashes only a whole file at once. */
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
async function readWhole(name: string, blob: Blob): Promise<Uint8Array> {
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

import { createHash, randomUUID } from "node:crypto";
import { type Dirent, lstatSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { InputError } from "../../core/errors.js";
import type { RealTensor } from "../../core/tensor.js";
import { fileError, readRegularFile, unusable } from "../../node/read.js";
import { type Appended, createAppended } from "../../node/write.js";
import type { Embedder } from "../../verify/candidate/embedder.js";
import { photoTensor } from "../../verify/inputs/photos.js";
import { type Dataset, readDataset } from "../../verify/ranking/dataset.js";
import { installedVersions } from "../reports.js";
import { type Io, progress } from "../terminal.js";
import { picturePool } from "./pictures.js";

/** A data set, and the folder of its pictures' paths. */
export interface OpenDataset {
  readonly name: string;
  readonly dataset: Dataset;
  readonly folder: string;
}

/**
 * Infers a data set from the names of its files. Files may be links; links to folders are not followed.
 *
 * @throws InputError (`file`) if there is no such folder
 */
export function openDataset(path: string): OpenDataset {
  const name = basename(resolve(path));
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) throw unusable(name, "no such file or folder", "check --data");
  const folder = found.isDirectory() ? path : dirname(path);
  const paths = found.isDirectory() ? filesBelow(path) : [basename(path)];
  const readText = (file: string): string => readFileSync(join(folder, file), "utf8");
  return { name, dataset: readDataset({ paths, readText }, name), folder };
}

/** Paths of all pictures of a data set, each once. */
export function picturesOf({ dataset }: OpenDataset): readonly string[] {
  return [...new Set([...dataset.queries, ...dataset.gallery].map(({ path }) => path))];
}

/** The files in a folder and its subfolders, with forward slashes. */
function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const path = join(parentOf(entry), entry.name);
    const isFile =
      entry.isFile() ||
      (entry.isSymbolicLink() && statSync(path, { throwIfNoEntry: false })?.isFile() === true);
    return isFile ? [relative(folder, path).split(sep).join("/")] : [];
  });
}

/** Node before 20.12 calls it `path`. */
function parentOf(entry: Dirent): string {
  return entry.parentPath ?? (entry as { readonly path?: string }).path ?? "";
}

/** Pictures in one run of a model: more cost memory without gain. */
const BATCH = 16;
/** Number of batches prepared in advance. */
const AHEAD = 3;

interface EmbedPicturesOptions {
  /** The folder that paths are relative to. */
  readonly folder: string;
  readonly cache: string | undefined;
  /** Options of the model's interface, on which the features depend in addition to the model, its runtime and the pictures. */
  readonly readAs: readonly string[];
  /** The fraction of pictures that may be unreadable, 0 to 1. */
  readonly maxBroken: number;
  readonly io: Io;
}

/** An unreadable picture, and the reason. */
export interface BrokenPicture {
  readonly path: string;
  readonly problem: string;
}

/** Features of the readable pictures. */
interface EmbeddedPictures {
  /** [pictures, D], row i for `paths[i]`. */
  readonly features: RealTensor;
  readonly paths: readonly string[];
  readonly broken: readonly BrokenPicture[];
  readonly cached: number;
}

/**
 * Embeds pictures: while the model runs on one batch, the next ones are read and decoded on other threads.
 *
 * @throws InputError (`file`) if too many pictures are unreadable
 */
export async function embedPictures(
  embedder: Embedder,
  paths: readonly string[],
  { folder, cache: cacheFolder, readAs, maxBroken, io }: EmbedPicturesOptions,
): Promise<EmbeddedPictures> {
  const { party, runs, backend, size } = embedder;
  const cache = featureCache(cacheFolder, [
    runs,
    backend,
    `${size.height}x${size.width}`,
    ...readAs,
    ...Object.entries(installedVersions()).map(([name, version]) => `${name} ${version}`),
  ]);
  const pool = picturePool();
  const rows = new Map<string, Float32Array>();
  const broken: BrokenPicture[] = [];
  let cached = 0;
  const bar = progress(`${party.name}: picture`, io);
  const started = performance.now();
  try {
    const batches = Array.from({ length: Math.ceil(paths.length / BATCH) }, (_, index) =>
      paths.slice(index * BATCH, (index + 1) * BATCH),
    );
    const prepare = (batch: readonly string[]) => {
      const prepared = Promise.all(
        batch.map(async (path) => ({
          path,
          picture: await pool.prepare({ path: join(folder, path), ...size }),
        })),
      );
      // Awaited below, unless an earlier batch fails first.
      prepared.catch(() => undefined);
      return prepared;
    };
    const queue = batches.slice(0, AHEAD).map(prepare);
    for (let index = 0; index < batches.length; index++) {
      const prepared = (await queue.shift()) ?? [];
      const following = batches[index + AHEAD];
      if (following) queue.push(prepare(following));
      const fresh: { path: string; digest: string; pixels: Uint8Array }[] = [];
      for (const { path, picture } of prepared) {
        if ("problem" in picture) {
          broken.push({ path, problem: picture.problem });
          continue;
        }
        const known = cache.get(picture.digest);
        if (known) {
          rows.set(path, known);
          cached++;
        } else fresh.push({ path, ...picture });
      }
      if (broken.length > maxBroken * paths.length) throw tooManyBroken(broken, paths.length, maxBroken);
      if (fresh.length > 0) {
        const photos = fresh.map(({ pixels }) => ({ ...size, data: pixels }));
        const { data, shape } = await embedder.embed(photoTensor(photos, size.height, size.width));
        const width = shape[1] ?? 0;
        for (const [row, { path, digest }] of fresh.entries()) {
          const features = Float32Array.from(data.slice(row * width, (row + 1) * width));
          rows.set(path, features);
          cache.add(digest, features);
        }
      }
      const done = Math.min(paths.length, (index + 1) * BATCH);
      bar.update(done, paths.length, rate(party.name, done, paths.length, performance.now() - started));
    }
  } finally {
    bar.clear();
    cache.close();
    await pool.close();
  }
  const read = paths.filter((path) => rows.has(path));
  const width = rows.get(read[0] ?? "")?.length ?? 0;
  const data = new Float32Array(read.length * width);
  for (const [index, path] of read.entries()) data.set(rows.get(path) ?? [], index * width);
  return {
    features: { dtype: "float32", shape: [read.length, width], data },
    paths: read,
    broken,
    cached,
  };
}

function rate(name: string, done: number, total: number, milliseconds: number): string {
  const perSecond = done / (milliseconds / 1000);
  const left = (total - done) / perSecond;
  return `${name}: ${perSecond.toFixed(0)} pictures/s, ${Math.ceil(left)} s left, picture`;
}

function tooManyBroken(broken: readonly BrokenPicture[], total: number, maxBroken: number): InputError {
  return new InputError({
    code: "file",
    subject: "pictures",
    found: `at least ${broken.length} of ${total} unreadable`,
    expected: `at most ${100 * maxBroken} %`,
    remedy: "replace them, or allow more with --max-broken",
    details: broken.slice(0, 20).map(({ problem }) => problem),
  });
}

/**
 * Cached embeddings, by everything that they depend on. A run appends its embeddings to its own file, created when
 * needed, so that an interrupted run can continue and two concurrent runs do not write to one file.
 *
 * A file is a line of JSON, `{"schema":"osnet-features/2","key":HEX,"width":D}`, where the key is the SHA-256 of
 * everything that features depend on besides the picture, then rows: the picture's SHA-256 (32 bytes), D little-endian
 * float32, and the first 8 bytes of the SHA-256 of the key and the row. Damaged rows, other files, links and pipes are
 * ignored. The digest detects damage, not malice: whoever can write to the folder can change the features.
 */
interface FeatureCache {
  get(digest: string): Float32Array | undefined;
  add(digest: string, features: Float32Array): void;
  close(): void;
}

const SCHEMA = "osnet-features/2";
const DIGEST_BYTES = 32;
const CHECK_BYTES = 8;
/** A header is far shorter. */
const MAX_HEADER = 200;
/** More than `expectFeatures` allows: a width determines the size of a row. */
const MAX_WIDTH = 1 << 20;

/**
 * @param folder the folder of the files; undefined keeps features in memory only
 * @param key everything that the features depend on besides the picture
 * @throws InputError (`file`) if the folder is a link, is not a folder, or cannot be written
 */
function featureCache(folder: string | undefined, key: readonly string[]): FeatureCache {
  const rows = new Map<string, Float32Array>();
  const digest = createHash("sha256").update(key.join("\n")).digest();
  const start = digest.toString("hex", 0, 16);
  if (folder !== undefined) {
    expectOwnFolder(folder);
    const names = readdirSync(folder).filter((name) => name.startsWith(start) && name.endsWith(".features"));
    for (const name of names.toSorted()) {
      const bytes = readRegularFile(join(folder, name));
      if (bytes) load(bytes, digest, rows);
    }
  }
  let file: Appended | undefined;
  return {
    get: (picture) => rows.get(picture),
    add(picture, features) {
      if (rows.has(picture)) return;
      rows.set(picture, features);
      if (folder === undefined) return;
      if (!file) {
        file = createAppended(join(folder, `${start}-${randomUUID()}.features`));
        const header = { schema: SCHEMA, key: digest.toString("hex"), width: features.length };
        file.append(new TextEncoder().encode(`${JSON.stringify(header)}\n`));
      }
      file.append(rowOf(digest, picture, features));
    },
    close: () => file?.close(),
  };
}

function expectOwnFolder(folder: string): void {
  mkdirSync(folder, { recursive: true });
  if (lstatSync(folder).isDirectory()) return;
  throw fileError(folder, "a link", "a folder", "name the folder itself");
}

function rowOf(key: Uint8Array, picture: string, features: Float32Array): Uint8Array {
  const row = new Uint8Array(DIGEST_BYTES + 4 * features.length + CHECK_BYTES);
  row.set(Buffer.from(picture, "hex"));
  const view = new DataView(row.buffer);
  for (const [index, value] of features.entries()) view.setFloat32(DIGEST_BYTES + 4 * index, value, true);
  row.set(checkOf(key, row.subarray(0, -CHECK_BYTES)), row.length - CHECK_BYTES);
  return row;
}

function checkOf(key: Uint8Array, content: Uint8Array): Uint8Array {
  return createHash("sha256").update(key).update(content).digest().subarray(0, CHECK_BYTES);
}

/** Reads the complete rows of a file. */
function load(bytes: Uint8Array, key: Buffer, rows: Map<string, Float32Array>): void {
  const end = bytes.subarray(0, MAX_HEADER).indexOf(0x0a);
  const width = end < 0 ? undefined : widthIn(new TextDecoder().decode(bytes.subarray(0, end)), key);
  if (width === undefined) return;
  const size = DIGEST_BYTES + 4 * width + CHECK_BYTES;
  for (let at = end + 1; at + size <= bytes.length; at += size) {
    const row = bytes.subarray(at, at + size);
    const content = row.subarray(0, -CHECK_BYTES);
    if (Buffer.compare(checkOf(key, content), row.subarray(-CHECK_BYTES)) !== 0) continue;
    const view = new DataView(row.buffer, row.byteOffset + DIGEST_BYTES);
    const features = Float32Array.from({ length: width }, (_, index) => view.getFloat32(4 * index, true));
    rows.set(Buffer.from(row.subarray(0, DIGEST_BYTES)).toString("hex"), features);
  }
}

function widthIn(header: string, key: Buffer): number | undefined {
  try {
    const found = JSON.parse(header) as Readonly<Record<string, unknown>> | null;
    const width = found?.width;
    const isOwn = found?.schema === SCHEMA && found.key === key.toString("hex");
    const isWidth = typeof width === "number" && Number.isInteger(width) && width > 0 && width <= MAX_WIDTH;
    return isOwn && isWidth ? width : undefined;
  } catch {
    return undefined;
  }
}

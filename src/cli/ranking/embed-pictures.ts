import { type Dirent, readdirSync, readFileSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { InputError } from "../../core/errors.js";
import type { RealTensor } from "../../core/tensor.js";
import { unusable } from "../../node/errors.js";
import type { Embedder } from "../../verify/candidate/embedder.js";
import { photoTensor } from "../../verify/inputs/photos.js";
import { type Dataset, readDataset } from "../../verify/ranking/dataset.js";
import { installedVersions } from "../reports.js";
import { type Io, progress } from "../terminal.js";
import { featureCache } from "./cache.js";
import { picturePool } from "./pictures.js";

/** A data set, and the folder that the paths of its pictures start from. */
export interface OpenDataset {
  readonly name: string;
  readonly dataset: Dataset;
  readonly folder: string;
}

/**
 * Reads a data set off the names of its files. Files may be links; links to folders are not followed.
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

/** The files below a folder, with forward slashes. */
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

/** Pictures in one run of a model: more cost memory and gain nothing. */
const BATCH = 16;
/** Batches that are prepared ahead of the one that runs. */
const AHEAD = 3;

export interface EmbedPicturesOptions {
  /** The folder that the paths start from. */
  readonly folder: string;
  readonly cache: string | undefined;
  /** Threads that decode pictures; default: one less than there are cores, at least one. */
  readonly workers?: number;
  /** What the features depend on besides the file, its runtime and the pictures: options that the model was opened with. */
  readonly readAs: readonly string[];
  /** The share of pictures that may be broken, 0 to 1. */
  readonly maxBroken: number;
  readonly io: Io;
}

/** A picture that cannot be read, and why. */
export interface BrokenPicture {
  readonly path: string;
  readonly problem: string;
}

/** Features of the pictures that could be read. */
export interface EmbeddedPictures {
  /** [pictures, D], row i for `paths[i]`. */
  readonly features: RealTensor;
  readonly paths: readonly string[];
  readonly broken: readonly BrokenPicture[];
  readonly cached: number;
}

/**
 * Embeds pictures: while the model runs on one batch, the next ones are read and decoded on other threads.
 *
 * @throws InputError (`file`) if more pictures are broken than may be
 */
export async function embedPictures(
  embedder: Embedder,
  paths: readonly string[],
  { folder, cache: cacheFolder, readAs, workers, maxBroken, io }: EmbedPicturesOptions,
): Promise<EmbeddedPictures> {
  const { party, backend, size } = embedder;
  const cache = featureCache(cacheFolder, [
    party.sha256 ?? party.name,
    backend,
    `${size.height}x${size.width}`,
    ...readAs,
    ...Object.entries(installedVersions()).map(([name, version]) => `${name} ${version}`),
  ]);
  const pool = picturePool(workers ?? Math.max(1, availableParallelism() - 1));
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
      // It is awaited below, unless an earlier batch fails first.
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

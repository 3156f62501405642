import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, sep } from "node:path";
import { decodeNpy } from "../../convert/formats/npy.js";
import { decodeNpz } from "../../convert/formats/npz.js";
import { decodeSafetensors } from "../../convert/formats/safetensors.js";
import { sha256 } from "../../core/bytes.js";
import type { Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { readInput } from "../../node/index.js";
import { type Embedder, openEmbedder } from "../../verify/embedder.js";
import { type Dataset, readDataset } from "../../verify/ranking/dataset.js";
import { expectFeatures } from "../../verify/ranking/distances.js";
import type { Party } from "../../verify/report.js";
import { readArchitecture } from "../inputs.js";
import { readModel } from "../models.js";
import { badArgument, type Size } from "../options.js";
import type { Io } from "../terminal.js";
import { embedPictures } from "./embed-pictures.js";

/** Options of all commands that embed pictures, as commander hands them over. */
export interface EmbeddingOptions {
  readonly cache?: string;
  readonly maxBroken?: number;
  readonly size?: Size;
  readonly arch?: string;
  readonly key?: string;
  readonly quiet?: boolean;
}

/** The share of pictures that may be unreadable. */
export const MAX_BROKEN = 0.01;

/** Opens a model for its embeddings. */
export async function readEmbedder(path: string, options: EmbeddingOptions, io: Io): Promise<Embedder> {
  const arch = await readArchitecture(options.arch);
  return openEmbedder(await readModel(path, io, { quiet: true }), {
    ...(arch === undefined ? {} : { arch }),
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(options.size === undefined ? {} : { size: options.size }),
  });
}

/** Features of one model for the pictures of a data set. */
export interface Embedded {
  readonly party: Party;
  readonly backend: string;
  /** By path. */
  readonly rows: ReadonlyMap<string, Float32Array | Float64Array>;
  readonly broken: readonly string[];
}

/** The files below a folder, with forward slashes; links are not followed. */
export function openDataset(path: string): { readonly dataset: Dataset; readonly folder: string } {
  const isFolder = statSync(path).isDirectory();
  const folder = isFolder ? path : dirname(path);
  const paths = isFolder
    ? readdirSync(path, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => relative(path, join(entry.parentPath, entry.name)).split(sep).join("/"))
    : [basename(path)];
  const readText = (name: string): string => readFileSync(join(folder, name), "utf8");
  return { dataset: readDataset({ paths, readText }, basename(path)), folder };
}

const FEATURES = /\.(npy|npz|safetensors)$/;

/** The features of a data set's pictures, computed or recorded. */
export async function embedded(
  path: string,
  pictures: readonly string[],
  folder: string,
  options: EmbeddingOptions,
  io: Io,
): Promise<Embedded> {
  const recorded = FEATURES.test(path) ? await readFeatures(path, pictures) : undefined;
  if (recorded) return recorded;
  const embedder = await readEmbedder(path, options, io);
  try {
    const { features, paths, broken } = await embedPictures(embedder, pictures, {
      folder,
      cache: options.cache,
      maxBroken: options.maxBroken ?? MAX_BROKEN,
      io,
    });
    const width = features.shape[1] ?? 0;
    return {
      party: embedder.party,
      backend: embedder.backend,
      rows: new Map(
        paths.map((name, row) => [
          name,
          Float32Array.from(features.data.slice(row * width, (row + 1) * width)),
        ]),
      ),
      broken: broken.map((picture) => picture.path),
    };
  } finally {
    await embedder.release();
  }
}

/**
 * Recorded features, with the list of their pictures beside them as `NAME.txt`; undefined if the file has no such list, and
 * may be a checkpoint.
 */
async function readFeatures(path: string, pictures: readonly string[]): Promise<Embedded | undefined> {
  const name = basename(path);
  const list = path.replace(FEATURES, ".txt");
  let names: readonly string[];
  try {
    names = readFileSync(list, "utf8")
      .split(/\r?\n/)
      .filter((line) => line !== "");
  } catch {
    if (!path.endsWith(".npy")) return undefined;
    throw badArgument(
      name,
      "no list of its pictures",
      `${basename(list)} beside it, a path per row`,
      "write the features with osnet-verify embed or python/record_features.py",
    );
  }
  const bytes = await readInput(path);
  const tensor = featureTensor(bytes, name);
  const features = expectFeatures(toReal(tensor as Parameters<typeof toReal>[0], name), name);
  const [count = 0, width = 0] = features.shape;
  if (count !== names.length)
    throw badArgument(
      name,
      `${count} rows of features and ${names.length} pictures in ${basename(list)}`,
      "a row for each picture",
      "write both again",
    );
  const rows = new Map(
    names.map((picture, row) => [
      picture,
      Float64Array.from(features.data.slice(row * width, (row + 1) * width)),
    ]),
  );
  const missing = pictures.filter((picture) => !rows.has(picture));
  if (missing.length === pictures.length)
    throw badArgument(
      name,
      `no row for ${missing[0]}`,
      "features of this data set's pictures",
      "record them with paths from the data set's folder",
    );
  return {
    party: {
      name,
      format: path.endsWith(".safetensors") ? "safetensors" : "npz",
      sha256: await sha256(bytes),
    },
    backend: "recorded",
    rows,
    broken: missing,
  };
}

function featureTensor(bytes: Uint8Array, name: string): Tensor {
  if (name.endsWith(".npy")) return decodeNpy(bytes, name);
  const tensors = name.endsWith(".npz") ? decodeNpz(bytes, name) : decodeSafetensors(bytes, name).stateDict;
  const features = tensors.get("features");
  if (features) return features;
  throw badArgument(name, "no tensor features", "a matrix named features", "save it under that name");
}

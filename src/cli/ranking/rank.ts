import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, sep } from "node:path";
import { decodeNpy } from "../../convert/formats/npy.js";
import { decodeNpz } from "../../convert/formats/npz.js";
import { decodeSafetensors } from "../../convert/formats/safetensors.js";
import { sha256 } from "../../core/bytes.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { readInput } from "../../node/index.js";
import { openEmbedder } from "../../verify/embedder.js";
import { compareRankings } from "../../verify/ranking/compare.js";
import {
  type Dataset,
  datasetFacts,
  labelsOf,
  type Picture,
  readDataset,
} from "../../verify/ranking/dataset.js";
import {
  type DistanceMetric,
  type DistanceRows,
  distanceRows,
  expectFeatures,
} from "../../verify/ranking/distances.js";
import { judgeRanking, type RankingLimits, type RankingReport } from "../../verify/ranking/report.js";
import { rerankedRows } from "../../verify/ranking/rerank.js";
import type { Party } from "../../verify/report.js";
import { readArchitecture } from "../inputs.js";
import { readModel } from "../models.js";
import { badArgument, type Size } from "../options.js";
import type { Io } from "../terminal.js";
import { embedPictures } from "./embed-pictures.js";

export interface RankOptions extends Partial<RankingLimits> {
  readonly reference: string;
  readonly data: string;
  readonly distance: DistanceMetric;
  readonly rerank: boolean;
  readonly cache: string | undefined;
  readonly maxBroken: number;
  readonly limits: RankingLimits;
  readonly size?: Size;
  readonly arch?: string;
  readonly key?: string;
}

/** Features of one model for the pictures of a data set. */
interface Embedded {
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

/** Ranks the candidates' features against the reference's. */
export async function rankModels(
  candidates: readonly string[],
  options: RankOptions,
  io: Io,
): Promise<RankingReport> {
  const { dataset, folder } = openDataset(options.data);
  const pictures = [...new Set([...dataset.queries, ...dataset.gallery].map(({ path }) => path))];
  const reference = await embedded(options.reference, pictures, folder, options, io);
  const broken = new Set(reference.broken);
  const others: Embedded[] = [];
  for (const candidate of candidates) {
    const features = await embedded(candidate, pictures, folder, options, io);
    others.push(features);
    for (const path of features.broken) broken.add(path);
  }
  const isRead = ({ path }: Picture): boolean => !broken.has(path);
  const read: Dataset = {
    ...dataset,
    queries: dataset.queries.filter(isRead),
    gallery: dataset.gallery.filter(isRead),
  };
  const labels = labelsOf(read);
  const expected = rowsOf(reference, read, options);
  const compared = others.map((side) => {
    const comparison = compareRankings(expected, rowsOf(side, read, options), labels);
    const pathsOf = {
      query: (index: number) => read.queries[index]?.path ?? "",
      gallery: (index: number) => read.gallery[index]?.path ?? "",
    };
    return {
      figures: comparison.reference.figures,
      ranked: judgeRanking(side.party, side.backend, comparison, options.limits, pathsOf),
    };
  });
  const figures = compared[0]?.figures;
  return {
    schema: "osnet-ranking/1",
    passed: compared.every(({ ranked }) => ranked.passed),
    dataset: { name: basename(options.data), ...datasetFacts(read) },
    distance: options.distance,
    reranked: options.rerank,
    limits: options.limits,
    broken: [...broken],
    reference: { party: reference.party, backend: reference.backend, ...(figures ? { figures } : {}) },
    candidates: compared.map(({ ranked }) => ranked),
  };
}

function rowsOf(
  { party, rows }: Embedded,
  { queries, gallery }: Dataset,
  { distance, rerank }: RankOptions,
): DistanceRows {
  const matrix = (pictures: readonly Picture[]): RealTensor => {
    const all = pictures.map(({ path }) => rows.get(path) ?? new Float32Array());
    const width = all[0]?.length ?? 0;
    const data = new Float64Array(all.length * width);
    for (const [index, row] of all.entries()) data.set(row, index * width);
    return expectFeatures({ dtype: "float64", shape: [all.length, width], data }, party.name);
  };
  return (rerank ? rerankedRows : distanceRows)(matrix(queries), matrix(gallery), distance);
}

const FEATURES = /\.(npy|npz|safetensors)$/;

async function embedded(
  path: string,
  pictures: readonly string[],
  folder: string,
  options: RankOptions,
  io: Io,
): Promise<Embedded> {
  const recorded = FEATURES.test(path) ? await readFeatures(path, pictures) : undefined;
  if (recorded) return recorded;
  const model = await readModel(path, io, { quiet: true });
  const arch = await readArchitecture(options.arch);
  const embedder = await openEmbedder(model, {
    ...(arch === undefined ? {} : { arch }),
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(options.size === undefined ? {} : { size: options.size }),
  });
  try {
    const { features, paths, broken } = await embedPictures(embedder, pictures, {
      folder,
      cache: options.cache,
      maxBroken: options.maxBroken,
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

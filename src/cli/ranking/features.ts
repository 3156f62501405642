import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, extname, join } from "node:path";
import type { PixelOrder } from "../../convert/export/options.js";
import { decodeNpy, decodeNpz, encodeNpy, encodeNpz } from "../../convert/formats/npz.js";
import { isModelFormat } from "../../convert/formats/registry.js";
import { decodeSafetensors, encodeSafetensors } from "../../convert/formats/safetensors.js";
import { sniffFormat } from "../../convert/formats/sniff.js";
import { openFile } from "../../convert/open/open-file.js";
import { concatenate, type NamedBytes, sha256 } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { definedOf } from "../../core/functions.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { isFolder, readInput } from "../../node/read.js";
import { expectNotInputs, expectWritable, writeFilesChecked } from "../../node/write.js";
import type { RuntimeName } from "../../verify/backends/backend.js";
import { engineOf } from "../../verify/backends/registry.js";
import {
  checkpointModel,
  type Embedder,
  type EmbedderOptions,
  openEmbedder,
} from "../../verify/candidate/embedder.js";
import { openVerification } from "../../verify/open.js";
import type { Party, Proof } from "../../verify/outcome/report.js";
import { expectFeatures } from "../../verify/ranking/distances.js";
import type { Shard } from "../../verify/suite/report.js";
import { verify } from "../../verify/verify.js";
import { readArchitecture, readModel } from "../inputs.js";
import { badArgument, misused, type Size } from "../options.js";
import type { ExitStatus } from "../program.js";
import { type Io, progress } from "../terminal.js";
import { type BrokenPicture, embedPictures, openDataset, picturesOf } from "./embed-pictures.js";

/** Options of all commands that embed pictures, as parsed by commander. */
export interface EmbeddingOptions {
  readonly cache?: string;
  readonly maxBroken?: number;
  readonly size?: Size;
  readonly arch?: string;
  readonly key?: string;
  /** Backends; each model uses the first one for its format. */
  readonly backend?: readonly RuntimeName[];
  readonly output?: string;
  readonly inputOrder?: PixelOrder;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** The fraction of pictures that may be unreadable. */
const MAX_BROKEN = 0.01;

/** Features of one model for the pictures of a data set. */
export interface Embedded {
  readonly party: Party;
  /** The runtime, or `recorded`. */
  readonly backend: string;
  /** By picture path; all of the same length. */
  readonly rows: ReadonlyMap<string, Float32Array | Float64Array>;
  /** Pictures without a row. */
  readonly broken: readonly BrokenPicture[];
}

/** A source of features: an open model, or recorded features. */
export interface FeatureSource {
  readonly party: Party;
  /** The model's input; absent for a recording that does not say for which it was made. */
  readonly size?: Size;
  /** Whether it has recorded features. */
  readonly isRecorded?: boolean;
  /** For a checkpoint: the proof from the verification of its ONNX file. */
  readonly proof?: Proof;
  /** @throws InputError (`file`) if too many pictures have no features */
  features(pictures: readonly string[], folder: string): Promise<Embedded>;
  release(): Promise<void>;
}

/** Opens a model to compute embeddings. */
async function readEmbedder(path: string, options: EmbeddingOptions, io: Io): Promise<Embedder> {
  const file = await readModel(path, io, options);
  return openEmbedder(file, await embedderOptions(file, options));
}

async function embedderOptions(file: NamedBytes, options: EmbeddingOptions): Promise<EmbedderOptions> {
  const arch = await readArchitecture(options.arch);
  const { key, size, output, inputOrder, backend: names = [] } = options;
  const format = sniffFormat(file.bytes);
  const backend = names.find((name) => engineOf(name).runs === (isModelFormat(format) ? format : "onnx"));
  return definedOf({ arch, key, size, output, inputOrder, backend });
}

/** What features depend on besides the model that runs and the pictures. */
function readingOf({ output, inputOrder }: EmbeddingOptions): readonly string[] {
  return Object.entries({ output, inputOrder }).map(([name, value]) => `${name} ${value ?? ""}`);
}

/**
 * Like `openSource`, for the reference. The options of candidates do not apply to it. A checkpoint is run as an ONNX
 * file, which is verified first.
 *
 * @throws InputError (`unsupported`) if that file does not pass verification
 */
export async function openReferenceSource(
  path: string,
  { backend: _backend, output: _output, inputOrder: _order, ...options }: EmbeddingOptions,
  io: Io,
): Promise<FeatureSource> {
  const source = await openSource(path, options, io);
  if (source.isRecorded || !source.size || isModelFormat(source.party.format)) return source;
  const proof = await proofOfReference(path, { ...options, size: source.size }, io);
  return { ...source, ...definedOf({ proof }) };
}

async function proofOfReference(path: string, options: EmbeddingOptions, io: Io): Promise<Proof | undefined> {
  const file = await readModel(path, io, options);
  const { arch, key, size } = await embedderOptions(file, options);
  const reading = definedOf({ arch, key });
  const opened = openFile(file, reading);
  if (opened.kind !== "checkpoint") return undefined;
  const { checkpoint } = opened;
  const model = { name: `${file.name} as ONNX`, bytes: checkpointModel(checkpoint, size) };
  const bar = progress(`${file.name}: verifying, layer`, io);
  try {
    const verification = await openVerification(model, { ...file, checkpoint }, reading);
    const { passed, proof } = await verify({ ...verification, onProgress: bar.update });
    if (passed && proof) return proof;
  } finally {
    bar.clear();
  }
  throw new InputError({
    code: "unsupported",
    subject: file.name,
    found: "an ONNX export that does not match it",
    expected: "an export that passes verification",
    remedy:
      "convert it and read osnet-verify's report, or use features recorded from PyTorch as the reference",
  });
}

/** Opens a model, or reads recorded features: a file with its list of pictures, or a folder of such files. */
export async function openSource(path: string, options: EmbeddingOptions, io: Io): Promise<FeatureSource> {
  const files = await featureFiles(path);
  if (files.length > 0) return recordedSource(basename(path), files, options);
  return embedderSource(await readEmbedder(path, options, io), options, io);
}

/** Features that a model computes. */
export function embedderSource(embedder: Embedder, options: EmbeddingOptions, io: Io): FeatureSource {
  const { party, backend, size } = embedder;
  return {
    party,
    size,
    async features(pictures, folder) {
      const { features, paths, broken } = await embedPictures(embedder, pictures, {
        folder,
        cache: options.cache,
        readAs: readingOf(options),
        maxBroken: options.maxBroken ?? MAX_BROKEN,
        io,
      });
      const width = features.shape[1] ?? 0;
      const rowAt = (row: number) => features.data.subarray(row * width, (row + 1) * width);
      return { party, backend, rows: new Map(paths.map((name, row) => [name, rowAt(row)])), broken };
    },
    release: embedder.release,
  };
}

const FEATURES = /\.(npy|npz|safetensors)$/;

/** Feature files at a path: those that have a list of pictures beside them. An `.npy` is always one. */
async function featureFiles(path: string): Promise<readonly string[]> {
  const isListed = (file: string): boolean => FEATURES.test(file) && existsSync(listOf(file));
  if (!(await isFolder(path))) return isListed(path) || path.endsWith(".npy") ? [path] : [];
  return readdirSync(path)
    .toSorted()
    .map((name) => join(path, name))
    .filter(isListed);
}

function listOf(file: string): string {
  return `${file.slice(0, -extname(file).length)}.txt`;
}

async function recordedSource(
  name: string,
  files: readonly string[],
  { maxBroken = MAX_BROKEN }: EmbeddingOptions,
): Promise<FeatureSource> {
  const rows = new Map<string, Float32Array | Float64Array>();
  const contents: Uint8Array[] = [];
  let size: Size | undefined;
  for (const file of files) {
    contents.push(await readInput(file));
    const recorded = readFeatures(file, contents.at(-1) ?? new Uint8Array());
    size ??= recorded.size;
    for (const [picture, row] of recorded.rows) {
      if (rows.has(picture))
        throw badArgument(name, `two rows for ${picture}`, "one row per picture", "remove one of them");
      rows.set(picture, row);
    }
  }
  const widths = new Set([...rows.values()].map(({ length }) => length));
  if (widths.size > 1)
    throw badArgument(
      name,
      `features of ${[...widths].join(" and ")} elements`,
      "one width",
      "record them again",
    );
  const format = files[0]?.endsWith(".safetensors") ? "safetensors" : "npz";
  const party: Party = { name, format, sha256: await sha256(concatenate(contents)) };
  return {
    party,
    isRecorded: true,
    ...definedOf({ size }),
    async features(pictures) {
      const broken = pictures
        .filter((picture) => !rows.has(picture))
        .map((path) => ({ path, problem: `${path}: not in ${name}` }));
      if (broken.length > maxBroken * pictures.length)
        throw badArgument(
          name,
          `no row for ${broken.length} of ${pictures.length} pictures, such as ${broken[0]?.path}`,
          `a row for all but ${100 * maxBroken} % of them`,
          "record them with paths relative to the data set, or allow more with --max-broken",
        );
      return { party, backend: "recorded", rows, broken };
    },
    release: async () => {},
  };
}

/** A file's rows by the pictures in its list, in float32 or float64, and the size that these were read at. */
function readFeatures(
  path: string,
  bytes: Uint8Array,
): {
  readonly rows: readonly (readonly [picture: string, row: Float32Array | Float64Array])[];
  readonly size: Size | undefined;
} {
  const name = basename(path);
  const list = basename(listOf(path));
  if (!existsSync(listOf(path)))
    throw badArgument(
      name,
      "no list of its pictures",
      `${list} beside it, with one path per row`,
      "write the features with osnet-verify embed or python/record_features.py",
    );
  const pictures = readFileSync(listOf(path), "utf8")
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .filter((line) => line !== "");
  const { features, size } = recordedTensors(bytes, name);
  const { shape, data } = expectFeatures(toReal(features, name), name);
  const [count = 0, width = 0] = shape;
  if (count !== pictures.length)
    throw badArgument(
      name,
      `${count} rows of features and ${pictures.length} pictures in ${list}`,
      "one row per picture",
      "write both files again",
    );
  const rows = pictures.map(
    (picture, row) => [picture, data.subarray(row * width, (row + 1) * width)] as const,
  );
  return { rows, size };
}

function recordedTensors(
  bytes: Uint8Array,
  name: string,
): { readonly features: Tensor; readonly size: Size | undefined } {
  if (name.endsWith(".npy")) return { features: decodeNpy(bytes, name), size: undefined };
  const tensors = name.endsWith(".npz") ? decodeNpz(bytes, name) : decodeSafetensors(bytes, name).stateDict;
  const features = tensors.get("features");
  const [height, width] = Array.from(tensors.get("size")?.data ?? [], Number);
  if (features) return { features, size: height && width ? { height, width } : undefined };
  throw misused(name, "has no tensor named features", "save the matrix under that name");
}

interface EmbedOptions extends EmbeddingOptions {
  readonly data: string;
  readonly out: string;
  readonly shard?: Shard;
  readonly force?: boolean;
}

/** `osnet-verify embed`: features of pictures, [pictures, D] float32, and beside them a list of the pictures' paths. */
export async function embedCommand(model: string, options: EmbedOptions, io: Io): Promise<ExitStatus> {
  const { out, force = false } = options;
  const encode = encoderOf(out);
  const list = `${out.slice(0, -extname(out).length)}.txt`;
  await expectWritable(out, force);
  await expectWritable(list, force);
  await expectNotInputs([out, list], [model, options.arch]);
  const dataset = openDataset(options.data);
  const all = picturesOf(dataset);
  const { index, total } = options.shard ?? { index: 1, total: 1 };
  // The lengths of shards differ by at most one picture.
  const own = all.filter((_, position) => position % total === index - 1);
  const embedder = await readEmbedder(model, options, io);
  try {
    const { features, paths, broken, cached } = await embedPictures(embedder, own, {
      folder: dataset.folder,
      cache: options.cache,
      readAs: readingOf(options),
      maxBroken: options.maxBroken ?? MAX_BROKEN,
      io,
    });
    const text = new TextEncoder();
    await writeFilesChecked(
      new Map([
        [out, encode({ features, size: embedder.size }, basename(out))],
        [list, text.encode(paths.map((path) => `${path}\n`).join(""))],
      ]),
      { force, check: async () => undefined, accept: () => true, obsolete: undefined },
    );
    for (const { problem } of broken) io.stderr.write(`skipped: ${problem}\n`);
    if (!options.quiet)
      io.stdout.write(
        `wrote ${basename(out)}: ${paths.length} × ${features.shape[1]} features by ${embedder.party.name} in ${embedder.backend}${cached > 0 ? `, ${cached} from the cache` : ""}; picture paths in ${basename(list)}\n`,
      );
    return 0;
  } finally {
    await embedder.release();
  }
}

/** What features files have; an .npy has one tensor only. */
interface Recorded {
  readonly features: RealTensor;
  readonly size: Size;
}

function encoderOf(out: string): (recorded: Recorded, subject: string) => Uint8Array {
  const named = ({ features, size: { height, width } }: Recorded): ReadonlyMap<string, Tensor> =>
    new Map<string, Tensor>([
      ["features", features],
      ["size", { dtype: "int32", shape: [2], data: Int32Array.of(height, width) }],
    ]);
  switch (extname(out)) {
    case ".npy":
      return ({ features }, subject) => encodeNpy(features, subject);
    case ".npz":
      return (recorded, subject) => encodeNpz(named(recorded), { subject });
    case ".safetensors":
      return (recorded, subject) => encodeSafetensors(named(recorded), { subject });
    default:
      throw badArgument(
        "--out",
        JSON.stringify(out),
        "a name that ends in .npy, .npz or .safetensors",
        "choose one of these formats",
      );
  }
}

import { statSync } from "node:fs";
import { lstat, mkdir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { performance } from "node:perf_hooks";
import { expand, type OsnetSpec, variant } from "../../arch/index.js";
import { encodeWeights, write } from "../../convert/export/write.js";
import { zerosForAbsent } from "../../convert/formats/refusals.js";
import { isModelFormat, isWeightsFormat } from "../../convert/formats/registry.js";
import { sniffFormat } from "../../convert/formats/sniff.js";
import { type Checkpoint, namedSpec, openCheckpoint } from "../../convert/open/checkpoint.js";
import { openModel, type SourceFile, weightFiles } from "../../convert/open/open-file.js";
import { seededStateDict } from "../../convert/seeded-weights.js";
import { bytesOf, type NamedBytes, sameBytes, sha256, toBytes, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { definedOf } from "../../core/functions.js";
import { fileError, readInput } from "../../node/read.js";
import { type Embedder, openEmbedder } from "../../verify/candidate/embedder.js";
import { type OpenOptions, openVerification } from "../../verify/open.js";
import type { ParityReport } from "../../verify/outcome/report.js";
import { CONVERSIONS, type PlannedEntry, type RankingSpec } from "../../verify/suite/plan.js";
import { type EntryRanking, entryStatus, type SuiteEntry } from "../../verify/suite/report.js";
import { verify } from "../../verify/verify.js";
import { readArchitecture, readImages, readModel, type Source } from "../inputs.js";
import { tolerance as parseTolerance } from "../options.js";
import { openDataset, picturesOf } from "../ranking/embed-pictures.js";
import { type Embedded, embedderSource } from "../ranking/features.js";
import { rankEmbedded } from "../ranking/rank.js";
import { installedVersions, readReport, runFacts, writeReport } from "../reports.js";
import { openTarget } from "../targets.js";
import type { Io } from "../terminal.js";
import { isSeeded } from "./file.js";

interface ExecuteOptions {
  readonly folder: string;
  /** The cache's folder, if there is one. */
  readonly cache: string | undefined;
  readonly io: Io;
  /** Number of judging threads; 1 if entries run concurrently. Default: as in `verify`. */
  readonly threads?: number;
}

/**
 * Runs an entry, or takes its report from the cache if nothing that it depends on has changed. An unusable file is a
 * result of status `error`; only a bug is an exception.
 */
export async function executeEntry(
  entry: PlannedEntry,
  { folder, cache, io, threads }: ExecuteOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<SuiteEntry> {
  const started = performance.now();
  const { id, model, candidate, backend } = entry;
  const seconds = (): number => Math.round(performance.now() - started) / 1000;
  let fingerprint: string | null = null;
  try {
    const opened = await openEntry(entry, folder, io);
    fingerprint = opened.fingerprint;
    const path = cache === undefined ? undefined : join(cache, `${fingerprint}.json`);
    const known = path === undefined ? undefined : await readCached(path);
    const report = known ?? (await opened.run(onProgress, threads));
    if (path !== undefined && !known) await writeCached(path, report);
    const ranking = await opened.rank(cache);
    return {
      id,
      model,
      candidate,
      backend: report.backend,
      status: entryStatus(report, ranking),
      fingerprint,
      report,
      ...definedOf({ ranking }),
      error: null,
      run: { cached: known !== undefined, seconds: seconds() },
    };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const text = [error.message, ...error.details.slice(0, 20)].join("\n");
    const run = { cached: false, seconds: seconds() };
    return { id, model, candidate, backend, status: "error", fingerprint, report: null, error: text, run };
  }
}

/** Entries that are not cached are recomputed, so a full disk is not an error of the entry. */
async function writeCached(path: string, report: ParityReport): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeReport(path, JSON.stringify(report));
  } catch {
    // Writing the reports will fail with an error if nothing can be written.
  }
}

/** An unreadable cache entry counts as missing; so do links, which lead elsewhere, and pipes, which may block. */
export async function readCached(path: string): Promise<ParityReport | undefined> {
  try {
    if (!(await lstat(path)).isFile()) return undefined;
    return await readReport(path);
  } catch {
    return undefined;
  }
}

/** Memory for a kept reference run: enough for osnet_x0_25 on two images of 256×128. */
const KEPT_BYTES = 128 * 2 ** 20;

/** An entry's two sides and options, read but not run: enough to detect changes. */
interface OpenedEntry {
  /** SHA-256 of everything that the result depends on. */
  readonly fingerprint: string;
  /** Converts, if the entry requires it, and verifies. */
  run(onProgress?: (done: number, total: number) => void, threads?: number): Promise<ParityReport>;
  /**
   * Ranks pictures with both sides, if the entry requires it. Features are kept in the cache folder, if there is one.
   */
  rank(cache: string | undefined): Promise<EntryRanking | undefined>;
}

/**
 * Reads what an entry needs; paths are relative to the suite's folder.
 *
 * @throws InputError if a file or option cannot be used
 */
async function openEntry(entry: PlannedEntry, folder: string, io: Io): Promise<OpenedEntry> {
  const { modelSpec, candidateSpec, options } = entry;
  const at = (path: string): string => plainPath(resolve(folder, path));
  const tolerance = options.tolerance === undefined ? undefined : parseTolerance(String(options.tolerance));
  const backend = entry.backend === "auto" ? undefined : entry.backend;
  const images = await readImages(
    options.input === undefined ? undefined : [isSeeded(options.input) ? options.input : at(options.input)],
  );
  const arch = await readArchitecture(
    modelSpec.arch?.endsWith(".json") ? at(modelSpec.arch) : modelSpec.arch,
  );
  const reference = await readReference(entry, at, arch);
  const candidate =
    candidateSpec.file === undefined
      ? undefined
      : await readModel(at(candidateSpec.file.replaceAll("{model}", entry.model)), io);
  const size = sizeOf(options.size);
  const { key } = modelSpec;
  const open: OpenOptions = definedOf({ arch, images, backend, key, batch: options.batch, size });
  const digests = [reference, ...(candidate ? [candidate] : [])].flatMap(digestsOf);
  const facts = {
    tool: installedVersions(),
    files: await Promise.all(digests),
    images: await imagesDigest(images),
    names: [reference.name, candidate?.name ?? null],
    backend: entry.backend,
    convert: candidateSpec.convert ?? null,
    conversion: candidateSpec.options ?? null,
    arch: arch ?? null,
    key: key ?? null,
    options,
  };
  const sides = async (): Promise<{ readonly file: NamedBytes; readonly source: SourceFile }> => {
    const opened = withCheckpoint(reference, open);
    return candidate === undefined
      ? convertEntry(entry, opened, open, io)
      : { file: candidate, source: opened };
  };
  return {
    fingerprint: await sha256(new TextEncoder().encode(JSON.stringify(facts))),
    async rank(cache) {
      if (!options.ranking) return undefined;
      const { file, source } = await sides();
      const data = at(options.ranking.data);
      const reading = definedOf({ arch, key });
      return rankEntry(file, source, { ...options.ranking, data }, { reading, backend, size, cache, io });
    },
    async run(onProgress, threads) {
      const started = performance.now();
      const { file, source } = await sides();
      const verification = await openVerification(file, source, { ...open, keptBytes: KEPT_BYTES });
      const report = await verify({
        ...verification,
        ...definedOf({ tolerance, onProgress, jobs: threads }),
      });
      return { ...report, run: runFacts((performance.now() - started) / 1000) };
    },
  };
}

interface RankEntryOptions {
  readonly reading: Pick<OpenOptions, "arch" | "key">;
  readonly backend: OpenOptions["backend"];
  readonly size: OpenOptions["size"];
  readonly cache: string | undefined;
  readonly io: Io;
}

async function rankEntry(
  file: NamedBytes,
  source: SourceFile,
  { data, distance = "euclidean", maxBroken, ...limits }: RankingSpec,
  { reading, backend, size, cache, io }: RankEntryOptions,
): Promise<EntryRanking> {
  const opened = openDataset(data);
  const pictures = picturesOf(opened);
  const settings = {
    quiet: true,
    ...definedOf({ cache: cache === undefined ? undefined : join(cache, "features"), maxBroken }),
  };
  const features = async (embedder: Embedder): Promise<Embedded> => {
    try {
      return await embedderSource(embedder, settings, io).features(pictures, opened.folder);
    } finally {
      await embedder.release();
    }
  };
  const model = await openEmbedder(file, definedOf({ backend, size }));
  const candidate = await features(model);
  const reference = await features(await openEmbedder(source, { ...reading, size: model.size }));
  const report = rankEmbedded(opened, reference, [candidate], { distance, ...limits });
  const [ranked] = report.candidates;
  const [before, after] = [report.reference.figures, ranked?.figures];
  return {
    dataset: report.dataset,
    distance,
    checks: ranked?.checks ?? [],
    mAP: before && after ? [before.mAP, after.mAP] : null,
    rank1: before && after ? [before.cmc[0] ?? 0, after.cmc[0] ?? 0] : null,
  };
}

/** Of a file and of the weight files that a model refers to; null for a missing one. */
function digestsOf(file: NamedBytes): readonly (Promise<string> | null)[] {
  const format = sniffFormat(file.bytes);
  const { beside: _, ...alone } = file;
  const model = isModelFormat(format) ? openModel(format, alone, zerosForAbsent()) : undefined;
  const weights = model ? [...weightFiles(model, file).values()] : [];
  return [
    toSource(file.bytes).sha256(),
    ...weights.map((bytes) => (bytes ? toSource(bytes).sha256() : null)),
  ];
}

/**
 * A path from the suite file, which must be a file or a folder: never standard input (`-` is an ordinary name), a pipe,
 * which would block, or a device, which may be endless.
 *
 * @throws InputError (`file`) if something else is there
 */
function plainPath(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found && !found.isFile() && !found.isDirectory())
    throw fileError(path, "a pipe or a device", "a regular file", "name a file or a folder");
  return path;
}

/** A checkpoint's bytes, or those of seeded weights: the same seed and architecture give the same file. */
async function readReference(
  { model, modelSpec }: PlannedEntry,
  at: (path: string) => string,
  arch: string | OsnetSpec | undefined,
): Promise<NamedBytes> {
  const { checkpoint, seed } = modelSpec;
  if (checkpoint !== undefined) return { name: basename(checkpoint), bytes: await readInput(at(checkpoint)) };
  const spec = typeof arch === "string" ? namedSpec(arch) : (arch ?? variant("osnet_x1_0"));
  const name = `${model}.seed${seed}.safetensors`;
  const stateDict = seededStateDict(expand(spec), seed ?? 0);
  return { name, bytes: encodeWeights(stateDict, "safetensors", { subject: name, metadata: new Map() }) };
}

/** The checkpoint of the last entry, which the next one usually needs too. */
let last: { readonly bytes: Uint8Array; readonly asked: string; readonly checkpoint: Checkpoint } | undefined;

/** Decodes and identifies a weight file, unless the last entry did. Other files are opened by their own readers. */
function withCheckpoint(file: NamedBytes, { arch, key }: OpenOptions): SourceFile {
  const bytes = toBytes(file.bytes);
  const format = sniffFormat(bytes);
  if (!isWeightsFormat(format) || format === "npz") return file;
  const asked = JSON.stringify([file.name, arch ?? null, key ?? null]);
  if (last?.asked !== asked || !sameBytes(last.bytes, bytes)) {
    const checkpoint = openCheckpoint(bytes, { subject: file.name, ...definedOf({ arch, key }) });
    last = { bytes, asked, checkpoint };
  }
  return { ...file, checkpoint: last.checkpoint };
}

/** Converts in memory, like osnet-convert. */
async function convertEntry(
  { model, candidateSpec }: PlannedEntry,
  reference: SourceFile,
  { arch, key }: OpenOptions,
  io: Io,
): Promise<{ readonly file: NamedBytes; readonly source: Source }> {
  const { convert = "onnx", options: { size: text, ...options } = {} } = candidateSpec;
  const checkpoint =
    reference.checkpoint ??
    openCheckpoint(reference.bytes, {
      subject: reference.name,
      ...definedOf({ arch, key }),
    });
  const source: Source = { ...reference, checkpoint };
  const size = sizeOf(text);
  const name = `${model}.${convert}`;
  const { format, ...kind } = CONVERSIONS[convert];
  const { target } = await openTarget(format, { ...options, ...definedOf({ size }), ...kind }, io);
  const { bytes, beside } = await write({ ...checkpoint, name: source.name }, target, name);
  return { file: { name, bytes, ...definedOf({ beside }) }, source };
}

function sizeOf(text: string | undefined): { readonly height: number; readonly width: number } | undefined {
  const [height, width] = text?.split("x").map(Number) ?? [];
  return height && width ? { height, width } : undefined;
}

/** Images by their content, or by how they are generated. */
async function imagesDigest(images: OpenOptions["images"]): Promise<unknown> {
  if (images === undefined || images === "auto" || "seed" in images) return images ?? null;
  if ("tensor" in images) return [images.tensor.shape, await sha256(bytesOf(images.tensor.data))];
  return Promise.all(
    images.photos.map(async ({ height, width, data }) => [height, width, await sha256(bytesOf(data))]),
  );
}

import { join } from "node:path";
import { InputError } from "../../core/errors.js";
import { definedOf } from "../../core/functions.js";
import type { RealTensor } from "../../core/tensor.js";
import { expectNotInputs, expectWritable } from "../../node/write.js";
import type { Proof } from "../../verify/outcome/report.js";
import { compareRankings } from "../../verify/ranking/compare.js";
import { type Dataset, datasetFacts, labelsOf, type Picture } from "../../verify/ranking/dataset.js";
import {
  type DistanceMetric,
  type DistanceRows,
  distanceRows,
  expectFeatures,
  rerankedRows,
} from "../../verify/ranking/distances.js";
import {
  DEFAULT_LIMITS,
  judgeRanking,
  type PictureNames,
  type RankingLimits,
  type RankingReport,
} from "../../verify/ranking/report.js";
import { NEAREST_SHOWN } from "../../verify/reports/ranking-html.js";
import { RANKING_FORMATS, renderRanking, renderRankingText } from "../../verify/reports/ranking-text.js";
import { badArgument } from "../options.js";
import type { ExitStatus } from "../program.js";
import { reportFormat, writeReport } from "../reports.js";
import { type Io, paintFor } from "../terminal.js";
import { type OpenDataset, openDataset, picturesOf } from "./embed-pictures.js";
import {
  type Embedded,
  type EmbeddingOptions,
  type FeatureSource,
  openReferenceSource,
  openSource,
} from "./features.js";
import { preparePicture } from "./pictures.js";

/** The command's options as parsed by commander. */
interface RankOptions extends Partial<RankingLimits>, EmbeddingOptions {
  readonly reference: string;
  readonly data: string;
  readonly distance: DistanceMetric;
  readonly rerank?: boolean;
  readonly singleShot?: boolean;
  readonly report?: readonly string[];
  readonly pictures?: boolean;
}

/** `osnet-verify rank`: exit status 0 if every candidate ranks as the reference does, within the limits. */
export async function rankCommand(
  candidates: readonly string[],
  options: RankOptions,
  io: Io,
): Promise<ExitStatus> {
  const reports = (options.report ?? []).map((path) => ({
    path,
    format: reportFormat(path, RANKING_FORMATS),
  }));
  for (const { path } of reports) await expectWritable(path, true);
  await expectNotInputs(
    reports.map(({ path }) => path),
    [...candidates, options.reference, options.arch],
  );
  const { report, folder, note } = await rankModels(candidates, options, io);
  for (const { path, format } of reports) {
    const isShown = format === "html" && options.pictures === true;
    const pictures = isShown ? await shownPictures(report, folder) : new Map<string, string>();
    await writeReport(path, await renderRanking(report, format, { pictures }));
  }
  if (options.json) io.stdout.write(await renderRanking(report, "json"));
  else if (!options.quiet) {
    io.stdout.write(`${renderRankingText(report, paintFor(io.stdout))}\n`);
    if (!report.passed && note !== undefined) io.stderr.write(`${note}\n`);
  }
  return report.passed ? 0 : 1;
}

/** Compares the candidates' rankings with the reference's. */
async function rankModels(
  candidates: readonly string[],
  options: RankOptions,
  io: Io,
): Promise<{ readonly report: RankingReport; readonly folder: string; readonly note: string | undefined }> {
  const opened = openDataset(options.data);
  const pictures = picturesOf(opened);
  const { reference, proof, others, note } = await allFeatures(candidates, options, io, (source) =>
    source.features(pictures, opened.folder),
  );
  const report = rankEmbedded(opened, { ...reference, proof }, others, options);
  return { report, folder: opened.folder, note };
}

/**
 * Ranks features of a data set's pictures, and compares the rankings with the reference's.
 *
 * @throws InputError (`file`) if too few pictures can be read, (`tensor`) if the reference's features are not finite
 */
export function rankEmbedded(
  { name, dataset }: Pick<OpenDataset, "name" | "dataset">,
  reference: Embedded & { readonly proof?: Proof | undefined },
  others: readonly Embedded[],
  options: Partial<RankingLimits> & Pick<RankOptions, "distance" | "rerank" | "singleShot">,
): RankingReport {
  const { proof } = reference;
  const limits: RankingLimits = {
    maxMapDrop: options.maxMapDrop ?? DEFAULT_LIMITS.maxMapDrop,
    maxRank1Drop: options.maxRank1Drop ?? DEFAULT_LIMITS.maxRank1Drop,
    maxFlips: options.maxFlips ?? DEFAULT_LIMITS.maxFlips,
  };
  const broken = new Map(
    [reference, ...others].flatMap((side) => side.broken.map(({ path, problem }) => [path, problem])),
  );
  const isRead = ({ path }: Picture): boolean => !broken.has(path);
  const read: Dataset = {
    ...dataset,
    queries: dataset.queries.filter(isRead),
    gallery: dataset.gallery.filter(isRead),
  };
  expectRanking(read, name);
  const labels = labelsOf(read);
  const expected = sideOf(reference, read, options);
  if (expected.nonFinite > 0)
    throw new InputError({
      code: "tensor",
      subject: reference.party.name,
      found: `NaN or infinite features for ${expected.nonFinite} pictures`,
      expected: "finite features",
      remedy: "run osnet-verify on it, which finds the layer where they start",
    });
  const names: PictureNames = {
    query: (query) => read.queries[query]?.path ?? "",
    gallery: (query, image) => {
      const { path = "", pid } = read.gallery[image] ?? {};
      return { picture: path, ...(labels ? { isMatch: pid === read.queries[query]?.pid } : {}) };
    },
  };
  const { singleShot = false } = options;
  const compared = others.map((side) => {
    const { rows, nonFinite } = sideOf(side, read, options);
    const comparison = compareRankings(expected.rows, rows, labels, { singleShot });
    const { party, backend } = side;
    return {
      reference: comparison.reference,
      ranked: judgeRanking({ party, backend, nonFinite }, comparison, limits, names),
    };
  });
  return {
    schema: "osnet-ranking/1",
    passed: compared.every(({ ranked }) => ranked.passed),
    dataset: { name, ...datasetFacts(read) },
    distance: options.distance,
    reranked: options.rerank ?? false,
    limits,
    broken: [...broken.values()],
    reference: {
      party: reference.party,
      backend: reference.backend,
      ...definedOf({ proof }),
      ...compared[0]?.reference,
    },
    candidates: compared.map(({ ranked }) => ranked),
  };
}

/**
 * Opens all models before the first one runs, so that errors are found early, and embeds with one after another. All
 * use one picture size: the requested one, or the one that the candidates fix.
 */
async function allFeatures(
  candidates: readonly string[],
  options: RankOptions,
  io: Io,
  embed: (source: FeatureSource) => Promise<Embedded>,
): Promise<{
  readonly reference: Embedded;
  readonly proof: Proof | undefined;
  readonly others: readonly Embedded[];
  readonly note: string | undefined;
}> {
  const open: FeatureSource[] = [];
  try {
    for (const candidate of candidates) open.push(await openSource(candidate, options, io));
    const others = [...open];
    const size = options.size ?? others.find((source) => source.size)?.size;
    const reference = await openReferenceSource(
      options.reference,
      { ...options, ...definedOf({ size }) },
      io,
    );
    open.push(reference);
    expectOneSize(open);
    const embedded = await embed(reference);
    const rest: Embedded[] = [];
    for (const source of others) rest.push(await embed(source));
    const note = options.size ? undefined : unknownSize(open);
    return { reference: embedded, proof: reference.proof, others: rest, note };
  } finally {
    await Promise.all(open.map((source) => source.release()));
  }
}

/** Says which features may be of pictures of another size than the others'; undefined if none are. */
function unknownSize(sources: readonly FeatureSource[]): string | undefined {
  const [unknown, known] = [sources.find(({ size }) => !size), sources.find(({ size }) => size)];
  if (!unknown || !known?.size) return undefined;
  const { height, width } = known.size;
  return `note: ${unknown.party.name} does not say which size its pictures had, and ${known.party.name} read them at ${height}x${width}; --size sets another`;
}

function expectOneSize(sources: readonly FeatureSource[]): void {
  const sized = sources.flatMap(({ party, size }) =>
    size ? [{ name: party.name, text: `${size.height}x${size.width}` }] : [],
  );
  const [first] = sized;
  const other = sized.find(({ text }) => text !== first?.text);
  if (!first || !other) return;
  throw badArgument(
    other.name,
    `pictures of ${other.text}, but ${first.text} in ${first.name}`,
    "models with the same picture size",
    "set --size, or rank them one at a time",
  );
}

/** A ranking needs a query and at least two images. */
function expectRanking({ queries, gallery, isShared }: Dataset, name: string): void {
  if (queries.length > 0 && gallery.length > (isShared ? 2 : 1)) return;
  throw new InputError({
    code: "file",
    subject: name,
    found: `${queries.length} readable queries and ${gallery.length} readable gallery images`,
    expected: isShared ? "at least three pictures" : "a query and at least two gallery images",
    remedy: "add pictures",
  });
}

/** A side's distances, and the number of its pictures with non-finite features. */
function sideOf(
  { party, rows }: Embedded,
  { queries, gallery }: Dataset,
  { distance, rerank }: Pick<RankOptions, "distance" | "rerank">,
): { readonly rows: DistanceRows; readonly nonFinite: number } {
  const bad = new Set<string>();
  const matrix = (pictures: readonly Picture[]): RealTensor => {
    const all = pictures.map(({ path }) => rows.get(path) ?? new Float32Array());
    const width = all[0]?.length ?? 0;
    const isSingle = all.every((row) => row instanceof Float32Array);
    const data = new (isSingle ? Float32Array : Float64Array)(all.length * width);
    for (const [index, row] of all.entries()) {
      data.set(row, index * width);
      let squares = 0;
      for (const value of row) squares += value * value;
      // A distance is at most four times as large.
      if (!(squares < Number.MAX_VALUE / 4)) bad.add(pictures[index]?.path ?? "");
    }
    const shape = [all.length, width];
    return expectFeatures(
      data instanceof Float32Array ? { dtype: "float32", shape, data } : { dtype: "float64", shape, data },
      party.name,
    );
  };
  const [q, g] = [matrix(queries), matrix(gallery)];
  return { rows: (rerank ? rerankedRows : distanceRows)(q, g, distance), nonFinite: bad.size };
}

/** Size and quality of a picture in a report: a few KB each, whatever the size of the file. */
const SHOWN = { height: 128, width: 64 } as const;
const QUALITY = 80;

/**
 * The pictures of the worst queries as `data:` URIs, re-encoded so that a report contains nothing of a file except its
 * pixels.
 */
async function shownPictures(
  { candidates }: RankingReport,
  folder: string,
): Promise<ReadonlyMap<string, string>> {
  const encode = await jpegEncoder();
  const paths = candidates.flatMap(({ worst }) =>
    worst.flatMap(({ picture, referenceNearest, candidateNearest }) => [
      picture,
      ...[referenceNearest, candidateNearest].flatMap((nearest) =>
        nearest.slice(0, NEAREST_SHOWN).map((one) => one.picture),
      ),
    ]),
  );
  const shown = new Map<string, string>();
  for (const path of new Set(paths)) {
    const prepared = await preparePicture({ path: join(folder, path), ...SHOWN });
    if (!("pixels" in prepared)) continue;
    const bytes = encode(prepared.pixels);
    shown.set(path, `data:image/jpeg;base64,${Buffer.from(bytes).toString("base64")}`);
  }
  return shown;
}

/** Encodes pictures at the displayed size, RGB, with libjpeg-turbo. */
async function jpegEncoder(): Promise<(pixels: Uint8Array) => Uint8Array> {
  // @ts-expect-error: the package has no types.
  const codec = await import("@cornerstonejs/codec-libjpeg-turbo-8bit/wasmjs");
  const encoder = new (await codec.default()).JPEGEncoder();
  encoder.setQuality(QUALITY);
  encoder.setProgressive(0);
  const frame = { ...SHOWN, bitsPerSample: 8, componentCount: 3, isSigned: false };
  return (pixels) => {
    encoder.getDecodedBuffer(frame).set(pixels);
    encoder.encode();
    return encoder.getEncodedBuffer();
  };
}

import { basename } from "node:path";
import type { RealTensor } from "../../core/tensor.js";
import { expectWritable } from "../../node/index.js";
import { compareRankings } from "../../verify/ranking/compare.js";
import { type Dataset, datasetFacts, labelsOf, type Picture } from "../../verify/ranking/dataset.js";
import {
  type DistanceMetric,
  type DistanceRows,
  distanceRows,
  expectFeatures,
} from "../../verify/ranking/distances.js";
import {
  DEFAULT_LIMITS,
  judgeRanking,
  type RankingLimits,
  type RankingReport,
} from "../../verify/ranking/report.js";
import { rerankedRows } from "../../verify/ranking/rerank.js";
import { renderRankingMarkdown, renderRankingText } from "../../verify/ranking/text.js";
import { badArgument } from "../options.js";
import type { ExitStatus } from "../program.js";
import { expectReportFormat, writeReport } from "../reports.js";
import { type Io, paintFor } from "../terminal.js";
import { type Embedded, type EmbeddingOptions, embedded, openDataset } from "./features.js";

/** The command's options, as commander hands them over. */
interface RankOptions extends Partial<RankingLimits>, EmbeddingOptions {
  readonly reference: string;
  readonly data: string;
  readonly distance: DistanceMetric;
  readonly rerank?: boolean;
  readonly report?: readonly string[];
  readonly pictures?: boolean;
  readonly json?: boolean;
}

/** `osnet-verify rank`: exit status 0 if every candidate ranks as the reference does, within the limits. */
export async function rankCommand(
  candidates: readonly string[],
  options: RankOptions,
  io: Io,
): Promise<ExitStatus> {
  const reports = options.report ?? [];
  const formats = reports.map((path) => ({ path, render: rendererOf(path) }));
  for (const path of reports) await expectWritable(path, true);
  const report = await rankModels(candidates, options, io);
  for (const { path, render } of formats) await writeReport(path, render(report));
  if (options.json) io.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else if (!options.quiet) io.stdout.write(`${renderRankingText(report, paintFor(io.stdout))}\n`);
  return report.passed ? 0 : 1;
}

function rendererOf(path: string): (report: RankingReport) => string {
  const format = expectReportFormat(path);
  if (format === "json") return (report) => `${JSON.stringify(report, null, 2)}\n`;
  if (format === "md") return renderRankingMarkdown;
  throw badArgument("--report", JSON.stringify(path), "a .json or .md file", "name one");
}

/** Ranks the candidates' features against the reference's. */
async function rankModels(
  candidates: readonly string[],
  options: RankOptions,
  io: Io,
): Promise<RankingReport> {
  const { dataset, folder } = openDataset(options.data);
  const limits: RankingLimits = {
    maxMapDrop: options.maxMapDrop ?? DEFAULT_LIMITS.maxMapDrop,
    maxRank1Drop: options.maxRank1Drop ?? DEFAULT_LIMITS.maxRank1Drop,
    maxFlips: options.maxFlips ?? DEFAULT_LIMITS.maxFlips,
  };
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
      ranked: judgeRanking(side.party, side.backend, comparison, limits, pathsOf),
    };
  });
  const figures = compared[0]?.figures;
  return {
    schema: "osnet-ranking/1",
    passed: compared.every(({ ranked }) => ranked.passed),
    dataset: { name: basename(options.data), ...datasetFacts(read) },
    distance: options.distance,
    reranked: options.rerank ?? false,
    limits,
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

import { type Paint, PLAIN } from "../../core/text.js";
import type { Change } from "./compare.js";
import type { RankingFigures } from "./evaluate.js";
import { percent, points, type RankedCandidate, type RankingReport } from "./report.js";

const RANKS = [1, 5, 10, 20] as const;

/** A ranking report for a terminal. */
export function renderRankingText(report: RankingReport, paint: Paint = PLAIN): string {
  const { dataset, candidates } = report;
  const lines = [
    `${dataset.name}: ${datasetLine(report)}`,
    ...(report.broken.length > 0
      ? [`${report.broken.length} pictures could not be read and were left out`]
      : []),
    `distance: ${report.distance}${report.reranked ? ", re-ranked" : ""}`,
    "",
    ...table(report),
    "",
    ...candidates.flatMap((candidate) => details(candidate, paint)),
    verdict(report, paint),
  ];
  return lines.join("\n");
}

function datasetLine({ dataset }: RankingReport): string {
  const { layout, queries, gallery, identities, cameras, distractors, queriesWithoutMatch } = dataset;
  return [
    `${layout} layout`,
    `${queries} queries`,
    `${gallery} gallery images`,
    ...(identities > 0 ? [`${identities} identities`] : ["no labels: the order of neighbours is compared"]),
    ...(cameras > 0 ? [`${cameras} cameras`] : []),
    ...(distractors > 0 ? [`${distractors} distractors`] : []),
    ...(queriesWithoutMatch > 0 ? [`${queriesWithoutMatch} queries without a match, skipped`] : []),
  ].join(", ");
}

function table({ reference, candidates }: RankingReport): readonly string[] {
  const rows = [
    { name: reference.party.name, backend: reference.backend, figures: reference.figures },
    ...candidates.map(({ candidate, backend, figures }) => ({ name: candidate.name, backend, figures })),
  ];
  if (rows.some(({ figures }) => figures === undefined))
    return rows.map(({ name, backend }) => `${name} (${backend})`);
  const width = Math.max(...rows.map(({ name }) => name.length));
  const head = ["mAP", ...RANKS.map((rank) => `rank-${rank}`), "mINP"]
    .map((title) => title.padStart(9))
    .join("");
  return [
    `${"".padEnd(width)}${head}`,
    ...rows.map(
      ({ name, figures }) =>
        `${name.padEnd(width)}${(figures ? shares(figures) : []).map((share) => percent(share).padStart(9)).join("")}`,
    ),
  ];
}

function shares({ mAP, cmc, mINP }: RankingFigures): readonly number[] {
  return [mAP, ...RANKS.map((rank) => cmc[rank - 1] ?? cmc.at(-1) ?? 0), mINP];
}

function details({ candidate, parity, figures }: RankedCandidate, paint: Paint): readonly string[] {
  const { flips, overlap, kendallTau, drift } = parity;
  const directions =
    flips.toWrong === undefined ? "" : ` (${flips.toWrong} to a wrong one, ${flips.toRight} to a right one)`;
  return [
    paint.strong(candidate.name),
    ...(parity.mAP && parity.rank1 ? [`  mAP ${change(parity.mAP)}; rank-1 ${change(parity.rank1)}`] : []),
    `  nearest image: another for ${flips.count} queries, ${percent(flips.share)}${directions}`,
    `  overlap: ${overlap.map(({ k, value }) => `${percent(value)} of the nearest ${k}`).join(", ")}`,
    `  Kendall's τ of the nearest 100: ${kendallTau.toFixed(4)}; distances differ by up to ${drift.max.toExponential(1)} of the largest`,
    ...(figures && figures.ties.queries > 0
      ? [
          `  ties: at ${figures.ties.queries} queries; mAP is between ${percent(figures.ties.mAPWorst)} and ${percent(figures.ties.mAPBest)}, by their order`,
        ]
      : []),
    "",
  ];
}

function change({ value, low, high }: Change): string {
  const sign = value > 0 ? "+" : "";
  return `${sign}${points(value)} (95 % interval ${(100 * low).toFixed(2)} to ${(100 * high).toFixed(2)})`;
}

function verdict({ passed, candidates }: RankingReport, paint: Paint): string {
  const failing = candidates.filter((candidate) => !candidate.passed);
  return passed
    ? paint.good(
        `PASS  ${candidates.length === 1 ? "the candidate ranks" : `${candidates.length} candidates rank`} as the reference does, within the limits`,
      )
    : failing
        .map(({ candidate, failures }) => paint.bad(`FAIL  ${candidate.name}: ${failures.join("; ")}`))
        .join("\n");
}

/** A ranking report as Markdown. */
export function renderRankingMarkdown(report: RankingReport): string {
  const { reference, candidates, passed } = report;
  const rows = [
    { name: reference.party.name, figures: reference.figures },
    ...candidates.map(({ candidate, figures }) => ({ name: candidate.name, figures })),
  ];
  return `${[
    `## ${passed ? "PASS" : "FAIL"}: ranking parity on ${cell(report.dataset.name)}`,
    "",
    `${datasetLine(report)}; ${report.distance} distance${report.reranked ? ", re-ranked" : ""}.`,
    "",
    `| model | mAP | ${RANKS.map((rank) => `rank-${rank}`).join(" | ")} | mINP |`,
    `| --- | ${Array(RANKS.length + 2)
      .fill("---:")
      .join(" | ")} |`,
    ...rows.map(
      ({ name, figures }) => `| ${cell(name)} | ${figures ? shares(figures).map(percent).join(" | ") : ""} |`,
    ),
    "",
    ...candidates.flatMap(({ candidate, failures, parity }) => [
      `- **${cell(candidate.name)}**: ${parity.mAP ? `mAP ${change(parity.mAP)}, ` : ""}${percent(parity.flips.share)} of queries have another nearest image${failures.length > 0 ? `; **${failures.join("; ")}**` : ""}`,
    ]),
  ].join("\n")}\n`;
}

/** Text in a table's cell: characters that Markdown or HTML would read are escaped. */
function cell(text: string): string {
  return text.replace(/[\\`*_{}[\]<>()#+!|&~]/g, (character) => `\\${character}`).replace(/\s+/g, " ");
}

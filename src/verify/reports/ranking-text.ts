import { type Paint, PLAIN, plural, renderTable } from "../../core/text.js";
import type { RankedCandidate, RankingReport } from "../ranking/report.js";
import { escapeMarkdown, markdownCode, printable } from "./escape.js";
import {
  changeText,
  checkText,
  datasetText,
  FIGURE_NAMES,
  failureText,
  orderTexts,
  percent,
  referenceText,
  sharesOf,
  sidesOf,
  verdictText,
} from "./facts.js";
import { junitDocument } from "./junit.js";
import type { RankingPageOptions } from "./ranking-html.js";

/** A ranking report for a terminal. */
export function renderRankingText(report: RankingReport, paint: Paint = PLAIN): string {
  const { dataset, broken, candidates, passed } = report;
  const reference = referenceText(report);
  const failures = candidates.filter((candidate) => !candidate.passed);
  return [
    `${printable(dataset.name)}: ${datasetText(report)}`,
    ...(broken.length > 0
      ? [`skipped: ${plural(broken.length, "picture")}, such as ${printable(broken[0] ?? "")}`]
      : []),
    "",
    figureTable(report, paint),
    ...(reference === "" ? [] : [`  ${paint.faint(printable(reference))}`]),
    "",
    ...candidates.flatMap((candidate) => details(candidate, paint)),
    ...(passed
      ? [paint.good(`PASS  ${verdictText(report)}`)]
      : failures.map((candidate) =>
          paint.bad(`FAIL  ${printable(candidate.party.name)}: ${failureText(candidate)}`),
        )),
  ].join("\n");
}

function figureTable(report: RankingReport, paint: Paint): string {
  const sides = sidesOf(report);
  const isLabelled = sides.some(({ figures }) => figures);
  return renderTable(
    ["model", "run by", ...(isLabelled ? FIGURE_NAMES : [])],
    sides.map(({ party, backend, figures }) => [
      printable(party.name),
      backend,
      ...(figures ? sharesOf(figures).map(percent) : []),
    ]),
    ["left", "left", "right"],
    paint.faint,
  );
}

function details(candidate: RankedCandidate, paint: Paint): readonly string[] {
  const { party, parity, singleShot } = candidate;
  return [
    paint.strong(printable(party.name)),
    ...(parity.mAP && parity.rank1
      ? [`  mAP ${changeText(parity.mAP)}; rank-1 ${changeText(parity.rank1)}`]
      : []),
    ...orderTexts(candidate).map((line) => `  ${line}`),
    ...(singleShot ? [`  rank-1 with one image of each identity: ${percent(singleShot[0] ?? 0)}`] : []),
    "",
  ];
}

/** Queries that are listed for each candidate. */
const SHOWN = 3;

/** A ranking report as GitHub-flavoured Markdown. */
function renderRankingMarkdown(report: RankingReport): string {
  const { passed, dataset, broken, candidates } = report;
  const sides = sidesOf(report);
  const reference = referenceText(report);
  const columns = sides.some(({ figures }) => figures) ? FIGURE_NAMES : [];
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return `${[
    `## ${passed ? "PASS" : "FAIL"}: ${verdictText(report)}`,
    "",
    `${markdownCode(dataset.name)}: ${escapeMarkdown(datasetText(report))}.`,
    ...(broken.length > 0 ? ["", `Pictures skipped: ${broken.length}.`] : []),
    "",
    row(["model", "run by", ...columns]),
    row(["---", "---", ...columns.map(() => "---:")]),
    ...sides.map(({ party, backend, figures }) =>
      row([markdownCode(party.name), backend, ...(figures ? sharesOf(figures).map(percent) : [])]),
    ),
    ...(reference === "" ? [] : ["", `${escapeMarkdown(reference)}.`]),
    ...candidates.flatMap((candidate) => {
      const { party, parity, worst } = candidate;
      const failure = failureText(candidate);
      return [
        "",
        `### ${candidate.passed ? "PASS" : "FAIL"} ${markdownCode(party.name)}`,
        "",
        ...(failure === "" ? [] : [`**${escapeMarkdown(failure)}**`, ""]),
        ...(parity.mAP && parity.rank1
          ? [`- mAP ${changeText(parity.mAP)}; rank-1 ${changeText(parity.rank1)}`]
          : []),
        ...orderTexts(candidate).map((line) => `- ${escapeMarkdown(line)}`),
        ...worst
          .slice(0, SHOWN)
          .map(
            ({ picture, before, after }) =>
              `- lost most: ${markdownCode(picture)}${before === undefined || after === undefined ? "" : `, average precision ${before.toFixed(3)} to ${after.toFixed(3)}`}`,
          ),
      ];
    }),
  ].join("\n")}\n`;
}

/** A ranking report as JUnit XML: a suite per candidate, a case per check. */
function renderRankingJunit({ dataset, candidates }: RankingReport): string {
  return junitDocument(
    candidates.map((candidate) => ({
      name: `${candidate.party.name} on ${dataset.name}`,
      cases: candidate.checks.map((check) => ({
        name: check.figure,
        className: `ranking.${candidate.party.name}`,
        ...(check.passed
          ? {}
          : { outcome: { kind: "failure" as const, type: check.figure, text: checkText(check) } }),
      })),
      seconds: 0,
      output: orderTexts(candidate),
    })),
  );
}

/** How a ranking report is written, by the suffix of its file. */
export const RANKING_FORMATS = ["json", "md", "xml", "html"] as const;

type RankingFormat = (typeof RANKING_FORMATS)[number];

/** A ranking report as text: JSON is the report itself, HTML one self-contained page. */
export async function renderRanking(
  report: RankingReport,
  format: RankingFormat,
  options: RankingPageOptions = {},
): Promise<string> {
  switch (format) {
    case "json":
      return `${JSON.stringify(report, null, 2)}\n`;
    case "md":
      return renderRankingMarkdown(report);
    case "xml":
      return renderRankingJunit(report);
    case "html":
      return (await import("./ranking-html.js")).renderRankingHtml(report, options);
  }
}

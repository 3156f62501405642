import type { RankingReport } from "../../ranking/report.js";
import { escapeMarkdown, markdownCode } from "../escape.js";
import {
  changeText,
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

/** Queries that are listed for each candidate. */
const SHOWN = 3;

/** A ranking report as GitHub-flavoured Markdown. */
export function renderRankingMarkdown(report: RankingReport): string {
  const { passed, dataset, broken, candidates } = report;
  const sides = sidesOf(report);
  const reference = referenceText(report);
  const columns = sides.some(({ figures }) => figures) ? FIGURE_NAMES : [];
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return `${[
    `## ${passed ? "PASS" : "FAIL"}: ${verdictText(report)}`,
    "",
    `${markdownCode(dataset.name)}: ${escapeMarkdown(datasetText(report))}.`,
    ...(broken.length > 0 ? ["", `Pictures left out: ${broken.length}.`] : []),
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

import { type Paint, PLAIN, renderTable } from "../../../core/text.js";
import type { RankedCandidate, RankingReport } from "../../ranking/report.js";
import { printable } from "../escape.js";
import { plural } from "../facts.js";
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

/** A ranking report for a terminal. */
export function renderRankingText(report: RankingReport, paint: Paint = PLAIN): string {
  const { dataset, broken, candidates, passed } = report;
  const reference = referenceText(report);
  const failures = candidates.filter((candidate) => !candidate.passed);
  return [
    `${printable(dataset.name)}: ${datasetText(report)}`,
    ...(broken.length > 0
      ? [`left out: ${plural(broken.length, "picture")}, such as ${printable(broken[0] ?? "")}`]
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

import {
  entryFileName,
  failuresFirst,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
} from "../../suite/report.js";
import { formatError, suiteClause, TELLING_NOTE, verdictClause, worstMargin } from "../facts.js";
import { baselineSection, faultTable } from "./sections.js";
import { assemble, code, linkLine, mark, type ReportLink, table, text } from "./text.js";

/** A suite: verdict, the faults of the entries that failed, what changed since the baseline, then every entry in a line. */
export function renderSuiteMarkdown(
  suite: SuiteReport,
  {
    links = [],
    entryLink,
  }: { readonly links?: readonly ReportLink[]; readonly entryLink?: (file: string) => string } = {},
): string {
  const { cached } = suiteCounts(suite);
  const failed = failuresFirst(suite.entries).filter(({ status }) => status !== "pass");
  const shard = suite.shard ? ` (shard ${suite.shard.index} of ${suite.shard.total})` : "";
  const fromCache = cached > 0 ? [`${cached} unchanged since an earlier run, and taken from its cache.`] : [];
  return assemble([
    `## ${mark(suite.passed)} ${suite.passed ? "Parity holds" : "Parity does not hold"}: ${text(suite.name)}${shard}`,
    [`**${suiteClause(suite)}**`, ...fromCache, ...linkLine(links)].join("  \n"),
    ...failed.slice(0, 20).map(failedEntry),
    ...(failed.length > 20 ? [`… and ${failed.length - 20} more entries that do not hold`] : []),
    ...suite.entries.flatMap(({ id, status, report }) =>
      status === "pass" && report?.baseline && report.baseline.regressions.length > 0
        ? [`### ${entryTitle(id)}\n\n#${baselineSection(report.baseline)}`]
        : [],
    ),
    entryTable(suite, entryLink),
  ]);
}

function entryTitle(id: string): string {
  return id.split(" · ").map(code).join(" · ");
}

function failedEntry({ id, report, error }: SuiteEntry): string {
  if (!report) return `### ⚠️ ${entryTitle(id)}\n\n${text(error ?? "nothing was compared", 400)}`;
  return [
    `### ${mark(false)} ${entryTitle(id)}\n\n${verdictClause(report, code)}`,
    ...(report.faults.length > 0 ? [faultTable(report.faults, 5)] : []),
    ...(report.baseline ? [`#${baselineSection(report.baseline)}`] : []),
  ].join("\n\n");
}

function entryTable({ entries }: SuiteReport, entryLink: ((file: string) => string) | undefined): string {
  const rows = entries.map((entry) => {
    const { id, report, model, candidate, backend, status } = entry;
    const name = entryLink && report ? `[report](${entryLink(entryFileName(id))})` : "";
    return [
      status === "error" ? "⚠️" : mark(status === "pass"),
      code(model),
      code(candidate),
      code(backend),
      report ? worstMargin(report) : "–",
      report?.output ? formatError(report.output.normalizedMaxAbs) : "–",
      report ? String(report.layers.length) : "–",
      [entry.run?.cached ? "cached" : "", name].filter(Boolean).join(", "),
    ];
  });
  const header = ["", "model", "candidate", "backend", "worst margin", "embedding", "layers", ""];
  return `### All entries\n\nMargin: error over what is allowed. ${TELLING_NOTE}\n\n${table(header, "llllrrrl", rows, 200)}`;
}

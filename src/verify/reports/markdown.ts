import { formatCosine, plural } from "../../core/text.js";
import { engineOf } from "../backends/registry.js";
import {
  type BaselineComparison,
  type Change,
  type Fault,
  faultName,
  type ParityReport,
} from "../outcome/report.js";
import { failuresFirst, type SuiteEntry, type SuiteReport, suiteCounts } from "../suite/report.js";
import { escapeMarkdown, markdownCode, shorten } from "./escape.js";
import {
  entryRankingText,
  findings,
  formatError,
  formatMargin,
  marginMeaning,
  OMITTED_NOTE,
  runtimeClause,
  suiteClause,
  verdictClause,
  worstFirst,
  worstMargin,
} from "./facts.js";

/** Building blocks of the Markdown reports: names, prose, tables, and a document of bounded size. */

/** GitHub takes 65,536 characters in a comment and 1 MiB in a step summary; other text of the comment needs room. */
const MAX_BYTES = 58_000;

/** Limit on names, which would otherwise fill a table. */
const MAX_NAME = 120;

function code(name: string): string {
  return markdownCode(shorten(name, MAX_NAME));
}

function text(prose: string, most: number = MAX_NAME): string {
  return escapeMarkdown(shorten(prose, most));
}

function mark(passed: boolean): string {
  return passed ? "✅" : "❌";
}

/** @param align a letter per column, `l` or `r`; the last applies to the columns after it */
function table(
  header: readonly string[],
  align: string,
  rows: readonly (readonly string[])[],
  most: number,
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = header.map((_, column) => ((align[column] ?? align.at(-1)) === "r" ? "---:" : "---"));
  const more = rows.length > most ? ["", `… and ${rows.length - most} more, see the JSON report`] : [];
  return [line(header), line(rule), ...rows.slice(0, most).map(line), ...more].join("\n");
}

/** The first sections of a document, as many lines as fit into 60 KB. */
function assemble(sections: readonly string[]): string {
  const encoder = new TextEncoder();
  const lines = sections.join("\n\n").split("\n");
  let bytes = 0;
  const end = lines.findIndex((line) => {
    bytes += encoder.encode(line).length + 1;
    return bytes > MAX_BYTES;
  });
  if (end < 0) return `${lines.join("\n")}\n`;
  return `${lines.slice(0, end).join("\n")}\n\n… truncated: see the other reports for the rest\n`;
}

/** Parts of Markdown reports that a model's and a suite's have in common. */

function faultTable(faults: readonly Fault[]): string {
  const rows = faults.map((fault) => [
    code(faultName(fault)),
    fault.kind,
    formatMargin(fault.margin),
    text(fault.explanation, 400),
  ]);
  return table(["layer", "kind", "margin", "what is wrong"], "llrl", rows, rows.length);
}

function baselineSection(comparison: BaselineComparison): string {
  const { name, factor, policy, regressions, improvements, added, removed, notes } = comparison;
  const summary = [
    regressions.length === 0
      ? `No figure is more than ${factor} times what it was.`
      : `${plural(regressions.length, "figure")} more than ${factor} times what it was (${policy === "fail" ? "which fails" : "a warning"}).`,
    ...(improvements.length > 0
      ? [`${plural(improvements.length, "figure")} better by the same factor.`]
      : []),
    ...(added.length > 0 ? [`${plural(added.length, "layer")} added.`] : []),
    ...(removed.length > 0 ? [`${plural(removed.length, "layer")} removed.`] : []),
    ...notes.map((note) => `Note: ${text(note)}.`),
  ].join(" ");
  return [
    `### Compared with ${code(name)}\n\n${summary}`,
    ...(regressions.length > 0 ? [changeTable(regressions, 10)] : []),
    ...(improvements.length > 0 ? [`Better:\n\n${changeTable(improvements, 3)}`] : []),
  ].join("\n\n");
}

function changeTable(changes: readonly Change[], most: number): string {
  const rows = changes.map(({ layer, figure, before, after }) => [
    code(layer),
    figure,
    formatMargin(before),
    formatMargin(after),
  ]);
  return table(["layer", "figure", "before", "now"], "llrr", rows, most);
}

/**
 * GitHub-flavoured Markdown for a step summary or a pull request: verdict, faults, changes since the baseline, the
 * worst ten layers, the gates. Always under 60 KB: the end is truncated if necessary, with a note.
 */
export function renderMarkdown(report: ParityReport): string {
  const { passed, candidate, faults, baseline, gates } = report;
  return assemble([
    `## ${mark(passed)} ${passed ? "Parity holds" : "Parity does not hold"}: ${code(candidate.name)}`,
    [`**${verdictClause(report, code)}**`, heading(report)].join("  \n"),
    ...(faults.length > 0 ? [`### Faults\n\n${faultTable(faults)}`] : []),
    ...(baseline ? [baselineSection(baseline)] : []),
    worstLayers(report),
    ...(gates.length > 0 ? [gateTable(report)] : []),
    facts(report),
  ]);
}

function heading(report: ParityReport): string {
  const { candidate, reference, backend, input, run } = report;
  const ran = runtimeClause(report);
  const variant = reference.variant ?? candidate.variant;
  const version =
    backend === "recorded" || backend === "reference" ? undefined : run?.versions[engineOf(backend).package];
  return [
    `in ${text(backend)}${version ? ` ${text(version)}` : ""}, against ${code(reference.name)}`,
    `${variant ? ` (${text(variant)})` : ""}, on images ${input.shape.join("×")} from ${text(input.source)}`,
    ran === "" ? "" : `, run by ${text(ran)}`,
  ].join("");
}

function worstLayers(report: ParityReport): string {
  const { layers, tolerance } = report;
  const worst = worstFirst(report).slice(0, 10);
  const hasLocal = layers.some(({ localMaxAbs }) => localMaxAbs !== undefined);
  const rows = worst.map((layer) => [
    layer.status === "untested" ? "–" : mark(layer.status === "pass"),
    code(layer.name),
    text(layer.op),
    formatMargin(layer.margin),
    ...(hasLocal ? [formatError(layer.localMaxAbs)] : []),
    formatError(layer.maxAbs),
    formatError(layer.relMax),
    formatCosine(layer.cosine),
  ]);
  const local = hasLocal ? ["local error"] : [];
  const header = ["", "layer", "op", "margin", ...local, "max abs", "of max", "cosine"];
  return [
    `### Worst ${worst.length} of ${plural(layers.length, "layer")}`,
    `Margin: ${marginMeaning(tolerance)}.${tolerance.rule === "derived-bounds" ? ` ${OMITTED_NOTE}` : ""}`,
    table(header, hasLocal ? "lllrrrrr" : "lllrrrr", rows, 10),
  ].join("\n\n");
}

/** A row per block; the shape of a network may be anything, so that rows and columns are bounded. */
function gateTable({ gates }: ParityReport): string {
  const streams = [...new Set(gates.map(({ stream }) => stream))].sort((a, b) => a - b).slice(0, 8);
  const blocks = [...new Set(gates.map(({ block }) => block))];
  const rows = blocks.map((block) => [
    code(block),
    ...streams.map((stream) => {
      const gate = gates.find((one) => one.block === block && one.stream === stream);
      if (!gate) return "";
      const range = `${gate.min.toFixed(2)}–${gate.max.toFixed(2)} ±${formatError(gate.maxAbs)}`;
      return gate.status === "fail"
        ? `${mark(false)} ${range}`
        : gate.status === "untested"
          ? `(${range})`
          : range;
    }),
  ]);
  const failing = gates.filter(({ status }) => status === "fail").length;
  return [
    `### ${plural(gates.length, "gate")}${failing > 0 ? `, ${failing} failing` : ""}`,
    "Range of the candidate's gate vectors, and the largest error.",
    table(["block", ...streams.map((stream) => `stream ${stream}`)], "l", rows, 40),
  ].join("\n\n");
}

function facts(report: ParityReport): string {
  const prose = (sentence: string): string => text(sentence, 400);
  const { run } = report;
  const versions = Object.entries(run?.versions ?? {}).map(([name, version]) => `${name} ${version}`);
  return [
    ...findings(report, prose).map(([term, finding]) => `- ${term}: ${finding}`),
    ...(run ? [`- Run: ${text([...versions, run.platform, run.cpu].join(", "), 400)}`] : []),
  ].join("\n");
}

/** A suite: verdict, the faults of the entries that failed, what changed since the baseline, then every entry in a line. */
export function renderSuiteMarkdown(suite: SuiteReport): string {
  const { cached } = suiteCounts(suite);
  const failed = failuresFirst(suite.entries).filter(({ status }) => status !== "pass");
  const shard = suite.shard ? ` (shard ${suite.shard.index} of ${suite.shard.total})` : "";
  const fromCache = cached > 0 ? [`${cached} unchanged since an earlier run, and taken from its cache.`] : [];
  return assemble([
    `## ${mark(suite.passed)} ${suite.passed ? "Parity holds" : "Parity does not hold"}: ${text(suite.name)}${shard}`,
    [`**${suiteClause(suite)}**`, ...fromCache].join("  \n"),
    ...failed.slice(0, 20).map(failedEntry),
    ...(failed.length > 20 ? [`… and ${failed.length - 20} more entries that fail`] : []),
    ...suite.entries.flatMap(({ id, status, report }) =>
      status === "pass" && report?.baseline && report.baseline.regressions.length > 0
        ? [`### ${entryTitle(id)}\n\n#${baselineSection(report.baseline)}`]
        : [],
    ),
    entryTable(suite),
  ]);
}

function entryTitle(id: string): string {
  return id.split(" · ").map(code).join(" · ");
}

function failedEntry({ id, report, ranking, error }: SuiteEntry): string {
  if (!report) return `### ⚠️ ${entryTitle(id)}\n\n${text(error ?? "nothing was compared", 400)}`;
  return [
    `### ${mark(false)} ${entryTitle(id)}\n\n${verdictClause(report, code)}`,
    ...(report.faults.length > 0 ? [faultTable(report.faults)] : []),
    ...(ranking ? [text(entryRankingText(ranking), 400)] : []),
    ...(report.baseline ? [`#${baselineSection(report.baseline)}`] : []),
  ].join("\n\n");
}

function entryTable({ entries }: SuiteReport): string {
  const rows = entries.map((entry) => {
    const { report, model, candidate, backend, status } = entry;
    return [
      status === "error" ? "⚠️" : mark(status === "pass"),
      code(model),
      code(candidate),
      code(backend),
      report ? worstMargin(report) : "–",
      report?.output ? formatError(report.output.normalizedMaxAbs) : "–",
      report ? String(report.layers.length) : "–",
      entry.run?.cached ? "cached" : "",
    ];
  });
  const header = ["", "model", "candidate", "backend", "worst margin", "embedding", "layers", ""];
  return `### All entries\n\nMargin: error divided by what is allowed. ${OMITTED_NOTE}\n\n${table(header, "llllrrrl", rows, 200)}`;
}

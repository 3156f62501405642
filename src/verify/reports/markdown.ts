import type { BaselineComparison, Fault, ParityReport } from "../report.js";
import {
  entryFileName,
  failuresFirst,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
} from "../suite/report.js";
import { escapeMarkdown, markdownCode } from "./escape.js";
import {
  formatCosine,
  formatError,
  formatMargin,
  marginMeaning,
  plural,
  verdictClause,
  worstFirst,
  worstMargin,
} from "./facts.js";

/** A link below the verdict, such as to the HTML report. */
export interface ReportLink {
  readonly text: string;
  readonly url: string;
}

/** GitHub takes 65,536 characters in a comment and 1 MiB in a step summary; other text of the comment needs room. */
const MAX_BYTES = 58_000;

/** Longer names say no more, and would fill a table. */
const MAX_NAME = 120;

/**
 * GitHub-flavoured Markdown for a step summary or a pull request: verdict, faults, what changed since the baseline, the
 * worst ten layers, the gates. Always under 60 KB: what does not fit is left out from the end, and said so.
 */
export function renderMarkdown(
  report: ParityReport,
  { links = [] }: { readonly links?: readonly ReportLink[] } = {},
): string {
  return assemble([
    `## ${mark(report.passed)} ${report.passed ? "Parity holds" : "Parity does not hold"}: ${code(report.candidate.name)}`,
    [`**${text(verdictClause(report))}**`, heading(report), ...linkLine(links)].join("  \n"),
    ...(report.faults.length > 0 ? [`### Faults\n\n${faultTable(report.faults)}`] : []),
    ...(report.baseline ? [baselineSection(report.baseline)] : []),
    worstLayers(report),
    ...(report.gates.length > 0 ? [gateTable(report)] : []),
    facts(report),
  ]);
}

/** A suite: verdict, every entry in a line, then the faults of those that failed. */
export function renderSuiteMarkdown(
  suite: SuiteReport,
  {
    links = [],
    entryLink,
  }: { readonly links?: readonly ReportLink[]; readonly entryLink?: (file: string) => string } = {},
): string {
  const counts = suiteCounts(suite);
  const failed = failuresFirst(suite).filter(({ status }) => status !== "pass");
  const summary = [
    `${counts.pass} of ${plural(suite.entries.length, "entry", "entries")} hold`,
    ...(counts.fail > 0 ? [`${counts.fail} do not`] : []),
    ...(counts.error > 0 ? [`${counts.error} could not be run`] : []),
    ...(counts.cached > 0 ? [`${counts.cached} unchanged since an earlier run, taken from its cache`] : []),
    ...(suite.skipped.length > 0 ? [`${suite.skipped.length} not run`] : []),
  ].join(", ");
  const shard = suite.shard ? ` (shard ${suite.shard.index} of ${suite.shard.total})` : "";
  return assemble([
    `## ${mark(suite.passed)} ${suite.passed ? "Parity holds" : "Parity does not hold"}: ${text(suite.name)}${shard}`,
    [`**${summary}**`, ...linkLine(links)].join("  \n"),
    ...failed.slice(0, 20).map(failedEntry),
    ...(failed.length > 20 ? [`… and ${failed.length - 20} more entries that do not hold`] : []),
    ...suite.entries
      .filter(({ status, report }) => status === "pass" && (report?.baseline?.regressions.length ?? 0) > 0)
      .map(
        ({ id, report }) => `#### ${text(id)}\n\n${report?.baseline ? baselineSection(report.baseline) : ""}`,
      ),
    entryTable(suite, entryLink),
  ]);
}

function failedEntry({ id, report, error }: SuiteEntry): string {
  if (!report) return `### ${mark(false)} ${text(id)}\n\n${text(error ?? "nothing was compared")}`;
  return [
    `### ${mark(false)} ${text(id)}\n\n${text(verdictClause(report))}`,
    ...(report.faults.length > 0 ? [faultTable(report.faults, 5)] : []),
    ...(report.baseline ? [baselineSection(report.baseline)] : []),
  ].join("\n\n");
}

function entryTable({ entries }: SuiteReport, entryLink: ((file: string) => string) | undefined): string {
  const rows = entries.map((entry) => {
    const { report, model, candidate, backend, status } = entry;
    const name = entryLink && report ? `[report](${entryLink(entryFileName(entry))})` : "";
    return [
      status === "error" ? "⚠️" : mark(status === "pass"),
      code(model),
      code(candidate),
      code(backend),
      report ? formatMargin(worstMargin(report.layers)) : "–",
      report?.output ? formatError(report.output.normalizedMaxAbs) : "–",
      report ? String(report.layers.length) : "–",
      [entry.run?.cached ? "cached" : "", name].filter(Boolean).join(", "),
    ];
  });
  const header = ["", "model", "candidate", "backend", "worst margin", "embedding", "layers", ""];
  return `### All entries\n\n${table(header, "llllrrrl", rows, 200)}`;
}

function heading({ candidate, reference, backend, input, run }: ParityReport): string {
  const variant = reference.variant ?? candidate.variant;
  const version = run?.versions[backend === "onnxruntime" ? "onnxruntime-node" : "osnet-convert"];
  return [
    `in ${text(backend)}${version ? ` ${text(version)}` : ""}, against ${code(reference.name)}`,
    `${variant ? ` (${text(variant)})` : ""}, on images ${input.shape.join("×")} from ${text(input.source)}`,
  ].join("");
}

function faultTable(faults: readonly Fault[], most = 20): string {
  const rows = faults.map(({ layer, kind, margin, explanation }) => [
    code(layer),
    kind,
    formatMargin(margin),
    text(explanation, 400),
  ]);
  return table(["layer", "kind", "margin", "what is wrong"], "llrl", rows, most);
}

function baselineSection({
  name,
  factor,
  policy,
  regressions,
  improvements,
  added,
  removed,
  notes,
}: BaselineComparison): string {
  const change = (change: BaselineComparison["regressions"][number]): readonly string[] => [
    code(change.layer),
    change.figure,
    formatMargin(change.before),
    formatMargin(change.after),
  ];
  const header = ["layer", "figure", "before", "now"];
  const summary = [
    regressions.length === 0
      ? `No figure is more than ${factor} times what it was.`
      : `${plural(regressions.length, "figure")} more than ${factor} times what it was (${policy === "fail" ? "which fails" : "a warning"}).`,
    ...(improvements.length > 0 ? [`${plural(improvements.length, "figure")} better by as much.`] : []),
    ...(added.length > 0 ? [`${plural(added.length, "layer")} new.`] : []),
    ...(removed.length > 0 ? [`${plural(removed.length, "layer")} gone.`] : []),
    ...notes.map((note) => `Note: ${text(note)}.`),
  ].join(" ");
  return [
    `### Compared with ${code(name)}\n\n${summary}`,
    ...(regressions.length > 0 ? [table(header, "llrr", regressions.map(change), 10)] : []),
    ...(regressions.length === 0 && improvements.length > 0
      ? [table(header, "llrr", improvements.map(change), 3)]
      : []),
  ].join("\n\n");
}

function worstLayers({ layers, tolerance }: ParityReport): string {
  const worst = worstFirst(layers).slice(0, 10);
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
    `Margin: ${marginMeaning(tolerance)}.`,
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

function facts({ output, weights, coverage, proof, vacuity }: ParityReport): string {
  const untested = vacuity?.untested ?? [];
  return [
    ...(output
      ? [
          `- Embedding ${code(output.layer)}: max abs ${formatError(output.maxAbs)}, L2-normalised ${formatError(output.normalizedMaxAbs)}, cosine ${formatCosine(output.cosine)}`,
        ]
      : []),
    ...(weights
      ? [`- Weights: ${weights.identical} of ${weights.compared} constants are the checkpoint's`]
      : []),
    `- Coverage: ${coverage.compared} of ${coverage.expected - coverage.folded.length} layers compared, ${coverage.folded.length} more folded into the next`,
    ...(proof
      ? [`- ${proof.status === "proven" ? "Proven" : "Sampled"}: ${text(proof.grounds.join("; "), 400)}`]
      : []),
    ...(untested.length > 0
      ? [
          `- Untested by these images: ${plural(untested.length, "layer")}, first ${code(untested[0]?.layer ?? "")} (${text(untested[0]?.reason ?? "")})`,
        ]
      : []),
  ].join("\n");
}

function linkLine(links: readonly ReportLink[]): readonly string[] {
  if (links.length === 0) return [];
  return [
    links
      .map(({ text: label, url }) => `[${text(label)}](<${encodeURI(url).replaceAll("%25", "%")}>)`)
      .join(" · "),
  ];
}

function table(
  header: readonly string[],
  align: string,
  rows: readonly (readonly string[])[],
  most: number,
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = header.map((_, column) => ((align[column] ?? align.at(-1)) === "r" ? "---:" : "---"));
  const more = rows.length > most ? [``, `… and ${rows.length - most} more, see the JSON report`] : [];
  return [line(header), line(rule), ...rows.slice(0, most).map(line), ...more].join("\n");
}

function mark(passed: boolean): string {
  return passed ? "✅" : "❌";
}

function code(name: string): string {
  return markdownCode(shorten(name, MAX_NAME));
}

function text(prose: string, most = MAX_NAME): string {
  return escapeMarkdown(shorten(prose, most));
}

function shorten(name: string, most: number): string {
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}

/** Lines from the first, as far as they fit. */
function assemble(sections: readonly string[]): string {
  const encoder = new TextEncoder();
  const lines = sections.join("\n\n").split("\n");
  let bytes = 0;
  const end = lines.findIndex((line) => {
    bytes += encoder.encode(line).length + 1;
    return bytes > MAX_BYTES;
  });
  if (end < 0) return `${lines.join("\n")}\n`;
  return `${lines.slice(0, end).join("\n")}\n\n… shortened: the other reports have the rest\n`;
}

import type { ParityReport } from "../../report.js";
import {
  formatCosine,
  formatError,
  formatMargin,
  marginMeaning,
  plural,
  TELLING_NOTE,
  verdictClause,
  worstFirst,
} from "../facts.js";
import { findings } from "../findings.js";
import { baselineSection, faultTable } from "./sections.js";
import { assemble, code, linkLine, mark, type ReportLink, table, text } from "./text.js";

/**
 * GitHub-flavoured Markdown for a step summary or a pull request: verdict, faults, what changed since the baseline, the
 * worst ten layers, the gates. Always under 60 KB: what does not fit is left out from the end, and said so.
 */
export function renderMarkdown(
  report: ParityReport,
  { links = [] }: { readonly links?: readonly ReportLink[] } = {},
): string {
  const { passed, candidate, faults, baseline, gates } = report;
  return assemble([
    `## ${mark(passed)} ${passed ? "Parity holds" : "Parity does not hold"}: ${code(candidate.name)}`,
    [`**${verdictClause(report, code)}**`, heading(report), ...linkLine(links)].join("  \n"),
    ...(faults.length > 0 ? [`### Faults\n\n${faultTable(faults, 20)}`] : []),
    ...(baseline ? [baselineSection(baseline)] : []),
    worstLayers(report),
    ...(gates.length > 0 ? [gateTable(report)] : []),
    facts(report),
  ]);
}

function heading({ candidate, reference, backend, input, run }: ParityReport): string {
  const variant = reference.variant ?? candidate.variant;
  const runtime = backend === "onnxruntime" ? "onnxruntime-node" : "@tensorflow/tfjs-core";
  const version = backend === "recorded" || backend === "reference" ? undefined : run?.versions[runtime];
  return [
    `in ${text(backend)}${version ? ` ${text(version)}` : ""}, against ${code(reference.name)}`,
    `${variant ? ` (${text(variant)})` : ""}, on images ${input.shape.join("×")} from ${text(input.source)}`,
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
    `Margin: ${marginMeaning(tolerance)}.${tolerance.rule === "derived-bounds" ? ` ${TELLING_NOTE}` : ""}`,
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

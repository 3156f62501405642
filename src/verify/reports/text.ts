import { clean, formatCosine, type Paint, PLAIN, renderTable } from "../../core/text.js";
import { faultName, type LayerResult, type ParityReport } from "../outcome/report.js";
import {
  findings,
  formatError,
  formatMargin,
  marginMeaning,
  OMITTED_NOTE,
  resultOf,
  runtimeClause,
  verdictClause,
  worstFirst,
} from "./facts.js";

/** How many layers the short table shows. */
const WORST = 10;

/**
 * Renders a report for a terminal: faults, the worst layers (or all, in network order), the gates, the embedding, and
 * the verdict last, where the eye is.
 */
export function renderText(
  report: ParityReport,
  { layers = false, paint = PLAIN }: { readonly layers?: boolean; readonly paint?: Paint } = {},
): string {
  return [
    heading(report, paint),
    ...(report.faults.length > 0 ? [faultList(report, paint)] : []),
    layerTable(report, layers, paint),
    ...(report.gates.length > 0 ? [gateTable(report, layers, paint)] : []),
    summary(report),
    verdict(report, paint),
  ].join("\n\n");
}

function heading(report: ParityReport, paint: Paint): string {
  const { candidate, reference, backend, input } = report;
  const result = resultOf(report);
  const variant = reference.variant ?? candidate.variant;
  const ran = runtimeClause(report);
  return [
    `${paint.strong(clean(candidate.name))} in ${backend}, against ${paint.strong(clean(reference.name))}${variant ? ` (${variant})` : ""}${result ? `: ${clean(result)}` : ""}`,
    paint.faint(
      `images ${input.shape.join("×")} from ${clean(input.source)}${input.pixels ? `, as raw ${input.pixels.toUpperCase()} pixels` : ""}`,
    ),
    ...(ran === "" ? [] : [paint.faint(`run by ${clean(ran)}`)]),
  ].join("\n");
}

function faultList({ faults }: ParityReport, paint: Paint): string {
  const shown = faults.map(
    (fault) => `  ${paint.bad(fault.kind)} ${clean(faultName(fault))}: ${clean(fault.explanation)}`,
  );
  return [paint.strong("Faults"), ...shown].join("\n");
}

/** A column of figures: its title and what it shows of a layer. */
type Column = readonly [title: string, show: (layer: LayerResult) => string];

const MARGIN: Column = [
  "margin",
  ({ status, margin }) => (status === "untested" ? "–" : formatMargin(margin)),
];
const DRIFT: readonly Column[] = [
  ["drift", ({ maxAbs }) => formatError(maxAbs)],
  ["of max", ({ relMax }) => formatError(relMax)],
  ["rmse", ({ rmse }) => formatError(rmse)],
  ["cosine", ({ cosine }) => formatCosine(cosine)],
  ["ulp", ({ ulp }) => String(ulp)],
];
const LOCAL: Column = ["local", ({ localMaxAbs }) => formatError(localMaxAbs)];

function layerTable(report: ParityReport, all: boolean, paint: Paint): string {
  const { layers: results, tolerance } = report;
  const chosen = all ? results : worstFirst(report);
  const shown = all ? chosen : chosen.slice(0, WORST);
  const columns = [MARGIN, ...(tolerance.rule === "derived-bounds" ? [LOCAL] : []), ...DRIFT];
  const rows = shown.map((layer) => [
    layer.status === "pass" ? paint.good("pass") : paint.bad(layer.status),
    clean(layer.name),
    clean(layer.op),
    layer.shape.join("×"),
    ...columns.map(([, show]) => show(layer)),
  ]);
  const title = all ? `All ${results.length} layers` : `Worst ${shown.length} of ${results.length} layers`;
  const header = ["", "layer", "op", "shape", ...columns.map(([name]) => name)];
  const legend = paint.faint(`margin: ${marginMeaning(tolerance)}; drift: from the reference network`);
  const note = !all && tolerance.rule === "derived-bounds" ? [paint.faint(OMITTED_NOTE)] : [];
  const table = renderTable(header, rows, ["left", "left", "left", "right"], paint.faint);
  return [paint.strong(title), ...[legend, ...note].map((line) => `  ${line}`), table].join("\n");
}

function gateTable({ gates }: ParityReport, all: boolean, paint: Paint): string {
  const blocks = [...new Set(gates.map(({ block }) => block))];
  const failed = gates.filter(({ status }) => status === "fail").length;
  const legend = paint.faint("range of the candidate's gate vectors, and the largest error");
  const title = paint.strong(`${gates.length} gates${failed > 0 ? `, ${failed} failing` : ""}`);
  if (!all) {
    const rows = blocks.map((block) => [
      clean(block),
      ...gates
        .filter((gate) => gate.block === block)
        .map((gate) => {
          const text = `${gate.min.toFixed(2)}–${gate.max.toFixed(2)} ±${gate.maxAbs.toExponential(0)}`;
          return gate.status === "pass" ? text : paint.bad(text);
        }),
    ]);
    const streams = Math.max(...rows.map((row) => row.length)) - 1;
    const header = ["block", ...Array.from({ length: streams }, (_, index) => `stream ${index + 1}`)];
    return `${title}  ${legend}\n${renderTable(header, rows, ["left"], paint.faint)}`;
  }
  const rows = gates.map((gate) => [
    gate.status === "pass" ? paint.good("pass") : paint.bad(gate.status),
    clean(gate.block),
    String(gate.stream),
    gate.min.toFixed(4),
    gate.mean.toFixed(4),
    gate.max.toFixed(4),
    formatError(gate.maxAbs),
  ]);
  const header = ["", "block", "stream", "min", "mean", "max", "drift"];
  return `${title}  ${legend}\n${renderTable(header, rows, ["left", "left", "right"], paint.faint)}`;
}

function summary(report: ParityReport): string {
  return findings(report, clean)
    .map(([term, finding]) => `${term}: ${finding}`)
    .join("\n");
}

function verdict(report: ParityReport, paint: Paint): string {
  return `${report.passed ? paint.good("PASS") : paint.bad("FAIL")}  ${clean(verdictClause(report))}`;
}

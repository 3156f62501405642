import type { BaselineComparison, Change, Fault, LayerResult, ParityReport, Party } from "../../report.js";
import { escapeJsonForScript } from "../escape.js";
import {
  allowance,
  formatCosine,
  formatError,
  formatMargin,
  marginMeaning,
  marginOf,
  plural,
  title,
  verdictClause,
} from "../facts.js";
import { depthSection } from "./depth-chart.js";
import { heatMapData, heatMaps } from "./heat-map.js";
import { html, type Markup, raw } from "./markup.js";
import { networkSection } from "./network.js";
import { factList, pill, renderPage, runLine } from "./page.js";
import { type Column, dataTable } from "./tables.js";

/**
 * One HTML file that needs nothing else: verdict, faults, change against the baseline, the network drawn, error against
 * depth, the gates, every layer. All of it is there without the script, which adds sorting, filters and figures on hover.
 */
export function renderHtml(report: ParityReport): string {
  const { passed, faults, baseline, gates } = report;
  return renderPage({
    title: title(report),
    passed,
    heading: heading(report),
    sections: [
      ...(faults.length > 0 ? [["faults", "Faults"] as const] : []),
      ...(baseline ? [["baseline", "Baseline"] as const] : []),
      ["network", "Network"],
      ["depth", "Error against depth"],
      ...(gates.length > 0 ? [["gates", "Gates"] as const] : []),
      ["layers", "Layers"],
    ],
    body: [
      ...(faults.length > 0 ? [faultSection(faults)] : []),
      ...(baseline ? [baselineSection(baseline)] : []),
      networkSection(report),
      depthSection(report),
      ...(gates.length > 0 ? [gateSection(report)] : []),
      layerSection(report),
    ],
    footer: runLine(report.run),
  });
}

function heading(report: ParityReport): Markup {
  const { candidate, reference, backend, tolerance, input, output, weights, coverage, proof, vacuity } =
    report;
  const untested = vacuity?.untested.length ?? 0;
  return html`<h1><span class="name">${candidate.name}</span> against <span class="name">${reference.name}</span></h1>
<div class="verdict">${pill(report.passed ? "pass" : "fail")}<span class="clause">${verdictClause(report)}</span></div>
${factList([
  ["Candidate", party(candidate)],
  ["Reference", party(reference)],
  ["Backend", backend],
  ["Held to", allowance(tolerance)],
  ["Images", `${input.shape.join("×")} from ${input.source}`],
  ...(output
    ? [
        [
          "Embedding",
          `${output.layer}: L2-normalised ${formatError(output.normalizedMaxAbs)}, ${formatError(output.relMax)} of max, cosine ${formatCosine(output.cosine)}`,
        ] as const,
      ]
    : []),
  ...(weights
    ? [["Weights", `${weights.identical} of ${weights.compared} constants are the checkpoint's`] as const]
    : []),
  [
    "Coverage",
    `${coverage.compared} of ${coverage.expected - coverage.folded.length} layers compared, ${coverage.folded.length} more folded into the next`,
  ],
  ...(proof ? [[proof.status === "proven" ? "Proven" : "Sampled", proof.grounds.join("; ")] as const] : []),
  ...(untested > 0 ? [["Untested by these images", plural(untested, "layer")] as const] : []),
])}`;
}

function party({ name, format, variant, sha256 }: Party): Markup {
  const known = [format, ...(variant ? [variant] : [])].join(", ");
  return html`<span class="name">${name}</span> <span class="soft">${known}${sha256 ? html`, <span title="SHA-256 ${sha256}">${sha256.slice(0, 12)}…</span>` : ""}</span>`;
}

/** Worst first, as the report has them. */
export function faultSection(faults: readonly Fault[]): Markup {
  const columns: readonly Column<Fault>[] = [
    { title: "layer", kind: "name", cell: ({ layer }) => layer },
    { title: "kind", kind: "text", cell: ({ kind }) => kind },
    {
      title: "margin",
      kind: "number",
      cell: ({ margin }) => formatMargin(margin),
      order: ({ margin }) => margin,
    },
    { title: "what is wrong", kind: "what", cell: ({ explanation }) => explanation },
  ];
  return html`<section id="faults" aria-labelledby="faults-h"><h2 id="faults-h">${plural(faults.length, "fault")}</h2>
<p class="soft">Where the candidate first departs from the reference; what follows from it further on is not listed.</p>
${dataTable({ id: "faults-table", label: "Faults", tall: faults.length > 15 }, columns, faults)}</section>`;
}

export function baselineSection(comparison: BaselineComparison): Markup {
  const { name, factor, policy, regressions, improvements, added, removed, notes } = comparison;
  const remarks = [
    regressions.length === 0
      ? `No figure is more than ${factor} times what it was.`
      : `${plural(regressions.length, "figure")} more than ${factor} times what it was, which ${policy === "fail" ? "fails" : "is a warning"}.`,
    ...(improvements.length > 0 ? [`${plural(improvements.length, "figure")} better by as much.`] : []),
    ...(added.length > 0 ? [`${plural(added.length, "layer")} new, first ${added[0]}.`] : []),
    ...(removed.length > 0 ? [`${plural(removed.length, "layer")} gone, first ${removed[0]}.`] : []),
    ...notes.map((note) => `Note: ${note}.`),
  ];
  const rows = [
    ...regressions.map((change) => ({ ...change, status: "worse" })),
    ...improvements.map((change) => ({ ...change, status: "better" })),
  ].slice(0, 200);
  const columns: readonly Column<Change & { readonly status: string }>[] = [
    { title: "layer", kind: "name", cell: ({ layer }) => layer },
    { title: "figure", kind: "text", cell: ({ figure }) => figure },
    {
      title: "before",
      kind: "number",
      cell: ({ before }) => formatMargin(before),
      order: ({ before }) => before,
    },
    { title: "now", kind: "number", cell: ({ after }) => formatMargin(after), order: ({ after }) => after },
    { title: "change", kind: "text", cell: ({ status }) => status },
  ];
  return html`<section id="baseline" aria-labelledby="baseline-h"><h2 id="baseline-h">Compared with <span class="name">${name}</span></h2>
<p>${remarks.join(" ")}</p>${rows.length > 0 ? dataTable({ id: "baseline-table", label: "Changes since the baseline", tall: rows.length > 15 }, columns, rows) : ""}</section>`;
}

function gateSection(report: ParityReport): Markup {
  const columns: readonly Column<ParityReport["gates"][number]>[] = [
    { title: "", kind: "status", cell: ({ status }) => status },
    { title: "block", kind: "name", cell: ({ block }) => block },
    { title: "stream", kind: "number", cell: ({ stream }) => String(stream), order: ({ stream }) => stream },
    ...(["min", "mean", "max"] as const).map((key) => ({
      title: key,
      kind: "number" as const,
      cell: (gate: ParityReport["gates"][number]) => gate[key].toFixed(4),
      order: (gate: ParityReport["gates"][number]) => gate[key],
    })),
    {
      title: "max abs",
      kind: "number",
      cell: ({ maxAbs }) => formatError(maxAbs),
      order: ({ maxAbs }) => maxAbs,
    },
  ];
  const failing = report.gates.filter(({ status }) => status === "fail").length;
  return html`<section id="gates" aria-labelledby="gates-h"><h2 id="gates-h">${plural(report.gates.length, "gate")}${failing > 0 ? `, ${failing} failing` : ""}</h2>
${heatMaps(report)}<script type="application/json" id="gate-data">${raw(escapeJsonForScript(heatMapData(report)))}</script>
<h3>Range of the candidate's gate vectors, and the largest error</h3>${dataTable({ id: "gates-table", label: "Gates", tall: report.gates.length > 15 }, columns, report.gates)}</section>`;
}

function layerSection({ layers, tolerance }: ParityReport): Markup {
  const hasLocal = layers.some(({ localMaxAbs }) => localMaxAbs !== undefined);
  const error = (
    heading: string,
    pick: (layer: LayerResult) => number | null | undefined,
  ): Column<LayerResult> => ({
    title: heading,
    kind: "number",
    cell: (layer) => formatError(pick(layer)),
    order: (layer) => short(pick(layer)),
  });
  const columns: readonly Column<LayerResult>[] = [
    { title: "", kind: "status", cell: ({ status }) => status },
    { title: "layer", kind: "name", cell: ({ name }) => name },
    { title: "op", kind: "text", cell: ({ op }) => op },
    { title: "shape", kind: "text", cell: ({ shape }) => shape.join("×") },
    {
      title: "margin",
      kind: "number",
      cell: ({ margin }) => formatMargin(margin),
      order: (layer) => short(marginOf(layer)),
    },
    ...(hasLocal ? [error("local error", ({ localMaxAbs }) => localMaxAbs)] : []),
    error("max abs", ({ maxAbs }) => maxAbs),
    error("of max", ({ relMax }) => relMax),
    error("rmse", ({ rmse }) => rmse),
    {
      title: "cosine",
      kind: "number",
      cell: ({ cosine }) => formatCosine(cosine),
      order: ({ cosine }) => cosine,
    },
    { title: "ulp", kind: "number", cell: ({ ulp }) => String(ulp), order: ({ ulp }) => ulp },
  ];
  return html`<section id="layers" aria-labelledby="layers-h"><h2 id="layers-h">${plural(layers.length, "layer")}</h2>
<p class="soft">In network order. Margin: ${marginMeaning(tolerance)}; above 1 fails.</p>
${dataTable({ id: "layers-table", label: "Layers", tall: true, filter: true }, columns, layers)}</section>`;
}

/** Figures to order by need three digits. */
function short(value: number | null | undefined): number | null | undefined {
  return value === null || value === undefined || !Number.isFinite(value)
    ? value
    : Number(value.toPrecision(3));
}

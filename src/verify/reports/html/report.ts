import type { ParityReport, Party } from "../../report.js";
import {
  allowance,
  formatCosine,
  formatError,
  formatMargin,
  plural,
  runtimeClause,
  title,
  verdictClause,
  worstLayer,
} from "../facts.js";
import { findings } from "../findings.js";
import { depthSection } from "./depth-chart.js";
import { html, type Markup, NOTHING } from "./markup.js";
import { networkSection } from "./network.js";
import { factList, renderPage, runLine, type Tile } from "./page.js";
import { baselineSection, faultSection, gateSection, layerSection } from "./sections.js";

/**
 * One HTML file that needs nothing else: verdict, faults, change against the baseline, the network drawn, error against
 * depth, the gates, every layer. All of it is there without the script, which adds sorting, filters and figures on hover.
 */
export function renderHtml(report: ParityReport): Promise<string> {
  const { passed, faults, baseline, gates } = report;
  return renderPage({
    title: title(report),
    status: passed ? "pass" : "fail",
    verdict: verdictClause(report),
    subject: subject(report),
    tiles: tiles(report),
    sections: [
      ...(faults.length > 0 ? [["faults", "Faults"] as const] : []),
      ...(baseline ? [["baseline", "Baseline"] as const] : []),
      ["network", "Network"],
      ["depth", "Error against depth"],
      ...(gates.length > 0 ? [["gates", "Gates"] as const] : []),
      ["layers", "Layers"],
      ["compared", "What was compared"],
    ],
    body: [
      ...(faults.length > 0 ? [faultSection(report)] : []),
      ...(baseline ? [baselineSection(baseline)] : []),
      networkSection(report),
      depthSection(report),
      ...(gates.length > 0 ? [gateSection(report)] : []),
      layerSection(report),
      comparedSection(report),
    ],
    footer: runLine(report.run),
  });
}

function subject(report: ParityReport): Markup {
  const { candidate, backend, reference } = report;
  const ran = runtimeClause(report);
  const variant = reference.variant ?? candidate.variant;
  return html`<span class="name">${candidate.name}</span> in ${backend}${ran === "" ? "" : ` (${ran})`}, against <span class="name">${reference.name}</span>${variant ? ` (${variant})` : ""}`;
}

function tiles(report: ParityReport): readonly Tile[] {
  const { layers, gates, faults, output, baseline, proof } = report;
  const failing = layers.filter(({ status }) => status === "fail").length;
  const worst = worstLayer(report);
  return [
    {
      figure: failing === 0 ? String(layers.length) : `${layers.length - failing} of ${layers.length}`,
      label: `layers match${gates.length > 0 ? `, with ${plural(gates.length, "gate")}` : ""}`,
      isBad: failing > 0,
    },
    ...(proof
      ? [
          proof.status === "proven"
            ? { figure: "Proven", label: "for every input, not only for these images" }
            : { figure: "Sampled", label: `on ${plural(proof.images, "image")}; not proven for every input` },
        ]
      : []),
    ...(faults.length > 0
      ? [{ figure: String(faults.length), label: faults.length === 1 ? "fault" : "faults", isBad: true }]
      : []),
    ...(worst
      ? [{ figure: formatMargin(worst.margin), label: `worst margin, at ${worst.name}`, isBad: failing > 0 }]
      : []),
    ...(output
      ? [
          {
            figure: formatError(output.normalizedMaxAbs),
            label: `drift of the L2-normalised embedding, cosine ${formatCosine(output.cosine)}`,
            isBad: output.status === "fail",
          },
        ]
      : []),
    ...(baseline
      ? [
          {
            figure: String(baseline.regressions.length),
            label: `figures worse than in ${baseline.name}`,
            isBad: baseline.regressions.length > 0,
          },
        ]
      : []),
  ];
}

function comparedSection(report: ParityReport): Markup {
  const { candidate, reference, tolerance, input } = report;
  return html`<section id="compared" aria-labelledby="compared-h"><h2 id="compared-h">What was compared</h2>${factList(
    [
      ["Candidate", party(candidate)],
      ["Reference", party(reference)],
      ["Tolerance", allowance(tolerance)],
      [
        "Images",
        `${input.shape.join("×")} from ${input.source}${input.pixels ? `, as raw ${input.pixels.toUpperCase()} pixels` : ""}`,
      ],
      ...findings(report),
    ],
  )}</section>`;
}

function party({ name, format, variant, sha256 }: Party): Markup {
  const known = [format, ...(variant ? [variant] : [])].join(", ");
  const digest = sha256
    ? html`, SHA-256 <span class="name" title="${sha256}">${sha256.slice(0, 12)}…</span>`
    : NOTHING;
  return html`<span class="name">${name}</span> <span class="soft">${known}${digest}</span>`;
}

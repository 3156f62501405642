import { formatCosine, plural } from "../../core/text.js";
import type { ParityReport, Party } from "../outcome/report.js";
import {
  entryFileName,
  failuresFirst,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
} from "../suite/report.js";
import {
  allowance,
  checkText,
  findings,
  formatError,
  formatMargin,
  provenFor,
  runtimeClause,
  suiteClause,
  title,
  verdictClause,
  worstLayer,
} from "./facts.js";
import { depthSection, networkSection } from "./html-charts.js";
import { factList, html, type Markup, NOTHING, renderPage, runLine, type Tile } from "./html-page.js";
import {
  baselineSection,
  entrySection,
  faultSection,
  gateSection,
  layerSection,
  type Wrong,
  whereSection,
  wrongList,
  wrongsOf,
} from "./html-sections.js";

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
            ? { figure: "Proven", label: `for ${provenFor(proof)}, not only for these` }
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

/**
 * The overview of a suite: what failed and why, every entry with its figures, and where in the network each entry is
 * closest to its tolerance.
 *
 * @param entryLink the location of an entry's own report, if it is beside this one; by `entryFileName`
 */
export function renderSuiteHtml(
  suite: SuiteReport,
  { entryLink }: { readonly entryLink?: (file: string) => string } = {},
): Promise<string> {
  const { name, passed, shard, entries } = suite;
  const failed = failuresFirst(entries).filter(({ status }) => status !== "pass");
  const link = (entry: SuiteEntry): Markup =>
    entryLink && entry.report
      ? html`<a href="${entryLink(entryFileName(entry.id))}">${entry.id}</a>`
      : html`${entry.id}`;
  const regressed = entries.flatMap(({ id, report }) =>
    report?.baseline && report.baseline.regressions.length > 0 ? [{ id, comparison: report.baseline }] : [],
  );
  return renderPage({
    title: name,
    status: passed ? "pass" : "fail",
    verdict: suiteClause(suite),
    subject: html`${name}${shard ? `, shard ${shard.index} of ${shard.total}` : ""}`,
    tiles: suiteTiles(suite),
    sections: [
      ...(failed.length > 0 ? [["failures", "What fails"] as const] : []),
      ...(regressed.length > 0 ? [["regressions", "Baseline"] as const] : []),
      ["entries", "Entries"],
      ["where", "Where"],
    ],
    body: [
      ...(failed.length > 0 ? [failureSection(failed, link)] : []),
      ...(regressed.length > 0
        ? [
            html`<div id="regressions">${regressed.slice(0, 40).map(({ id, comparison }, index) => baselineSection(comparison, { id, index }))}</div>`,
          ]
        : []),
      entrySection(suite, link),
      whereSection(suite, link),
    ],
    footer: "Written by osnet-verify suite.",
  });
}

function suiteTiles(suite: SuiteReport): readonly Tile[] {
  const { pass, fail, error, cached } = suiteCounts(suite);
  const total = suite.entries.length;
  const distinct = (key: "model" | "candidate" | "backend"): number =>
    new Set(suite.entries.map((entry) => entry[key])).size;
  const places = [distinct("model"), distinct("candidate"), distinct("backend")].join(" × ");
  return [
    { figure: pass === total ? String(total) : `${pass} of ${total}`, label: "entries pass" },
    ...(fail > 0 ? [{ figure: String(fail), label: "fail", isBad: true }] : []),
    ...(error > 0 ? [{ figure: String(error), label: "could not be run", isBad: true }] : []),
    { figure: places, label: "models × candidates × backends" },
    ...(cached > 0 ? [{ figure: String(cached), label: "unchanged, taken from the cache" }] : []),
    ...(suite.skipped.length > 0 ? [{ figure: String(suite.skipped.length), label: "not run" }] : []),
  ];
}

/** Number of faults shown for each entry; the others are collapsed. */
const MAX_FAULTS = 3;

/** Worst entries first, so that what a reviewer must see is on the first screen. */
function failureSection(failed: readonly SuiteEntry[], link: (entry: SuiteEntry) => Markup): Markup {
  const byEntry = failed.map(wrongsOfEntry);
  const share = (from: number, to?: number): readonly Wrong[] =>
    failed.flatMap((entry, index) =>
      (byEntry[index] ?? []).slice(from, to).map((wrong) => ({ ...wrong, of: link(entry) })),
    );
  const more = share(MAX_FAULTS);
  return html`<section id="failures" aria-labelledby="failures-h"><h2 id="failures-h">What fails</h2>
${more.length > 0 ? html`<p class="soft">The first three faults of each entry.</p>` : ""}${wrongList(share(0, MAX_FAULTS))}
${more.length > 0 ? html`<details><summary>${plural(more.length, "more fault")}</summary>${wrongList(more)}</details>` : ""}</section>`;
}

function wrongsOfEntry({ id, report, ranking, error }: SuiteEntry): readonly Wrong[] {
  const ranked = (ranking?.checks ?? []).filter(({ passed }) => !passed);
  const faults = [
    ...wrongsOf(report?.faults ?? []),
    ...ranked.map((check) => ({
      name: ranking?.dataset.name ?? "",
      kind: "ranking",
      what: checkText(check),
    })),
  ];
  if (faults.length > 0) return faults;
  if (report) return [{ name: id, kind: "regression", what: verdictClause(report) }];
  return [{ name: id, kind: "could not be run", what: error ?? "nothing was compared", isWarning: true }];
}

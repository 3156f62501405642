import type { Fault } from "../../report.js";
import {
  entryFileName,
  failuresFirst,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
} from "../../suite/report.js";
import {
  formatCosine,
  formatError,
  formatMargin,
  marginOf,
  plural,
  verdictClause,
  worstFirst,
  worstMargin,
} from "../facts.js";
import { groupOf } from "../groups.js";
import { marginClass, marginLegend } from "./margin-class.js";
import { html, type Markup, NOTHING } from "./markup.js";
import { factList, pill, renderPage } from "./page.js";
import { baselineSection } from "./report.js";
import { type Column, dataTable } from "./tables.js";

/**
 * The overview of a suite: what failed and why, every entry with its figures, and where in the network each entry comes
 * nearest to its tolerance.
 *
 * @param entryLink where an entry's own report is, if it is beside this one; by `entryFileName`
 */
export function renderSuiteHtml(
  suite: SuiteReport,
  { entryLink }: { readonly entryLink?: (file: string) => string } = {},
): string {
  const failed = failuresFirst(suite.entries).filter(({ status }) => status !== "pass");
  const link = (entry: SuiteEntry): Markup =>
    entryLink && entry.report
      ? html`<a href="${entryLink(entryFileName(entry.id))}">${entry.id}</a>`
      : html`${entry.id}`;
  const regressed = suite.entries.flatMap(({ id, report }) =>
    report?.baseline && report.baseline.regressions.length > 0 ? [{ id, comparison: report.baseline }] : [],
  );
  return renderPage({
    title: suite.name,
    passed: suite.passed,
    heading: heading(suite),
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
            html`<div id="regressions">${regressed.slice(0, 40).map(({ id, comparison }, index) => regression(id, comparison, index))}</div>`,
          ]
        : []),
      entrySection(suite, link),
      whereSection(suite, link),
    ],
    footer: "Written by osnet-verify suite.",
  });
}

function heading(suite: SuiteReport): Markup {
  const counts = suiteCounts(suite);
  const clause = [
    `${counts.pass} of ${plural(suite.entries.length, "entry", "entries")} hold`,
    ...(counts.fail > 0 ? [`${counts.fail} do not`] : []),
    ...(counts.error > 0 ? [`${counts.error} could not be run`] : []),
  ].join(", ");
  const models = new Set(suite.entries.map(({ model }) => model)).size;
  return html`<h1>${suite.name}</h1><div class="verdict">${pill(suite.passed ? "pass" : "fail")}<span class="clause">${clause}</span></div>
${factList([
  ["Models", String(models)],
  ["Backends", [...new Set(suite.entries.map(({ backend }) => backend))].join(", ")],
  ...(suite.shard ? [["Shard", `${suite.shard.index} of ${suite.shard.total}`] as const] : []),
  ...(counts.cached > 0 ? [["Unchanged, from the cache", String(counts.cached)] as const] : []),
  ...(suite.skipped.length > 0 ? [["Not run", String(suite.skipped.length)] as const] : []),
])}`;
}

interface Failure {
  readonly entry: SuiteEntry;
  readonly fault: Fault | undefined;
}

/** One row per entry's fault, worst entries first, so that what a reviewer must see is on the first screen. */
function failureSection(failed: readonly SuiteEntry[], link: (entry: SuiteEntry) => Markup): Markup {
  const rows = failed.flatMap((entry): Failure[] => {
    const faults = entry.report?.faults.slice(0, 3) ?? [];
    return faults.length > 0 ? faults.map((fault) => ({ entry, fault })) : [{ entry, fault: undefined }];
  });
  const columns: readonly Column<Failure>[] = [
    { title: "", kind: "status", cell: ({ entry }) => entry.status },
    { title: "entry", kind: "name", cell: ({ entry }) => link(entry) },
    { title: "layer", kind: "name", cell: ({ fault }) => fault?.layer ?? "–" },
    {
      title: "kind",
      kind: "text",
      cell: ({ entry, fault }) => fault?.kind ?? (entry.report ? "regression" : "input"),
    },
    {
      title: "margin",
      kind: "number",
      cell: ({ fault }) => (fault ? formatMargin(fault.margin) : "–"),
      order: ({ fault }) => (fault ? fault.margin : undefined),
    },
    {
      title: "what is wrong",
      kind: "what",
      cell: ({ entry, fault }) =>
        fault?.explanation ?? entry.error ?? (entry.report ? verdictClause(entry.report) : ""),
    },
  ];
  const more = failed.some(({ report }) => (report?.faults.length ?? 0) > 3);
  return html`<section id="failures" aria-labelledby="failures-h"><h2 id="failures-h">What fails</h2>
${more ? html`<p class="soft">The first three faults of each entry.</p>` : ""}${dataTable({ id: "failures-table", label: "Failures", tall: rows.length > 20 }, columns, rows)}</section>`;
}

function regression(id: string, comparison: Parameters<typeof baselineSection>[0], index: number): Markup {
  const unique = baselineSection({ ...comparison, name: `${id} in ${comparison.name}` });
  return { markup: unique.markup.replaceAll(/(id|aria-labelledby)="baseline/g, `$1="baseline-${index}`) };
}

function entrySection(suite: SuiteReport, link: (entry: SuiteEntry) => Markup): Markup {
  const worst = ({ report }: SuiteEntry): number | undefined =>
    report ? worstMargin(report.layers) : undefined;
  const columns: readonly Column<SuiteEntry>[] = [
    { title: "", kind: "status", cell: ({ status }) => status },
    { title: "entry", kind: "name", cell: link },
    {
      title: "worst margin",
      kind: "number",
      cell: (entry) => (entry.report ? formatMargin(worst(entry) ?? 0) : "–"),
      order: worst,
    },
    {
      title: "at layer",
      kind: "name",
      cell: ({ report }) => (report ? (worstFirst(report.layers)[0]?.name ?? "–") : "–"),
    },
    {
      title: "embedding",
      kind: "number",
      cell: ({ report }) => formatError(report?.output?.normalizedMaxAbs),
      order: ({ report }) => report?.output?.normalizedMaxAbs,
    },
    {
      title: "cosine",
      kind: "number",
      cell: ({ report }) => (report?.output ? formatCosine(report.output.cosine) : "–"),
      order: ({ report }) => report?.output?.cosine,
    },
    {
      title: "layers",
      kind: "number",
      cell: ({ report }) => String(report?.layers.length ?? "–"),
      order: ({ report }) => report?.layers.length,
    },
    {
      title: "seconds",
      kind: "number",
      cell: ({ run }) => (run ? (run.cached ? "cached" : run.seconds.toFixed(1)) : "–"),
      order: ({ run }) => run?.seconds,
    },
  ];
  return html`<section id="entries" aria-labelledby="entries-h"><h2 id="entries-h">${plural(suite.entries.length, "entry", "entries")}</h2>
${dataTable({ id: "entries-table", label: "Entries", tall: suite.entries.length > 25, filter: true }, columns, suite.entries)}
${suite.skipped.length > 0 ? html`<p class="soft">Not run: ${suite.skipped.slice(0, 50).join("; ")}${suite.skipped.length > 50 ? " …" : ""}</p>` : NOTHING}</section>`;
}

/** Entries × parts of the network, coloured by the worst margin in each. */
function whereSection({ entries }: SuiteReport, link: (entry: SuiteEntry) => Markup): Markup {
  const compared = entries.filter(({ report }) => report);
  const groups = [
    ...new Set(compared.flatMap(({ report }) => report?.layers.map(({ name }) => groupOf(name)) ?? [])),
  ].slice(0, 40);
  const rows = compared.map((entry) => {
    const cells = groups.map((group) => {
      const layers = entry.report?.layers.filter(({ name }) => groupOf(name) === group) ?? [];
      if (layers.length === 0) return html`<td class="k"></td>`;
      const fails = layers.some(({ status }) => status === "fail");
      const worst = Math.max(...layers.map(marginOf));
      const style = marginClass(Number.isFinite(worst) ? worst : null, fails ? "fail" : "pass");
      return html`<td class="k"><span class="${style}">${formatMargin(worst)}</span></td>`;
    });
    return html`<tr><th scope="row">${link(entry)}</th>${cells}</tr>`;
  });
  return html`<section id="where" aria-labelledby="where-h"><h2 id="where-h">Where</h2>
<p class="soft">The worst margin in each part of the network, from the image to the embedding.</p>${marginLegend({ shapes: false })}
<div class="scroll" tabindex="0" role="region" aria-label="Worst margins by part of the network"><table class="matrix"><thead><tr><th scope="col">entry</th>${groups.map((group) => html`<th scope="col" class="v">${group}</th>`)}</tr></thead><tbody>${rows}</tbody></table></div></section>`;
}

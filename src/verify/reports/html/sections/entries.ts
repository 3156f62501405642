import type { LayerResult } from "../../../report.js";
import { type SuiteEntry, type SuiteReport, suiteCounts } from "../../../suite/report.js";
import { formatCosine, formatError, plural, TELLING_NOTE, worstLayer, worstMargin } from "../../facts.js";
import { html, type Markup, NOTHING } from "../markup.js";
import { type Column, dataTable } from "../tables.js";

/** Every entry of a suite with its figures. */
export function entrySection(suite: SuiteReport, link: (entry: SuiteEntry) => Markup): Markup {
  const { cached } = suiteCounts(suite);
  const { entries, skipped } = suite;
  return html`<section id="entries" aria-labelledby="entries-h"><h2 id="entries-h">${plural(entries.length, "entry", "entries")}</h2>
<p class="soft">${cached > 0 ? `${cached} of them unchanged since an earlier run, and taken from its cache. ` : ""}Margin: error over what is allowed; above 1 fails. ${TELLING_NOTE}</p>
${dataTable({ id: "entries-table", label: "Entries", tall: entries.length > 25, filter: true }, columns(link), entries)}
${skipped.length > 0 ? html`<p class="soft">Not run: ${skipped.slice(0, 50).join("; ")}${skipped.length > 50 ? " …" : ""}</p>` : NOTHING}</section>`;
}

function columns(link: (entry: SuiteEntry) => Markup): readonly Column<SuiteEntry>[] {
  const worst = ({ report }: SuiteEntry): LayerResult | undefined =>
    report ? worstLayer(report) : undefined;
  return [
    { title: "status", kind: "status", cell: ({ status }) => status },
    { title: "entry", kind: "name", cell: link },
    {
      title: "worst margin",
      kind: "number",
      cell: ({ report }) => (report ? worstMargin(report) : "–"),
      order: (entry) => worst(entry)?.margin,
    },
    {
      title: "at layer",
      kind: "name",
      cell: (entry) => worst(entry)?.name ?? "–",
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
}

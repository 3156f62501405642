import type { BaselineComparison, Change } from "../../../report.js";
import { formatMargin, plural } from "../../facts.js";
import { html, type Markup, NOTHING } from "../markup.js";
import { type Column, dataTable } from "../tables.js";

type Row = Change & { readonly status: "worse" | "better" };

/** More are in the JSON report. */
const MOST = 200;

const COLUMNS: readonly Column<Row>[] = [
  { title: "layer", kind: "name", cell: ({ layer }) => layer },
  { title: "figure", kind: "text", cell: ({ figure }) => figure },
  {
    title: "before",
    kind: "number",
    cell: ({ before }) => formatMargin(before),
    order: ({ before }) => before,
  },
  { title: "now", kind: "number", cell: ({ after }) => formatMargin(after), order: ({ after }) => after },
  { title: "times", kind: "number", cell: (row) => formatMargin(times(row)), order: times },
  { title: "change", kind: "text", cell: ({ status }) => status },
];

/**
 * @param entry the suite's entry that is compared, and its number, which keeps ids apart
 */
export function baselineSection(
  { name, factor, policy, regressions, improvements, added, removed, notes }: BaselineComparison,
  entry?: { readonly id: string; readonly index: number },
): Markup {
  const id = `baseline${entry ? `-${entry.index}` : ""}`;
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
    ...regressions.map((change): Row => ({ ...change, status: "worse" })),
    ...improvements.map((change): Row => ({ ...change, status: "better" })),
  ];
  const label = `Changes since ${name}`;
  return html`<section id="${id}" aria-labelledby="${id}-h"><h2 id="${id}-h">${entry ? html`<span class="name">${entry.id}</span> compared` : "Compared"} with <span class="name">${name}</span></h2>
<p>${remarks.join(" ")}</p>${
    rows.length > 0
      ? dataTable({ id: `${id}-table`, label, tall: rows.length > 15 }, COLUMNS, rows.slice(0, MOST))
      : NOTHING
  }</section>`;
}

function times({ before, after }: Change): number | null {
  return before === null || after === null || before === 0 ? null : after / before;
}

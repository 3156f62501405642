import type { GateResult, ParityReport } from "../../../report.js";
import { escapeJsonForScript } from "../../escape.js";
import { formatError, plural } from "../../facts.js";
import { heatMapData, heatMaps } from "../heat-map.js";
import { html, type Markup, raw } from "../markup.js";
import { type Column, dataTable } from "../tables.js";

const COLUMNS: readonly Column<GateResult>[] = [
  { title: "status", kind: "status", cell: ({ status }) => status },
  { title: "block", kind: "name", cell: ({ block }) => block },
  { title: "stream", kind: "number", cell: ({ stream }) => String(stream), order: ({ stream }) => stream },
  ...(["min", "mean", "max"] as const).map(
    (key): Column<GateResult> => ({
      title: key,
      kind: "number",
      cell: (gate) => gate[key].toFixed(4),
      order: (gate) => gate[key],
    }),
  ),
  {
    title: "drift",
    kind: "number",
    cell: ({ maxAbs }) => formatError(maxAbs),
    order: ({ maxAbs }) => maxAbs,
  },
];

/** Heat maps of the gate vectors, and their ranges in a table. */
export function gateSection(report: ParityReport): Markup {
  const { gates } = report;
  const failing = gates.filter(({ status }) => status === "fail").length;
  return html`<section id="gates" aria-labelledby="gates-h"><h2 id="gates-h">${plural(gates.length, "gate")}${failing > 0 ? `, ${failing} failing` : ""}</h2>
${heatMaps(report)}<script type="application/json" id="gate-data">${raw(escapeJsonForScript(heatMapData(report)))}</script>
<h3>Range of the candidate's gate vectors, and how far they are from the reference network's</h3>${dataTable({ id: "gates-table", label: "Gates", tall: gates.length > 15 }, COLUMNS, gates)}</section>`;
}

import { formatCosine, plural } from "../../core/text.js";
import {
  type BaselineComparison,
  type Change,
  type Fault,
  faultName,
  type GateResult,
  type LayerResult,
  type ParityReport,
} from "../outcome/report.js";
import { type SuiteEntry, type SuiteReport, suiteCounts } from "../suite/report.js";
import { escapeJsonForScript } from "./escape.js";
import {
  formatError,
  formatMargin,
  groupOf,
  informativeLayers,
  joinOrders,
  marginMeaning,
  marginOf,
  OMITTED_NOTE,
  worstLayer,
  worstMargin,
} from "./facts.js";
import { heatMapData, heatMaps } from "./html-charts.js";
import {
  type Column,
  dataTable,
  html,
  type Markup,
  marginClass,
  marginLegend,
  NOTHING,
  raw,
} from "./html-page.js";

type ChangeRow = Change & { readonly status: "worse" | "better" };

/** Limit on rows; the JSON report has all. */
const MAX_CHANGES = 200;

const CHANGE_COLUMNS: readonly Column<ChangeRow>[] = [
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
    ...(improvements.length > 0
      ? [`${plural(improvements.length, "figure")} better by the same factor.`]
      : []),
    ...(added.length > 0 ? [`${plural(added.length, "layer")} added, first ${added[0]}.`] : []),
    ...(removed.length > 0 ? [`${plural(removed.length, "layer")} removed, first ${removed[0]}.`] : []),
    ...notes.map((note) => `Note: ${note}.`),
  ];
  const rows = [
    ...regressions.map((change): ChangeRow => ({ ...change, status: "worse" })),
    ...improvements.map((change): ChangeRow => ({ ...change, status: "better" })),
  ];
  const label = `Changes since ${name}`;
  return html`<section id="${id}" aria-labelledby="${id}-h"><h2 id="${id}-h">${entry ? html`<span class="name">${entry.id}</span> compared` : "Compared"} with <span class="name">${name}</span></h2>
<p>${remarks.join(" ")}</p>${
    rows.length > 0
      ? dataTable(
          { id: `${id}-table`, label, tall: rows.length > 15 },
          CHANGE_COLUMNS,
          rows.slice(0, MAX_CHANGES),
        )
      : NOTHING
  }</section>`;
}

function times({ before, after }: Change): number | null {
  return before === null || after === null || before === 0 ? null : after / before;
}

/** Every entry of a suite with its figures. */
export function entrySection(suite: SuiteReport, link: (entry: SuiteEntry) => Markup): Markup {
  const { cached } = suiteCounts(suite);
  const { entries, skipped } = suite;
  return html`<section id="entries" aria-labelledby="entries-h"><h2 id="entries-h">${plural(entries.length, "entry", "entries")}</h2>
<p class="soft">${cached > 0 ? `${cached} of them are unchanged since an earlier run, and taken from its cache. ` : ""}Margin: error divided by what is allowed; above 1 fails. ${OMITTED_NOTE}</p>
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

/** A problem: a fault of a layer, or an entry of a suite that could not be run. */
export interface Wrong {
  readonly name: string;
  readonly kind: string;
  readonly amount?: string;
  readonly what: string;
  /** The entry of a suite that it is in. */
  readonly of?: Markup;
  /** Links to the layer's cell and row. */
  readonly links?: Markup;
  readonly isWarning?: boolean;
}

/** In network order, as the report has them. */
export function faultSection({ faults, layers }: Pick<ParityReport, "faults" | "layers">): Markup {
  const note = faults.some(({ streams }) => streams !== undefined)
    ? " A fault of a gate affects every stream, and is listed once."
    : "";
  return html`<section id="faults" aria-labelledby="faults-h"><h2 id="faults-h">${plural(faults.length, "fault")}</h2>
<p class="soft">Where the candidate first departs from the reference; consequences further on are not listed.${note}</p>
${wrongList(wrongsOf(faults).map((wrong, index) => ({ ...wrong, ...placeOf(faults[index], layers) })))}</section>`;
}

/** The cell and the row of a fault's first layer, if the layer was compared. */
function placeOf(fault: Fault | undefined, layers: readonly LayerResult[]): Pick<Wrong, "links"> {
  const index = layers.findIndex(({ name }) => name === fault?.layer);
  if (index < 0) return {};
  return {
    links: html`<span class="links"><a href="#cell-${index}">in the network</a> <a href="#layer-${index}">in the table</a></span>`,
  };
}

export function wrongsOf(faults: readonly Fault[]): readonly Wrong[] {
  return faults.map((fault) => ({
    name: faultName(fault),
    kind: fault.kind,
    what: fault.explanation,
    ...(fault.margin === null ? {} : { amount: `margin ${formatMargin(fault.margin)}` }),
  }));
}

export function wrongList(wrongs: readonly Wrong[]): Markup {
  return html`<ol class="faults">${wrongs.map(item)}</ol>`;
}

function item({ name, kind, amount, what, of, links = NOTHING, isWarning = false }: Wrong): Markup {
  return html`<li class="${isWarning ? "warn" : ""}"><div class="what"><b class="name">${name}</b><span class="kind">${kind}</span>${amount ? html`<span class="amount">${amount}</span>` : NOTHING}${links}</div>
<p>${what}</p>${of ? html`<div class="of soft">in ${of}</div>` : NOTHING}</li>
`;
}

const GATE_COLUMNS: readonly Column<GateResult>[] = [
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
<h3>Range of the candidate's gate vectors, and how far they are from the reference network's</h3>${dataTable({ id: "gates-table", label: "Gates", tall: gates.length > 15 }, GATE_COLUMNS, gates)}</section>`;
}

/** Every layer in network order, with its figures; the drawings' hover figures are read from here. */
export function layerSection({ layers, tolerance }: ParityReport): Markup {
  const hasLocal = layers.some(({ localMaxAbs }) => localMaxAbs !== undefined);
  const columns: readonly Column<LayerResult>[] = [
    { title: "status", kind: "status", cell: ({ status }) => status },
    { title: "layer", kind: "name", cell: ({ name }) => name },
    { title: "op", kind: "text", cell: ({ op }) => op },
    { title: "shape", kind: "text", cell: ({ shape }) => shape.join("×") },
    {
      title: "margin",
      kind: "number",
      cell: ({ margin }) => formatMargin(margin),
      order: (layer) => short(marginOf(layer)),
    },
    ...(hasLocal ? [error("local", ({ localMaxAbs }) => localMaxAbs)] : []),
    error("drift", ({ maxAbs }) => maxAbs),
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
<p class="soft">In network order. Margin: ${marginMeaning(tolerance)}; above 1 fails. Drift: distance from the reference network.</p>
${dataTable({ id: "layers-table", label: "Layers", tall: true, filter: true, rowId: "layer" }, columns, layers)}</section>`;
}

function error(title: string, pick: (layer: LayerResult) => number | null | undefined): Column<LayerResult> {
  return {
    title,
    kind: "number",
    cell: (layer) => formatError(pick(layer)),
    order: (layer) => short(pick(layer)),
  };
}

/** Figures to order by need three digits. */
function short(value: number | null | undefined): number | null | undefined {
  return value === null || value === undefined || !Number.isFinite(value)
    ? value
    : Number(value.toPrecision(3));
}

/** Limit on the parts of the network that are shown, more than any OSNet has. */
const MAX_PLACES = 40;

/** Entries × parts of the network, coloured by the worst margin in each. */
export function whereSection({ entries }: SuiteReport, link: (entry: SuiteEntry) => Markup): Markup {
  const compared = entries.flatMap((entry) =>
    entry.report ? [{ entry, worst: worstByGroup(informativeLayers(entry.report)) }] : [],
  );
  const groups = joinOrders(compared.map(({ worst }) => [...worst.keys()])).slice(0, MAX_PLACES);
  const rows = compared.map(({ entry, worst }) => {
    const cells = groups.map((group) => {
      const found = worst.get(group);
      if (!found) return html`<td class="k"></td>`;
      const style = marginClass(
        Number.isFinite(found.margin) ? found.margin : null,
        found.fails ? "fail" : "pass",
      );
      return html`<td class="k"><span class="${style}">${found.fails ? "✕ " : ""}${formatMargin(found.margin)}</span></td>`;
    });
    return html`<tr><th scope="row">${link(entry)}</th>${cells}</tr>`;
  });
  return html`<section id="where" aria-labelledby="where-h"><h2 id="where-h">Where</h2>
<p class="soft">The worst margin in each part of the network, from the image to the embedding. ${OMITTED_NOTE}</p>${marginLegend({ shapes: false })}
<div class="scroll" tabindex="0" role="region" aria-label="Worst margins by part of the network"><table class="matrix"><thead><tr><th scope="col">entry</th>${groups.map((group) => html`<th scope="col" class="v">${group}</th>`)}</tr></thead><tbody>${rows}</tbody></table></div></section>`;
}

interface Worst {
  readonly margin: number;
  readonly fails: boolean;
}

function worstByGroup(layers: NonNullable<SuiteEntry["report"]>["layers"]): ReadonlyMap<string, Worst> {
  const groups = new Map<string, Worst>();
  for (const layer of layers) {
    const name = groupOf(layer.name);
    const so = groups.get(name) ?? { margin: 0, fails: false };
    groups.set(name, {
      margin: Math.max(so.margin, marginOf(layer)),
      fails: so.fails || layer.status === "fail",
    });
  }
  return groups;
}

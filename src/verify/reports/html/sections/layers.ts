import type { LayerResult, ParityReport } from "../../../report.js";
import { formatCosine, formatError, formatMargin, marginMeaning, marginOf, plural } from "../../facts.js";
import { html, type Markup } from "../markup.js";
import { type Column, dataTable } from "../tables.js";

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
${dataTable({ id: "layers-table", label: "Layers", tall: true, filter: true }, columns, layers)}</section>`;
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

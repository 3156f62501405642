import type { LayerResult, ParityReport, Tolerance } from "../outcome/report.js";
import { formatMargin, plural, TELLING_NOTE, worstFirst } from "./facts.js";
import { groupLayers, type LayerGroup } from "./findings.js";
import { html, type Markup, marginClass, marginLegend, NOTHING, raw } from "./html-markup.js";

/** Side of a cell, and the distance of two. */
const CELL = 13;
const PITCH = 16;
const GAP = 9;

/** A layer at its place in its group's drawing, in pixels. */
interface Cell {
  readonly layer: LayerResult;
  readonly x: number;
  readonly y: number;
}

/** A group's drawing: where its cells are, and the wires behind them as an SVG path. */
interface Drawing {
  readonly cells: readonly Cell[];
  readonly wires: string;
  readonly width: number;
  readonly height: number;
}

/**
 * The network as blocks and streams: a cell per layer, coloured by its margin; the streams of a block one below the
 * other, each with its gate at the end. Cells carry the layer's number, by which the script finds its figures.
 */
export function networkSection(report: ParityReport): Markup {
  const numbers = new Map(report.layers.map(({ name }, index) => [name, index]));
  const hasLocal = report.tolerance.rule === "derived-bounds";
  const groups = groupLayers(report).filter(({ layers }) => layers.length > 0);
  return html`<section id="network" aria-labelledby="network-h"><h2 id="network-h">Network</h2>
<p class="soft">Each cell is a layer, and each row of a block is one of its streams, with its worst margin on the right. Point at a cell to see its figures, or focus a block and use the arrow keys; the table of layers has the same data.${hasLocal ? ` ${TELLING_NOTE}` : ""}</p>
${marginLegend({ shapes: true })}<div class="net">${groups.map((group) => groupFigure(group, report.tolerance, numbers))}</div></section>`;
}

function groupFigure(group: LayerGroup, tolerance: Tolerance, numbers: ReadonlyMap<string, number>): Markup {
  const drawing = draw(group.layers);
  const [worst] = worstFirst({ layers: group.layers, tolerance });
  const failing = group.layers.filter(({ status }) => status === "fail").length;
  const margin = worst ? formatMargin(worst.margin) : "–";
  const label = [
    `${group.name}: ${plural(group.layers.length, "layer")}`,
    ...(failing > 0 ? [`${failing} failing`] : []),
    `worst ${worst?.name ?? ""} with margin ${margin}`,
  ].join(", ");
  return html`<figure class="${group.faults.length > 0 ? "bad" : ""}"><figcaption><b class="name">${group.name}</b><span>${margin}</span></figcaption>
<svg tabindex="0" role="img" aria-label="${label}" width="${drawing.width}" height="${drawing.height}" viewBox="0 0 ${drawing.width} ${drawing.height}">${
    drawing.wires ? raw(`<path class="wire" d="${drawing.wires}"/>`) : NOTHING
  }${drawing.cells.map((cell) => cellMarkup(cell, numbers.get(cell.layer.name) ?? -1))}</svg></figure>`;
}

function cellMarkup({ layer, x, y }: Cell, index: number): Markup {
  const style = marginClass(layer.margin, layer.status);
  const id = index < 0 ? "" : ` id="cell-${index}"`;
  const shape = isGate(layer)
    ? `<circle${id} class="c ${style}" data-i="${index}" cx="${x + CELL / 2}" cy="${y + CELL / 2}" r="${CELL / 2}"/>`
    : `<rect${id} class="c ${style}" data-i="${index}" x="${x}" y="${y}" width="${CELL}" height="${CELL}" rx="2"/>`;
  const cross = layer.status === "fail" ? `<path class="x" d="M${x + 4} ${y + 4}l5 5m0-5l-5 5"/>` : "";
  return raw(shape + cross);
}

function isGate({ name }: LayerResult): boolean {
  return name.includes(".gate[");
}

/** Before the streams, in the streams, after them: columns, rows, columns. Without streams, a row that wraps. */
function draw(layers: readonly LayerResult[]): Drawing {
  const streams = [...new Set(layers.flatMap(({ stream }) => stream ?? []))].sort((a, b) => a - b);
  if (streams.length === 0) return drawRow(layers);
  const first = layers.findIndex(({ stream }) => stream !== undefined);
  const before = layers.slice(0, first);
  const after = layers.slice(first).filter(({ stream }) => stream === undefined);
  const lanes = streams.map((stream) => {
    const own = layers.filter((layer) => layer.stream === stream);
    return { body: own.filter((layer) => !isGate(layer)), gate: own.filter(isGate) };
  });
  const rows = Math.max(streams.length, 1);
  const left = stack(before, rows, 0);
  const bodyX = left.width + GAP;
  const gateX = bodyX + Math.max(...lanes.map(({ body }) => body.length)) * PITCH + GAP;
  const endX = gateX + Math.max(...lanes.map(({ gate }) => gate.length)) * PITCH;
  const right = stack(after, rows, endX + GAP);
  const height = rows * PITCH;
  const wires = lanes.map(({ body }, row) => {
    const y = row * PITCH + CELL / 2;
    const start = body.length > 0 ? bodyX : gateX;
    return `M${left.width} ${y}H${start + 1}M${start} ${y}H${endX + GAP}`;
  });
  return {
    cells: [
      ...left.cells,
      ...lanes.flatMap(({ body, gate }, row) => [
        ...body.map((layer, index) => ({ layer, x: bodyX + index * PITCH, y: row * PITCH })),
        ...gate.map((layer, index) => ({ layer, x: gateX + index * PITCH, y: row * PITCH })),
      ]),
      ...right.cells,
    ],
    wires: wires.join(""),
    width: endX + GAP + Math.max(right.width, 1),
    height,
  };
}

/** Cells from top to bottom, in as many columns as it takes. */
function stack(
  layers: readonly LayerResult[],
  rows: number,
  x: number,
): { readonly cells: readonly Cell[]; readonly width: number } {
  const columns = Math.ceil(layers.length / rows);
  return {
    cells: layers.map((layer, index) => ({
      layer,
      x: x + Math.floor(index / rows) * PITCH,
      y: (index % rows) * PITCH,
    })),
    width: columns * PITCH,
  };
}

const ROW = 20;

function drawRow(layers: readonly LayerResult[]): Drawing {
  const columns = Math.min(layers.length, ROW);
  return {
    cells: layers.map((layer, index) => ({
      layer,
      x: (index % ROW) * PITCH,
      y: Math.floor(index / ROW) * PITCH,
    })),
    wires: columns > 1 ? `M0 ${CELL / 2}H${columns * PITCH - 2}` : "",
    width: Math.max(columns * PITCH, 40),
    height: Math.ceil(layers.length / ROW) * PITCH,
  };
}

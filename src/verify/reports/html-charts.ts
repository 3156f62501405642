import { plural } from "../../core/text.js";
import type { GateChannels, GateResult, LayerResult, ParityReport, Tolerance } from "../outcome/report.js";
import { printable } from "./escape.js";
import {
  formatError,
  formatMargin,
  groupLayers,
  type LayerGroup,
  OMITTED_NOTE,
  worstFirst,
} from "./facts.js";
import { html, type Markup, marginClass, marginLegend, NOTHING, raw } from "./html-page.js";

const WIDTH = 1180;
const HEIGHT = 330;
const PLOT = { left: 56, right: 12, top: 26, bottom: 24 } as const;

/**
 * Error against depth on a logarithmic scale, as shares of each layer's largest value: accumulated from the input on, and
 * local, of the layer on the candidate's own inputs, with what the tolerance allows.
 */
export function depthSection(report: ParityReport): Markup {
  const { layers, tolerance } = report;
  const points = layers.map((layer) =>
    pointOf(layer, tolerance.rule === "relative-to-max" ? tolerance.value : null),
  );
  const values = points.flatMap(({ accumulated, local, allowed }) =>
    [accumulated, local, allowed].filter(
      (value): value is number => value !== null && value > 0 && Number.isFinite(value),
    ),
  );
  const low = values.reduce((least, value) => Math.min(least, Math.floor(Math.log10(value))), -6);
  const high = values.reduce((most, value) => Math.max(most, Math.ceil(Math.log10(value))), -5);
  const [bottom, top] = [Math.max(low, high - 18), high];
  const x = (index: number): number =>
    PLOT.left + ((index + 0.5) * (WIDTH - PLOT.left - PLOT.right)) / Math.max(1, layers.length);
  const y = (value: number): number => {
    const share = (Math.log10(Math.max(value, 10 ** bottom)) - bottom) / (top - bottom);
    return PLOT.top + (1 - Math.min(1, share)) * (HEIGHT - PLOT.top - PLOT.bottom);
  };
  const line = (pick: (point: Point) => number | null): string => {
    let path = "";
    let isGap = true;
    points.forEach((point, index) => {
      const value = pick(point);
      if (value === null) return;
      // An error of 0 has no place on a logarithmic scale, and interrupts the line.
      if (value > 0) path += `${isGap ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      isGap = value === 0;
    });
    return path;
  };
  const dots = points.map(({ local }, index) =>
    local === null || local === 0
      ? ""
      : `<circle class="local" cx="${x(index).toFixed(1)}" cy="${y(local).toFixed(1)}" r="1.7"/>`,
  );
  const failing = layers.map(({ status }, index) => {
    if (status !== "fail") return "";
    const value = points[index]?.accumulated ?? 10 ** top;
    return `<circle class="failing" cx="${x(index).toFixed(1)}" cy="${y(value).toFixed(1)}" r="3"/>`;
  });
  const hasLocal = points.some(({ local }) => local !== null);
  const label = `Error against depth of ${layers.length} layers, from 1e${bottom} to 1e${top} of max; the table of layers has the same figures.`;
  return html`<section id="depth" aria-labelledby="depth-h"><h2 id="depth-h">Error against depth</h2>
<div class="legend"><span>${swatch('<path class="accumulated" d="M0 5H10"/>')}accumulated: distance from the reference network</span>${
    hasLocal
      ? html`<span>${swatch('<circle class="local" cx="5" cy="5" r="2.5"/>')}local: of the layer on the candidate's own inputs</span>`
      : ""
  }<span>${swatch('<path class="allowed" d="M0 5H10"/>')}allowed</span><span>${swatch('<circle class="failing" cx="5" cy="5" r="4"/>')}fails</span><span>all as shares of the layer's largest value</span></div>
<div class="scroll chart" tabindex="0" role="region" aria-label="Chart of error against depth, as wide as it needs"><svg id="depth-chart" tabindex="0" role="img" aria-label="${label}" viewBox="0 0 ${WIDTH} ${HEIGHT}" data-left="${PLOT.left}" data-width="${WIDTH - PLOT.left - PLOT.right}" data-total="${WIDTH}">${grid(bottom, top, y)}${groupMarks(report, x)}${raw(
    `<path class="allowed" d="${line(({ allowed }) => allowed)}"/>${dots.join("")}<path class="accumulated" d="${line(({ accumulated }) => accumulated)}"/>${failing.join("")}<path class="cursor" d="M0 ${PLOT.top}V${HEIGHT - PLOT.bottom}"/>`,
  )}</svg></div></section>`;
}

interface Point {
  readonly accumulated: number | null;
  readonly local: number | null;
  readonly allowed: number | null;
}

/** Shares of the reference's largest value, which follows from the absolute and the relative error. */
function pointOf({ maxAbs, relMax, localMaxAbs, margin }: LayerResult, tolerance: number | null): Point {
  const scale = relMax !== null && relMax > 0 ? maxAbs / relMax : null;
  const local = localMaxAbs === undefined || scale === null ? null : localMaxAbs / scale;
  const bound = local !== null && margin !== null && margin > 0 ? local / margin : null;
  return { accumulated: relMax, local, allowed: tolerance ?? bound };
}

function swatch(shape: string): Markup {
  return raw(`<svg viewBox="0 0 10 10" aria-hidden="true">${shape}</svg>`);
}

function grid(bottom: number, top: number, y: (value: number) => number): Markup {
  const step = Math.max(1, Math.ceil((top - bottom) / 8));
  const lines: string[] = [];
  for (let exponent = bottom; exponent <= top; exponent += step) {
    const at = y(10 ** exponent).toFixed(1);
    lines.push(
      `<path class="grid" d="M${PLOT.left} ${at}H${WIDTH - PLOT.right}"/><text class="axis" x="${PLOT.left - 8}" y="${Number(at) + 4}" text-anchor="end">1e${exponent}</text>`,
    );
  }
  return raw(lines.join(""));
}

/** Where parts of the network begin, with the names that have room. */
function groupMarks(report: ParityReport, x: (index: number) => number): Markup {
  const groups = groupLayers(report).filter(({ layers }) => layers.length > 0);
  const half = (x(1) - x(0)) / 2;
  let labelled = -Infinity;
  return html`${groups.map(({ name, layers }) => {
    const first = layers[0] ? report.layers.indexOf(layers[0]) : 0;
    const at = x(first) - half;
    const hasRoom = at - labelled > 8 && layers.length * half * 2 > name.length * 6.2;
    if (hasRoom) labelled = at + name.length * 6.2;
    return html`${raw(`<path class="grid" d="M${at.toFixed(1)} ${PLOT.top}V${HEIGHT - PLOT.bottom}"/>`)}${
      hasRoom ? html`<text class="axis" x="${(at + 3).toFixed(1)}" y="${PLOT.top - 8}">${name}</text>` : ""
    }`;
  })}`;
}

/** Steps of the colour ramps. */
const STEPS = 24;

/** Decades that the difference's ramp spans, as exponents of 10. */
const DECADES = { least: -9, most: -1 } as const;

interface MappedGate extends GateResult {
  readonly channels: GateChannels;
}

/**
 * Heat maps of the gate vectors: a block to a line, a stream to a row, a channel to a column; reference, candidate and
 * their largest difference over the images side by side. Nothing where a report has no channels.
 */
export function heatMaps({ gates }: ParityReport): Markup {
  const mapped = gates.filter((gate): gate is MappedGate => gate.channels !== undefined);
  if (mapped.length === 0) return raw("");
  const values = mapped.flatMap(({ channels }) => [...channels.reference, ...channels.candidate]);
  const finite = values.filter(Number.isFinite);
  const least = finite.reduce((a, b) => Math.min(a, b), 0);
  const most = finite.reduce((a, b) => Math.max(a, b), 1);
  const share = (value: number): number => (value - least) / (most - least);
  const blocks = [...new Set(mapped.map(({ block }) => block))];
  const lines = blocks.map((block) => {
    const rows = mapped.filter((gate) => gate.block === block);
    const largest = rows.reduce((worst, { maxAbs }) => Math.max(worst, maxAbs), 0);
    const panel = (
      which: keyof GateChannels,
      name: string,
      ramp: Ramp,
      toShare: (value: number) => number,
    ): Markup => {
      const width = Math.max(...rows.map(({ channels }) => channels[which].length));
      const label = `${block}, ${name}: ${rows.length} streams of ${width} channels, largest difference ${formatError(largest)}`;
      return html`<figure><span class="which soft">${name}</span><svg class="map" tabindex="0" role="img" aria-label="${label}" data-block="${block}" data-rows="${rows.length}" data-columns="${width}" viewBox="0 0 ${width} ${rows.length}" preserveAspectRatio="none">${raw(
        cells(
          rows.map(({ channels }) => channels[which]),
          ramp,
          toShare,
        ),
      )}</svg></figure>`;
    };
    return html`<div class="label"><span class="name">${block}</span><br><span class="soft">±${formatError(largest)}</span></div>${panel("reference", "reference", VALUES, share)}${panel("candidate", "candidate", VALUES, share)}${panel("maxAbs", "difference", ERRORS, errorShare)}`;
  });
  return html`<p class="soft">Every gate vector, averaged over the images: streams from top to bottom, channels from left to right. A gate that ignores its image is one flat colour.</p>
<div class="legend"><span>gate ${format(least)} ${ramp(VALUES)} ${format(most)}</span><span>largest difference 1e${DECADES.least} ${ramp(ERRORS)} 1e${DECADES.most}</span></div>
<div class="maps"><b></b><b>reference</b><b>candidate</b><b>difference</b>${lines}</div>`;
}

/** The data of the heat maps for the script, by block: `[stream, reference, candidate, maxAbs]`. */
export function heatMapData({ gates }: ParityReport): Readonly<Record<string, readonly unknown[]>> {
  const data: Record<string, unknown[]> = Object.create(null);
  for (const { block, stream, channels } of gates)
    if (channels) {
      const { reference, candidate, maxAbs } = channels;
      // The same key as in the drawing's attribute.
      const key = printable(block);
      data[key] ??= [];
      data[key].push([stream, reference.map(short), candidate.map(short), maxAbs.map(short)]);
    }
  return data;
}

function short(value: number): number {
  return Number(value.toPrecision(4));
}

function format(value: number): string {
  return Number(value.toPrecision(3)).toString();
}

/** On a logarithmic scale; 0 for no error. */
function errorShare(value: number): number {
  if (!Number.isFinite(value)) return 1;
  if (value <= 0) return 0;
  return (Math.log10(value) - DECADES.least) / (DECADES.most - DECADES.least);
}

/** All cells of one colour are one path, since a report has thousands of cells and two dozen colours. */
function cells(rows: readonly (readonly number[])[], ramp: Ramp, toShare: (value: number) => number): string {
  const paths: string[] = [];
  rows.forEach((values, row) => {
    let start = 0;
    for (let column = 1; column <= values.length; column++) {
      const step = stepOf(toShare(values[start] ?? 0));
      if (column < values.length && stepOf(toShare(values[column] ?? 0)) === step) continue;
      paths[step] = `${paths[step] ?? ""}M${start} ${row}.5H${column}`;
      start = column;
    }
  });
  return Object.entries(paths)
    .map(([step, path]) => `<path stroke="${colour(ramp, Number(step) / (STEPS - 1))}" d="${path}"/>`)
    .join("");
}

function stepOf(share: number): number {
  if (Number.isNaN(share)) return STEPS - 1;
  return Math.min(STEPS - 1, Math.max(0, Math.round(share * (STEPS - 1))));
}

type Rgb = readonly [number, number, number];
type Ramp = readonly Rgb[];

/** From dark to light in perceptually even steps, which are distinguishable with common colour blindness. */
const VALUES: Ramp = [
  [38, 26, 74],
  [49, 76, 124],
  [36, 122, 134],
  [62, 166, 121],
  [160, 200, 80],
  [250, 226, 90],
];

/** From pale, where the two agree. */
const ERRORS: Ramp = [
  [236, 240, 239],
  [190, 219, 214],
  [120, 184, 174],
  [226, 186, 84],
  [214, 110, 40],
  [190, 24, 36],
];

/** Red, green and blue, each 0 to 255, of a gate's value of 0 to 1 in a heat map; values beyond have the colour of the end. */
export function gateColour(value: number): readonly [red: number, green: number, blue: number] {
  return mixed(VALUES, Math.min(1, Math.max(0, value)));
}

function mixed(ramp: Ramp, share: number): Rgb {
  const at = share * (ramp.length - 1);
  const lower = Math.min(Math.floor(at), ramp.length - 2);
  const channel = (index: number): number => {
    const [from, to] = [ramp[lower]?.[index] ?? 0, ramp[lower + 1]?.[index] ?? 0];
    return Math.round(from + (to - from) * (at - lower));
  };
  return [channel(0), channel(1), channel(2)];
}

function colour(ramp: Ramp, share: number): string {
  return `#${mixed(ramp, share)
    .map((channel) => channel.toString(16).padStart(2, "0"))
    .join("")}`;
}

function ramp(which: Ramp): Markup {
  const bars = Array.from(
    { length: STEPS },
    (_, step) =>
      `<path stroke="${colour(which, step / (STEPS - 1))}" stroke-width="12" d="M${step} 6h1.05"/>`,
  );
  return raw(
    `<svg class="ramp" viewBox="0 0 ${STEPS} 12" preserveAspectRatio="none" aria-hidden="true">${bars.join("")}</svg>`,
  );
}

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

/** A group's drawing: the positions of its cells, and the wires drawn behind them as an SVG path. */
interface Drawing {
  readonly cells: readonly Cell[];
  readonly wires: string;
  readonly width: number;
  readonly height: number;
}

/**
 * The network as blocks and streams: a cell per layer, coloured by its margin; the streams of a block below each
 * other, each with its gate at the end. Cells carry the layer's number, by which the script finds its figures.
 */
export function networkSection(report: ParityReport): Markup {
  const numbers = new Map(report.layers.map(({ name }, index) => [name, index]));
  const hasLocal = report.tolerance.rule === "derived-bounds";
  const groups = groupLayers(report).filter(({ layers }) => layers.length > 0);
  return html`<section id="network" aria-labelledby="network-h"><h2 id="network-h">Network</h2>
<p class="soft">Each cell is a layer, and each row of a block is one of its streams, with its worst margin on the right. Point at a cell to see its figures, or focus a block and use the arrow keys; the table of layers has the same data.${hasLocal ? ` ${OMITTED_NOTE}` : ""}</p>
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

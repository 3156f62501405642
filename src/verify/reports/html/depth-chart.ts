import type { LayerResult, ParityReport } from "../../report.js";
import { groupLayers } from "../findings.js";
import { html, type Markup, raw } from "./markup.js";

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
      // No error at all has no place on a logarithmic scale: there the line stops.
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
  const label = `Error against depth of ${layers.length} layers, from 1e${bottom} to 1e${top} of max; the layers' table holds the same figures.`;
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

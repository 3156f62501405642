import type { GateChannels, GateResult, ParityReport } from "../../report.js";
import { printable } from "../escape.js";
import { formatError } from "../facts.js";
import { html, type Markup, raw } from "./markup.js";

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

/** Of every mapped gate, by block, what the script shows under the pointer: `[stream, reference, candidate, maxAbs]`. */
export function heatMapData({ gates }: ParityReport): Readonly<Record<string, readonly unknown[]>> {
  const data: Record<string, unknown[]> = Object.create(null);
  for (const { block, stream, channels } of gates)
    if (channels) {
      const { reference, candidate, maxAbs } = channels;
      // As the drawing's attribute has it.
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

/** Logarithmic: 0 is nothing at all. */
function errorShare(value: number): number {
  if (!Number.isFinite(value)) return 1;
  if (value <= 0) return 0;
  return (Math.log10(value) - DECADES.least) / (DECADES.most - DECADES.least);
}

/** Cells of one colour are one path: a report has thousands of cells, and two dozen colours. */
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

/** Dark to light, in steps that look even and that no common colour blindness confuses. */
const VALUES: Ramp = [
  [38, 26, 74],
  [49, 76, 124],
  [36, 122, 134],
  [62, 166, 121],
  [160, 200, 80],
  [250, 226, 90],
];

/** Pale where the two agree. */
const ERRORS: Ramp = [
  [236, 240, 239],
  [190, 219, 214],
  [120, 184, 174],
  [226, 186, 84],
  [214, 110, 40],
  [190, 24, 36],
];

function colour(ramp: Ramp, share: number): string {
  const at = share * (ramp.length - 1);
  const lower = Math.min(Math.floor(at), ramp.length - 2);
  const channel = (index: number): string => {
    const [from, to] = [ramp[lower]?.[index] ?? 0, ramp[lower + 1]?.[index] ?? 0];
    return Math.round(from + (to - from) * (at - lower))
      .toString(16)
      .padStart(2, "0");
  };
  return `#${channel(0)}${channel(1)}${channel(2)}`;
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

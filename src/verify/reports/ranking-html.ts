import { plural } from "../../core/text.js";
import type { Histogram } from "../ranking/compare.js";
import type {
  NearestPicture,
  RankedCandidate,
  RankedSide,
  RankingReport,
  WorstQuery,
} from "../ranking/report.js";
import {
  changeText,
  checkText,
  datasetText,
  FIGURE_NAMES,
  orderTexts,
  percent,
  referenceText,
  sharesOf,
  sidesOf,
  verdictText,
} from "./facts.js";
import { dataTable, html, type Markup, NOTHING, raw, renderPage, type Tile } from "./html-page.js";

export interface RankingPageOptions {
  /** Pictures by path, as `data:` URIs: only if requested. */
  readonly pictures?: ReadonlyMap<string, string>;
}

/** Longer than an escaped text may be, and free of what would need escaping. */
const JPEG_URI = /^data:image\/jpeg;base64,[A-Za-z0-9+/]*={0,2}$/;

/** Number of nearest pictures beside a query. */
export const NEAREST_SHOWN = 5;

/** A ranking report as one page: figures and curves of all models, then each candidate's changes and worst queries. */
export function renderRankingHtml(
  report: RankingReport,
  { pictures = new Map() }: RankingPageOptions = {},
): Promise<string> {
  const { passed, dataset, candidates, reference } = report;
  const proof = referenceText(report);
  const isLabelled = reference.figures !== undefined;
  return renderPage({
    title: `Ranking on ${dataset.name}`,
    status: passed ? "pass" : "fail",
    verdict: verdictText(report),
    subject: html`${dataset.name}: ${datasetText(report)}. Reference: ${reference.party.name} (${reference.backend})${proof === "" ? "" : `; ${proof}`}`,
    tiles: tilesOf(report),
    sections: [
      ["figures", "Figures"],
      ...candidates.map(({ party }, index) => [`candidate-${index}`, party.name] as const),
      ...(isLabelled ? [["distances", "Distances"] as const] : []),
    ],
    body: [
      figureSection(report),
      ...candidates.map((candidate, index) => candidateSection(candidate, index, isLabelled, pictures)),
      isLabelled ? spreadSection(sidesOf(report)) : NOTHING,
    ],
    footer: "Written by osnet-verify rank.",
  });
}

function tilesOf({ dataset, candidates, broken, reference }: RankingReport): readonly Tile[] {
  const failing = candidates.filter(({ passed }) => !passed).length;
  const flips = Math.max(...candidates.map(({ parity }) => parity.flips.share));
  return [
    ...(failing > 0
      ? [{ figure: `${failing} of ${candidates.length}`, label: "candidates fail", isBad: true }]
      : []),
    ...(reference.figures
      ? [
          { figure: percent(reference.figures.mAP), label: "mAP of the reference" },
          { figure: percent(reference.figures.cmc[0] ?? 0), label: "rank-1 of the reference" },
        ]
      : []),
    { figure: percent(flips), label: "of queries change their nearest image, at most" },
    { figure: `${dataset.queries} × ${dataset.gallery}`, label: "queries × gallery images" },
    ...(broken.length > 0 ? [{ figure: String(broken.length), label: "pictures skipped" }] : []),
  ];
}

function figureSection(report: RankingReport): Markup {
  const isLabelled = report.reference.figures !== undefined;
  const columns = isLabelled ? FIGURE_NAMES : [];
  const table = dataTable<RankedSide>(
    { id: "figures-table", label: "Figures of all models" },
    [
      { title: "model", kind: "name", cell: ({ party }) => party.name },
      { title: "run by", kind: "text", cell: ({ backend }) => backend },
      ...columns.map((title, index) => ({
        title,
        kind: "number" as const,
        cell: ({ figures }: RankedSide) => (figures ? percent(sharesOf(figures)[index] ?? 0) : "–"),
        order: ({ figures }: RankedSide) => (figures ? sharesOf(figures)[index] : null),
      })),
    ],
    sidesOf(report),
  );
  const left = report.broken.slice(0, 20);
  return html`<section id="figures" aria-labelledby="figures-h"><h2 id="figures-h">Figures</h2>${table}
${isLabelled ? cmcChart(report) : ""}
${left.length > 0 ? html`<h3>Pictures skipped</h3><ul>${left.map((problem) => html`<li>${problem}</li>`)}</ul>` : ""}</section>`;
}

function candidateSection(
  candidate: RankedCandidate,
  index: number,
  isLabelled: boolean,
  pictures: ReadonlyMap<string, string>,
): Markup {
  const { party, parity, worst, passed, checks, queryChanges } = candidate;
  const id = `candidate-${index}`;
  const faults = passed
    ? NOTHING
    : html`<ul class="faults">${checks
        .filter((check) => !check.passed)
        .map(
          (check) =>
            html`<li><div class="what"><b class="name">${check.figure}</b></div><p>${checkText(check)}</p></li>`,
        )}</ul>`;
  return html`<section id="${id}" aria-labelledby="${id}-h"><h2 id="${id}-h">${party.name}</h2>${faults}
<ul>${parity.mAP && parity.rank1 ? html`<li>mAP ${changeText(parity.mAP)}; rank-1 ${changeText(parity.rank1)}</li>` : ""}${orderTexts(candidate).map((line) => html`<li>${line}</li>`)}</ul>
<h3>Change per query</h3>${queryChanges.some((change) => change !== 0) ? changeChart(candidate, isLabelled) : html`<p>No query ranks better or worse.</p>`}
${worst.length > 0 ? html`<h3>${plural(worst.length, "query", "queries")} that lost most</h3>${worst.map((query) => worstQuery(query, pictures))}` : ""}</section>`;
}

function worstQuery(
  { picture, before, after, referenceNearest, candidateNearest }: WorstQuery,
  pictures: ReadonlyMap<string, string>,
): Markup {
  const change =
    before === undefined || after === undefined
      ? ""
      : `, average precision ${before.toFixed(3)} to ${after.toFixed(3)}`;
  const row = (name: string, nearest: readonly NearestPicture[]): Markup =>
    html`<tr><th scope="row">${name}</th>${nearest.slice(0, NEAREST_SHOWN).map((one) => html`<td>${shown(one, pictures)}</td>`)}</tr>`;
  return html`<div class="query"><p>${shown({ picture }, pictures)}${change}</p><div class="scroll" tabindex="0" role="region" aria-label="Nearest pictures of ${picture}"><table class="nearest"><thead><tr><th scope="col">by</th>${referenceNearest.slice(0, NEAREST_SHOWN).map((_, rank) => html`<th scope="col">${rank + 1}</th>`)}</tr></thead><tbody>${row("reference", referenceNearest)}${row("candidate", candidateNearest)}</tbody></table></div></div>`;
}

/** A picture by its file name, with whether it is the right person, and the picture itself if it is to be shown. */
function shown({ picture, isMatch }: NearestPicture, pictures: ReadonlyMap<string, string>): Markup {
  const uri = pictures.get(picture);
  const name = picture.slice(picture.lastIndexOf("/") + 1);
  const verdict = isMatch === undefined ? "" : isMatch ? "right: " : "wrong: ";
  const mark = isMatch === undefined ? "" : isMatch ? "right" : "wrong";
  return html`<span class="picture ${mark}">${uri === undefined ? "" : html`<img src="${raw(JPEG_URI.test(uri) ? uri : "data:,")}" alt="${name}">`}<span>${verdict}${uri === undefined ? picture : name}</span></span>`;
}

function spreadSection(sides: readonly RankedSide[]): Markup {
  return html`<section id="distances" aria-labelledby="distances-h"><h2 id="distances-h">Distances</h2>
<p class="soft">A query and an image of the same identity under another camera, and a query and all other images that take part in its ranking. Where the two overlap, identities are confused.</p>
${sides.map(({ party, spread }) => (spread ? html`<h3>${party.name}</h3>${spreadChart(party.name, spread)}` : NOTHING))}</section>`;
}

const WIDTH = 560;
const HEIGHT = 260;
const PLOT = { left: 52, right: 12, top: 12, bottom: 34 } as const;

/** Lines differ in colour and in dashes; more than these repeat. */
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "5 2 1 2", "12 4"] as const;

/** An axis: its ends and their labels. */
interface Axis {
  readonly low: number;
  readonly high: number;
  readonly name: string;
  readonly ticks: readonly (readonly [at: number, text: string])[];
}

/** CMC curves of all models: the share of queries with a match among the first k. */
function cmcChart(report: RankingReport): Markup {
  const curves = sidesOf(report).map(({ party, figures }) => ({ name: party.name, cmc: figures?.cmc ?? [] }));
  const ranks = Math.max(...curves.map(({ cmc }) => cmc.length));
  const lowest = Math.min(...curves.map(({ cmc }) => cmc[0] ?? 1));
  const low = Math.max(0, Math.floor(10 * lowest - 0.5) / 10);
  const x: Axis = {
    low: 1,
    high: Math.max(2, ranks),
    name: "rank",
    ticks: [1, 5, 10, 20, 30, 40, 50].filter((rank) => rank <= ranks).map((rank) => [rank, String(rank)]),
  };
  const y: Axis = { low, high: 1, name: "share of queries", ticks: ends(low, 1, percent) };
  const lines = curves.map(({ cmc }, index) => {
    const path = cmc.map((share, k) => `${k === 0 ? "M" : "L"}${place(x, y, k + 1, share)}`).join("");
    return line(path, index);
  });
  return html`<div class="legend">${curves.map(({ name }, index) => html`<span>${swatch(index)}${name}</span>`)}</div>
${figure("CMC curves; the table above has the same figures.", x, y, lines.join(""))}`;
}

/** How much each query ranks worse or better, in order. */
function changeChart({ queryChanges, party }: RankedCandidate, isLabelled: boolean): Markup {
  const sorted = queryChanges.toSorted((a, b) => a - b);
  const high = Math.max(0, sorted.at(-1) ?? 0);
  const low = Math.min(0, sorted[0] ?? 0);
  const what = isLabelled ? "average precision" : "Kendall's τ";
  const x: Axis = { low: 0, high: Math.max(1, sorted.length - 1), name: "queries, worst first", ticks: [] };
  const span = high - low === 0 ? 1 : high - low;
  const y: Axis = {
    low: high === low ? -0.5 : low - 0.05 * span,
    high: high === low ? 0.5 : high + 0.05 * span,
    name: `change of ${what}`,
    ticks: [...new Set([low, 0, high])].map((value) => [value, value.toFixed(2)]),
  };
  const bars = sorted
    .map((change, index) => {
      const top = place(x, y, index, change);
      const [, foot] = place(x, y, index, 0).split(" ");
      return change === 0 ? "" : `M${top}V${foot}`;
    })
    .join("");
  return figure(
    `Change of ${what} of ${sorted.length} queries by ${party.name}, from ${low.toFixed(3)} to ${high.toFixed(3)}.`,
    x,
    y,
    `<path class="bars ${low < 0 ? "worse" : ""}" d="${bars}"/>`,
  );
}

/** How far queries are from images of their identity and from others, by one model. */
function spreadChart(
  name: string,
  { same, different }: { readonly same: Histogram; readonly different: Histogram },
): Markup {
  const range = Math.max(same.range, different.range);
  const [one, other] = [outline(same), outline(different)];
  const highest = Math.max(...one.map(([, share]) => share), ...other.map(([, share]) => share));
  const x: Axis = { low: 0, high: range || 1, name: "distance", ticks: ends(0, range || 1, short) };
  const y: Axis = { low: 0, high: highest || 1, name: "density", ticks: [] };
  const path = (steps: readonly (readonly [number, number])[]): string =>
    steps.map(([at, share], index) => `${index === 0 ? "M" : "L"}${place(x, y, at, share)}`).join("");
  return html`<div class="legend"><span>${swatch(0)}same identity</span><span>${swatch(1)}different identities</span></div>
${figure(`Distances of same and of different identities by ${name}.`, x, y, line(path(one), 0) + line(path(other), 1))}`;
}

/** The steps of a histogram, each as high as its share of all values over its width. */
function outline({ range, counts }: Histogram): readonly (readonly [at: number, density: number])[] {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const width = range / counts.length;
  if (total === 0 || width === 0) return [];
  return counts.flatMap((count, bin) => {
    const density = count / total / width;
    return [[bin * width, density] as const, [(bin + 1) * width, density] as const];
  });
}

function place(x: Axis, y: Axis, atX: number, atY: number): string {
  const across = (atX - x.low) / (x.high - x.low);
  const up = (atY - y.low) / (y.high - y.low);
  const left = PLOT.left + across * (WIDTH - PLOT.left - PLOT.right);
  const top = PLOT.top + (1 - up) * (HEIGHT - PLOT.top - PLOT.bottom);
  return `${left.toFixed(1)} ${top.toFixed(1)}`;
}

function figure(label: string, x: Axis, y: Axis, content: string): Markup {
  const across = x.ticks.map(([at, text]) => {
    const [left] = place(x, y, at, y.low).split(" ");
    return html`<text class="axis" x="${left ?? ""}" y="${HEIGHT - PLOT.bottom + 15}" text-anchor="middle">${text}</text>`;
  });
  const up = y.ticks.map(([at, text]) => {
    const [, top] = place(x, y, x.low, at).split(" ");
    return html`<path class="grid" d="M${PLOT.left} ${top ?? ""}H${WIDTH - PLOT.right}"/><text class="axis" x="${PLOT.left - 6}" y="${Number(top) + 4}" text-anchor="end">${text}</text>`;
  });
  return html`<div class="figure"><svg role="img" aria-label="${label}" viewBox="0 0 ${WIDTH} ${HEIGHT}">${up}${across}<text class="axis" x="${WIDTH - PLOT.right}" y="${HEIGHT - 4}" text-anchor="end">${x.name}</text><text class="axis" x="${PLOT.left + 4}" y="${PLOT.top + 10}">${y.name}</text>${raw(content)}</svg></div>`;
}

function line(path: string, index: number): string {
  const dashes = DASHES[index % DASHES.length] ?? "";
  return `<path class="curve k${index % 3}" d="${path}"${dashes === "" ? "" : ` stroke-dasharray="${dashes}"`}/>`;
}

function swatch(index: number): Markup {
  return raw(`<svg viewBox="0 0 24 10" class="wide" aria-hidden="true">${line("M0 5H24", index)}</svg>`);
}

function ends(
  low: number,
  high: number,
  format: (value: number) => string,
): readonly (readonly [at: number, text: string])[] {
  return [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = low + share * (high - low);
    return [at, format(at)];
  });
}

function short(value: number): string {
  return value.toPrecision(2);
}

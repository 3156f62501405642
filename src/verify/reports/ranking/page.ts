import type {
  NearestPicture,
  RankedCandidate,
  RankedSide,
  RankingReport,
  WorstQuery,
} from "../../ranking/report.js";
import { plural } from "../facts.js";
import { html, type Markup, NOTHING, raw } from "../html/markup.js";
import { renderPage, type Tile } from "../html/page.js";
import { dataTable } from "../html/tables.js";
import { changeChart, cmcChart, spreadChart } from "./charts.js";
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

export interface RankingPageOptions {
  /** Pictures by their paths, as `data:` URIs: only where whoever writes the report wants them in it. */
  readonly pictures?: ReadonlyMap<string, string>;
}

/** Longer than an escaped text may be, and free of what would need escaping. */
const JPEG_URI = /^data:image\/jpeg;base64,[A-Za-z0-9+/]*={0,2}$/;

/** Nearest pictures that stand beside a query. */
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
    { figure: percent(flips), label: "of queries have another nearest image, at most" },
    { figure: `${dataset.queries} × ${dataset.gallery}`, label: "queries × gallery images" },
    ...(broken.length > 0 ? [{ figure: String(broken.length), label: "pictures left out" }] : []),
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
${left.length > 0 ? html`<h3>Pictures left out</h3><ul>${left.map((problem) => html`<li>${problem}</li>`)}</ul>` : ""}</section>`;
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

/** A picture by its file's name, with whether it is the right person, and itself if it is to be shown. */
function shown({ picture, isMatch }: NearestPicture, pictures: ReadonlyMap<string, string>): Markup {
  const uri = pictures.get(picture);
  const name = picture.slice(picture.lastIndexOf("/") + 1);
  const verdict = isMatch === undefined ? "" : isMatch ? "right: " : "wrong: ";
  const mark = isMatch === undefined ? "" : isMatch ? "right" : "wrong";
  return html`<span class="picture ${mark}">${uri === undefined ? "" : html`<img src="${raw(JPEG_URI.test(uri) ? uri : "data:,")}" alt="${name}">`}<span>${verdict}${uri === undefined ? picture : name}</span></span>`;
}

function spreadSection(sides: readonly RankedSide[]): Markup {
  return html`<section id="distances" aria-labelledby="distances-h"><h2 id="distances-h">Distances</h2>
<p class="soft">A query and an image of the same identity under another camera, and a query and all other images that take part in its ranking. What the two have in common is what is confused.</p>
${sides.map(({ party, spread }) => (spread ? html`<h3>${party.name}</h3>${spreadChart(party.name, spread)}` : NOTHING))}</section>`;
}

import { once } from "../../core/functions.js";
import { plural } from "../../core/text.js";
import type { RunFacts, Status } from "../outcome/report.js";
import { escapeMarkup } from "./escape.js";
import { SCRIPT } from "./html-client.js";

/** Safe HTML or SVG. A class, so that nothing parsed from a report's JSON can pass for it, whatever fields it has. */
class SafeMarkup {
  readonly #markup: string;

  constructor(markup: string) {
    this.#markup = markup;
  }

  get markup(): string {
    return this.#markup;
  }

  static is(value: unknown): value is SafeMarkup {
    return typeof value === "object" && value !== null && #markup in value;
  }
}

export type { SafeMarkup as Markup };

type Markup = SafeMarkup;

type Value = Markup | string | number | readonly (Markup | string)[];

/**
 * Builds markup from a template: every value is escaped, unless it is markup itself. Attributes with values must be
 * quoted.
 */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Markup {
  let markup = parts[0] ?? "";
  values.forEach((value, index) => {
    markup += textOf(value) + (parts[index + 1] ?? "");
  });
  return new SafeMarkup(markup);
}

/** Trusted text that is already markup: style, script, formatted numbers. */
export function raw(markup: string): Markup {
  return new SafeMarkup(markup);
}

export const NOTHING: Markup = raw("");

function textOf(value: Value): string {
  if (SafeMarkup.is(value)) return value.markup;
  if (Array.isArray(value)) return value.map(textOf).join("");
  // Anything else becomes text, even if a report has an object in place of a number.
  return escapeMarkup(String(value));
}

/** A column of a table: its content, format and order. */
export interface Column<T> {
  readonly title: string;
  readonly kind: "name" | "text" | "number" | "status" | "what";
  readonly cell: (row: T) => Markup | string;
  /** What a column of numbers is ordered by; infinite sorts last. */
  readonly order?: (row: T) => number | null | undefined;
}

/**
 * A table that the script makes sortable by its headings, and, with a filter, searchable. It is whole without the
 * script. The first column of kind `name` heads its row.
 */
export function dataTable<T>(
  {
    id,
    label,
    tall = false,
    filter = false,
    rowId,
  }: {
    readonly id: string;
    readonly label: string;
    readonly tall?: boolean;
    readonly filter?: boolean;
    /** What the id of each row begins with, if it is linked to: its index follows. */
    readonly rowId?: string;
  },
  columns: readonly Column<T>[],
  rows: readonly T[],
): Markup {
  const head = columns.map(
    ({ title, kind }) => html`<th scope="col"${raw(kind === "number" ? ' class="n"' : "")}>${title}</th>`,
  );
  const body = rows.map(
    (row, index) =>
      html`<tr data-i="${index}"${raw(rowId ? ` id="${rowId}-${index}"` : "")}>${columns.map((column) => cell(column, row, columns))}</tr>\n`,
  );
  return html`${filter ? filterForm(id, columns, rows) : ""}<div class="scroll${tall ? " tall" : ""}" tabindex="0" role="region" aria-label="${label}"><table id="${id}" class="data"><thead><tr>${head}</tr></thead><tbody>
${body}</tbody></table></div>`;
}

function cell<T>(column: Column<T>, row: T, columns: readonly Column<T>[]): Markup {
  const value = column.cell(row);
  if (column.kind === "number") {
    const order = column.order?.(row);
    return html`<td class="n" data-v="${order === null || order === Infinity ? "1e999" : (order ?? "")}">${value}</td>`;
  }
  if (column.kind === "status") return html`<td class="s-${value}">${value}</td>`;
  if (column.kind === "what") return html`<td class="what">${value}</td>`;
  const isHead = columns.find(({ kind }) => kind === "name") === column;
  const style = [column.kind === "name" && !isHead ? "name" : "", isShort(value) ? "short" : ""]
    .filter(Boolean)
    .join(" ");
  if (isHead) return html`<th scope="row" class="${style}">${value}</th>`;
  return html`<td class="${style}">${value}</td>`;
}

/** A layer's name is not wrapped, but a name from a file may be of any length. */
function isShort(value: Markup | string): boolean {
  return typeof value !== "string" || value.length <= 48;
}

function filterForm<T>(id: string, columns: readonly Column<T>[], rows: readonly T[]): Markup {
  const status = columns.find(({ kind }) => kind === "status");
  const statuses = [...new Set(rows.map((row) => status?.cell(row)))].filter(
    (one) => typeof one === "string",
  );
  return html`<div class="controls" data-for="${id}"><label>Filter by words <input type="search" autocomplete="off"></label>
<label>Status <select><option value="">all</option>${statuses.sort().map((one) => html`<option>${one}</option>`)}</select></label><span role="status" class="soft">${plural(rows.length, "row")}</span></div>`;
}

/** Steps of the margin scale: everything up to `most` has the class. */
const STEPS = [
  { most: 1e-3, style: "m0", label: "up to 0.001" },
  { most: 1e-2, style: "m1", label: "0.01" },
  { most: 0.1, style: "m2", label: "0.1" },
  { most: 0.5, style: "m3", label: "0.5" },
  { most: 1, style: "m4", label: "1" },
] as const;

/** The style class of a margin, or of what was not tested. */
export function marginClass(margin: number | null, status: Status = "pass"): string {
  if (status === "untested") return "mu";
  if (status === "fail" || margin === null) return "mf";
  return STEPS.find(({ most }) => margin <= most)?.style ?? "mf";
}

/** A legend of the colours and shapes. */
export function marginLegend({ shapes }: { readonly shapes: boolean }): Markup {
  const box = (style: string, inner = ""): Markup =>
    raw(
      `<svg viewBox="0 0 10 10" aria-hidden="true"><rect class="${style}" width="10" height="10" rx="2"/>${inner}</svg>`,
    );
  const cross = '<path class="x" d="M3 3L7 7M7 3L3 7"/>';
  return html`<div class="legend"><span>margin</span>${STEPS.map(
    ({ style, label }) => html`<span>${box(style)}${label}</span>`,
  )}<span>${box("mf", cross)}fails</span><span>${box("mu")}untested</span>${
    shapes
      ? html`<span>${raw('<svg viewBox="0 0 10 10" aria-hidden="true"><circle class="m2" cx="5" cy="5" r="5"/></svg>')}of a gate</span>`
      : ""
  }</div>`;
}

/** The page may load nothing, and run only its own script and style. */
const policy = once(async (): Promise<string> => {
  const [style, script] = await Promise.all([STYLE, SCRIPT].map(sourceHash));
  return `default-src 'none'; img-src data:; style-src '${style}'; script-src '${script}'; base-uri 'none'; form-action 'none'`;
});

/**
 * The source expression of a Content-Security-Policy for an inline script or style, computed here since bundlers
 * rewrite functions.
 */
async function sourceHash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}`;
}

/** A self-contained page: the verdict, its subject, its figures, then sections. */
interface Page {
  readonly title: string;
  readonly status: "pass" | "fail";
  /** The verdict in one clause. */
  readonly verdict: string;
  readonly subject: Markup;
  readonly tiles: readonly Tile[];
  /** Id and name of each section, for the navigation. */
  readonly sections: readonly (readonly [id: string, name: string])[];
  readonly body: readonly Markup[];
  readonly footer: Markup | string;
}

/** A highlighted figure with its label. */
export interface Tile {
  readonly figure: string;
  readonly label: string;
  readonly isBad?: boolean;
}

export async function renderPage(page: Page): Promise<string> {
  const { title, status, verdict, subject, tiles, sections, body, footer } = page;
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${raw(await policy())}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${status.toUpperCase()} ${title}</title>
<style>${raw(STYLE)}</style></head>
<body class="noscript"><a class="skip" href="#main">Skip to the report</a>
<header><h1><span class="pill ${status}">${status.toUpperCase()}</span> <span class="clause">${verdict}</span></h1>
<p class="subject">${subject}</p>
<dl class="tiles">${tiles.map(({ figure, label, isBad = false }) => html`<div class="${isBad ? "bad" : ""}"><dt>${label}</dt><dd>${figure}</dd></div>`)}</dl>
<nav aria-label="Sections">${sections.map(([id, name]) => html`<a href="#${id}">${name}</a>`)}<button type="button" class="plain" id="theme">Light / dark</button></nav></header>
<main id="main">${body}</main>
<footer>${footer}</footer>
<script>${raw(SCRIPT)}</script>
</body></html>
`.markup;
}

/** Terms and descriptions, in columns. */
export function factList(facts: readonly (readonly [term: string, fact: Markup | string])[]): Markup {
  return html`<dl class="facts">${facts.map(([term, fact]) => html`<div><dt>${term}</dt><dd>${fact}</dd></div>`)}</dl>`;
}

/** The runtime and machine of a run, if the report states them. */
export function runLine(run: RunFacts | undefined): string {
  if (!run) return "Written by osnet-verify.";
  const versions = Object.entries(run.versions).map(([name, version]) => `${name} ${version}`);
  return `Written by osnet-verify. ${[...versions, run.platform, run.cpu].join(" · ")} · ${run.seconds.toFixed(1)} s`;
}

/** Styles of sections: faults, tables, drawings. */
const SECTION_STYLE = `
.faults{list-style:none;margin:12px 0 0;padding:0;display:grid;gap:10px}
.faults li{border-left:4px solid var(--mf);background:var(--paper);border-radius:0 8px 8px 0;padding:10px 14px;min-width:0}
.faults li.warn{border-color:var(--warn)}
.faults .what{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline}
.faults b.name{font-size:15px;font-weight:650}.faults .kind{font-size:13px;color:var(--bad);font-weight:600}.faults .warn .kind{color:var(--warn)}
.faults .amount{font-size:13px;color:var(--soft)}.faults p{overflow-wrap:anywhere;white-space:pre-line;max-width:95ch}.faults .of{font-size:13px;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin-top:12px}
.tall{max-height:640px;overflow-y:auto}
table{overflow-wrap:normal;border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{position:sticky;top:0;background:var(--card);font-weight:600;white-space:nowrap;z-index:1;border-bottom:2px solid var(--line)}
td.n,th.n{text-align:right;white-space:nowrap}
td.name,th[scope=row]{min-width:150px;font-weight:400;text-align:left}
td.what{min-width:260px;overflow-wrap:anywhere}
thead button{all:unset;cursor:pointer;font-weight:600;padding:2px 0}thead button::after{content:"\\a0↕";color:var(--soft);opacity:.6}
th[aria-sort=ascending] button::after{content:"\\a0↑";opacity:1}th[aria-sort=descending] button::after{content:"\\a0↓";opacity:1}
thead button:focus-visible{outline:2px solid var(--accent)}
tr.target td,tr.target th{background:var(--warn-bg)}
.s-fail{color:var(--bad);font-weight:700}.s-pass{color:var(--good)}.s-untested,.s-error{color:var(--warn);font-weight:600}
.controls{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:end;margin-top:10px;font-size:13px}
.controls label{display:flex;flex-direction:column;gap:2px}
.net{display:flex;flex-wrap:wrap;gap:12px;align-items:stretch;margin-top:12px}
.net figure{margin:0;border:1px solid var(--line);border-radius:8px;padding:8px 12px 10px;background:var(--paper);max-width:100%}
.net figure.bad{border-color:var(--mf);box-shadow:inset 0 0 0 1px var(--mf)}
.net figcaption{display:flex;gap:14px;justify-content:space-between;font-size:13px;margin-bottom:6px;font-variant-numeric:tabular-nums}
.net figcaption b{color:var(--ink);font-weight:600}
.net svg{display:block;max-width:100%;height:auto}
.wire{stroke:var(--allow);stroke-width:1;fill:none;opacity:.6}
.c{stroke:var(--allow);stroke-width:.5;cursor:pointer}.c.on{stroke:var(--ink);stroke-width:2}
.x{stroke:var(--of);stroke-width:1.8;pointer-events:none;fill:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px;margin-top:8px;align-items:center}
.legend svg{width:14px;height:14px;vertical-align:-2px;margin-right:5px}.legend .ramp{width:150px;height:12px;margin:0 5px}
.chart svg{display:block;width:100%;min-width:760px;height:auto}
.grid{stroke:var(--line);stroke-width:1}.axis{fill:var(--soft);font-size:12px}
.accumulated{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}.local{fill:var(--local)}.allowed{fill:none;stroke:var(--allow);stroke-width:1.2;stroke-dasharray:4 3}
.failing{fill:var(--mf);stroke:var(--card);stroke-width:1}.cursor{stroke:var(--ink);stroke-width:1;opacity:0}
.figure svg{display:block;overflow:visible;width:100%;max-width:720px;height:auto;margin-top:8px}.legend svg.wide{width:28px}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}.k0{stroke:var(--ink)}.k1{stroke:var(--local)}.k2{stroke:var(--accent)}
.bars{fill:none;stroke:var(--accent);stroke-width:1.5}.bars.worse{stroke:var(--local)}
.query{margin-top:14px}.nearest{width:auto}.picture{display:inline-flex;flex-direction:column;gap:3px;font-size:12.5px;max-width:180px;overflow-wrap:anywhere}
.picture img{display:block;width:64px;height:128px;border:3px solid var(--line)}.right{color:var(--good)}.wrong{color:var(--bad)}.right img{border-color:var(--good)}.wrong img{border-color:var(--bad);border-style:dashed}
.maps{display:grid;gap:10px 14px;grid-template-columns:96px repeat(3,minmax(0,1fr));align-items:center;margin-top:12px;font-size:13px}
.maps>b{font-weight:600}.maps .label{overflow-wrap:anywhere}.maps .label .name{font-weight:600}
.maps figure{margin:0;min-width:0}
.maps svg{display:block;width:100%;height:64px;border:1px solid var(--line);border-radius:4px;background:var(--paper);cursor:crosshair}
.maps svg path{fill:none;stroke-width:1.04}
.matrix{width:auto}.matrix td{padding:2px;border-bottom:0}.matrix td.k{text-align:center;min-width:54px}
.matrix td.k span{display:block;border-radius:4px;padding:3px 6px;font-size:12.5px;white-space:nowrap}
.matrix th.v{font-size:12.5px;padding:4px 6px;text-align:center}
.matrix th[scope=row]{position:sticky;left:0;background:var(--card);border-bottom:0;padding:4px 12px 4px 0;white-space:nowrap;font-size:12.5px}
`;

/** The pages' style sheet: light and dark, wide, narrow and printed. Colours show margins, and shapes repeat them. */

/**
 * Margins run from pale to deep teal (reversed in dark mode), one hue in steps of lightness, which work with any colour
 * blindness; only failures are red, and they are also crossed out. `--o…` is the text colour on each.
 */
export const COLOURS: string = `
:root{color-scheme:light dark;
--paper:light-dark(#f7f7f4,#131719);--card:light-dark(#fff,#1b2023);--ink:light-dark(#1b2226,#e7e7e3);--soft:light-dark(#556168,#a6b0b5);
--line:light-dark(#dfdfd8,#333b40);--accent:light-dark(#0a665f,#62cfc3);
--good:light-dark(#0a664b,#84dfb6);--good-bg:light-dark(#dcf0e6,#12382b);--bad:light-dark(#a3161c,#ff9f98);--bad-bg:light-dark(#fbe4e2,#4a181a);
--warn:light-dark(#744800,#f0c674);--warn-bg:light-dark(#faecd0,#40320f);
--m0:light-dark(#e6f1ef,#203a38);--m1:light-dark(#c5e2dd,#275350);--m2:light-dark(#93c9c1,#2f6a65);--m3:light-dark(#57a1a3,#5fb0ac);--m4:light-dark(#2c6a80,#a6dde1);
--mf:light-dark(#c1121f,#ff6b6b);--mu:light-dark(#b9bdc0,#5b646b);
--o0:light-dark(#10201e,#e7e7e3);--o1:var(--o0);--o2:var(--o0);--o3:light-dark(#0b1716,#0b1716);--o4:light-dark(#fff,#0b1716);--of:light-dark(#fff,#1b0507);
--local:light-dark(#b3541e,#f0a35e);--allow:light-dark(#858b90,#8a949b)}
:root[data-theme=light]{color-scheme:light}:root[data-theme=dark]{color-scheme:dark}
@media print{:root,:root[data-theme]{color-scheme:light}}
.m0{fill:var(--m0)}.m1{fill:var(--m1)}.m2{fill:var(--m2)}.m3{fill:var(--m3)}.m4{fill:var(--m4)}.mf{fill:var(--mf)}.mu{fill:var(--mu)}
span.m0{background:var(--m0);color:var(--o0)}span.m1{background:var(--m1);color:var(--o1)}span.m2{background:var(--m2);color:var(--o2)}span.m3{background:var(--m3);color:var(--o3)}
span.m4{background:var(--m4);color:var(--o4)}span.mf{background:var(--mf);color:var(--of);font-weight:700}
`;

const FRAME = `
*{box-sizing:border-box}
body{margin:0;overflow-wrap:anywhere;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:1240px;margin:0 auto;padding:0 20px}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;background:var(--card);padding:6px 10px;z-index:9}
a{color:var(--accent)}
h1{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center;font-size:23px;line-height:1.3;margin:0;font-weight:650}
h2{font-size:18px;line-height:1.3;margin:0 0 4px;font-weight:650}
h3{font-size:14px;margin:20px 0 0;font-weight:600}
p{margin:4px 0}.soft,figcaption,.legend{color:var(--soft)}.soft{font-size:14px}
code,.name,td.name,th[scope=row]{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em;overflow-wrap:anywhere}
.short{white-space:nowrap}
header{padding-top:24px}
.clause{overflow-wrap:anywhere;min-width:0}
.subject{font-size:16px;margin:8px 0 0;overflow-wrap:anywhere}
.pill{font-weight:700;letter-spacing:.06em;padding:3px 14px;border-radius:6px;font-size:17px;background:var(--warn-bg);color:var(--warn)}
.pill.pass{background:var(--good-bg);color:var(--good)}.pill.fail{background:var(--bad);color:var(--card)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin:18px 0 0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 14px;min-width:0;display:flex;flex-direction:column}
.tiles dt{order:1;color:var(--soft);font-size:13px;overflow-wrap:anywhere}.tiles dd{margin:0;font-size:22px;font-weight:650;line-height:1.3;font-variant-numeric:tabular-nums}
.tiles .bad dd{color:var(--bad)}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;align-items:center;padding:14px 0 0;font-size:14px}
nav button{margin-left:auto}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px 18px;margin:16px 0;min-width:0}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:12px 28px;margin:12px 0 0}
.facts div{min-width:0}.facts dt{font-size:13px;color:var(--soft)}.facts dd{margin:0;overflow-wrap:anywhere}
input,select,button.plain{font:inherit;font-size:14px;color:inherit;background:var(--paper);border:1px solid var(--line);border-radius:6px;padding:4px 10px;min-height:34px}
button.plain{cursor:pointer}
.scroll:focus-visible,svg:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible,a:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
#tip{position:fixed;z-index:8;max-width:min(360px,92vw);background:var(--ink);color:var(--paper);border-radius:6px;padding:7px 10px;font-size:12.5px;line-height:1.45;pointer-events:none;white-space:pre-line;overflow-wrap:anywhere}
#tip[hidden]{display:none}
footer{color:var(--soft);font-size:13px;padding-bottom:40px;overflow-wrap:anywhere}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.links{margin-left:auto;display:flex;gap:12px;flex-wrap:wrap}
tr:target>*{box-shadow:inset 0 2px currentColor,inset 0 -2px currentColor}.c:target{stroke:currentColor;stroke-width:2.5}
.noscript .controls,.noscript nav button{display:none}
`;

/** Last, since they override the rules before. */
const MEDIA = `
@media (max-width:640px){thead th,th.n{white-space:normal}table.data td,table.data th{padding:4px 6px}table.data th[scope=row]{max-width:44vw;white-space:normal;overflow-wrap:anywhere}.matrix th[scope=row]{white-space:normal;min-width:104px;max-width:40vw}main,header,footer{padding:0 12px}header{padding-top:16px}section{padding:14px 12px}h1{font-size:18px}.pill{font-size:15px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tiles dd{font-size:18px}.tiles div{padding:8px 10px}
.maps{grid-template-columns:1fr;gap:4px}.maps>b{display:none}.maps .label{margin-top:12px}.maps svg{height:52px}}
@media (min-width:641px){.maps .which{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
@media print{*{print-color-adjust:exact;-webkit-print-color-adjust:exact}body{background:#fff;font-size:11px}
nav,.controls,.skip,#tip{display:none!important}section{border:0;padding:6px 0;break-inside:auto}.scroll,.tall{overflow:visible;max-height:none}
table{font-size:9px}th,td{padding:1px 4px}thead th,.matrix th[scope=row]{position:static}thead button::after{content:""}tr,figure,.faults li{break-inside:avoid}.chart svg{min-width:0}h2{break-after:avoid}}
`;

const STYLE: string = [COLOURS, FRAME, SECTION_STYLE, MEDIA].join("");

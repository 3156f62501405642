import { once } from "../../../core/functions.js";
import type { RunFacts } from "../../report.js";
import { SCRIPT } from "./client/index.js";
import { html, type Markup, raw } from "./markup.js";
import { STYLE } from "./style.js";

/** The page may load nothing, from nowhere, and run no script and no style but the two that stand in it. */
const policy = once(async (): Promise<string> => {
  const [style, script] = await Promise.all([STYLE, SCRIPT].map(sourceHash));
  return `default-src 'none'; img-src data:; style-src '${style}'; script-src '${script}'; base-uri 'none'; form-action 'none'`;
});

/** What a Content-Security-Policy calls an inline script or style: computed here, since bundlers rewrite functions. */
async function sourceHash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}`;
}

/** One self-contained page: the verdict, what it is about, its figures, then sections. */
export interface Page {
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

/** A figure that stands out, and what it is. */
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

/** Terms and what they are, in columns. */
export function factList(facts: readonly (readonly [term: string, fact: Markup | string])[]): Markup {
  return html`<dl class="facts">${facts.map(([term, fact]) => html`<div><dt>${term}</dt><dd>${fact}</dd></div>`)}</dl>`;
}

/** What ran where, if the report says so. */
export function runLine(run: RunFacts | undefined): string {
  if (!run) return "Written by osnet-verify.";
  const versions = Object.entries(run.versions).map(([name, version]) => `${name} ${version}`);
  return `Written by osnet-verify. ${[...versions, run.platform, run.cpu].join(" · ")} · ${run.seconds.toFixed(1)} s`;
}

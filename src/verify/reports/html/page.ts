import { SCRIPT } from "./client.js";
import { html, type Markup, raw } from "./markup.js";
import { STYLE } from "./style.js";

/** The page may load nothing, from nowhere; its own style and script stand in it. */
const POLICY =
  "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/** One self-contained page. */
export interface Page {
  readonly title: string;
  readonly passed: boolean;
  readonly heading: Markup;
  /** Id and name of each section, for the navigation. */
  readonly sections: readonly (readonly [id: string, name: string])[];
  readonly body: readonly Markup[];
  readonly footer: Markup | string;
}

export function renderPage({ title, passed, heading, sections, body, footer }: Page): string {
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${raw(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${passed ? "PASS" : "FAIL"} ${title}</title>
<style>${raw(STYLE)}</style></head>
<body class="noscript"><a class="skip" href="#main">Skip to the report</a>
<header class="${passed ? "pass" : "fail"}">${heading}
<nav aria-label="Sections">${sections.map(([id, name]) => html`<a href="#${id}">${name}</a>`)}<button type="button" class="plain" id="theme">Light / dark</button></nav></header>
<main id="main">${body}</main>
<footer>${footer}</footer>
<script>${raw(SCRIPT)}</script>
</body></html>
`;
  return page.markup;
}

/** Verdict as a badge that colour alone does not carry. */
export function pill(
  status: "pass" | "fail" | "error",
  { small = false }: { readonly small?: boolean } = {},
): Markup {
  return html`<span class="pill ${status}${small ? " small" : ""}">${status.toUpperCase()}</span>`;
}

/** Terms and what they are, in columns. */
export function factList(facts: readonly (readonly [term: string, fact: Markup | string])[]): Markup {
  return html`<dl class="facts">${facts.map(([term, fact]) => html`<div><dt>${term}</dt><dd>${fact}</dd></div>`)}</dl>`;
}

/** What ran where, if the report says so. */
export function runLine(
  run:
    | {
        readonly versions: Readonly<Record<string, string>>;
        readonly platform: string;
        readonly cpu: string;
        readonly seconds: number;
      }
    | undefined,
): Markup | string {
  if (!run) return "Written by osnet-verify.";
  const versions = Object.entries(run.versions).map(([name, version]) => `${name} ${version}`);
  return html`Written by osnet-verify. ${[...versions, run.platform, run.cpu].join(" · ")} · ${run.seconds.toFixed(1)} s`;
}

import type { Status } from "../../report.js";
import { html, type Markup, raw } from "./markup.js";

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

/** What the colours mean, and the shapes beside them. */
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

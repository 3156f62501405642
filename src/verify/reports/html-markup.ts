import type { Status } from "../outcome/report.js";
import { escapeMarkup } from "./escape.js";
import { plural } from "./facts.js";

/**
 * A piece of HTML or SVG that is safe as it stands. A class, so that nothing parsed from a report's JSON can pass for it,
 * whatever fields it has.
 */
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
 * Builds markup from a template: every value is escaped, unless it is markup itself. Attributes that hold values must
 * be quoted.
 */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Markup {
  let markup = parts[0] ?? "";
  values.forEach((value, index) => {
    markup += textOf(value) + (parts[index + 1] ?? "");
  });
  return new SafeMarkup(markup);
}

/** Text of ours that is markup already: style, script, numbers put together. */
export function raw(markup: string): Markup {
  return new SafeMarkup(markup);
}

export const NOTHING: Markup = raw("");

function textOf(value: Value): string {
  if (SafeMarkup.is(value)) return value.markup;
  if (Array.isArray(value)) return value.map(textOf).join("");
  // Anything else is text, even where a report has an object in a number's place.
  return escapeMarkup(String(value));
}

/** A column of a table: what is in it, and how it is shown and ordered. */
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

/** A layer's name stays on one line; what a file calls its own may not fit on any. */
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

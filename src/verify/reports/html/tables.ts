import { plural } from "../facts.js";
import { html, type Markup, raw } from "./markup.js";

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

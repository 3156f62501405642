import type { PageDocument, PageElement } from "./dom.js";

/** Headings become buttons that order the rows: numbers largest first, text from A. */
export function makeSortable(document: PageDocument, table: PageElement): void {
  const body = table.querySelector("tbody");
  if (!body) return;
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    while (heading.firstChild) button.append(heading.firstChild);
    heading.append(button);
    button.addEventListener("click", () => {
      const was = heading.getAttribute("aria-sort");
      const isNumber = heading.classList.contains("n");
      const descending = was ? was === "ascending" : isNumber;
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keyed = Array.from(body.querySelectorAll("tr"), (row) => {
        const cell = row.children[column];
        const value = cell?.getAttribute("data-v");
        return { row, number: value ? Number(value) : -1, text: cell?.textContent ?? "" };
      });
      keyed.sort((a, b) => {
        const order = isNumber
          ? a.number === b.number
            ? 0
            : a.number - b.number
          : a.text.localeCompare(b.text, "en", { numeric: true });
        return descending ? -order : order;
      });
      body.append(...keyed.map(({ row }) => row));
    });
  });
}

/** Rows stay that hold every word of the filter, and the status if one is chosen. */
export function makeFilterable(document: PageDocument, controls: PageElement): void {
  const rows = Array.from(
    document.querySelectorAll(`#${controls.getAttribute("data-for")} tbody tr`),
    (row) => ({
      row,
      text: (row.textContent ?? "").toLowerCase(),
      status: row.querySelector("[class^=s-]")?.textContent ?? "",
    }),
  );
  const input = controls.querySelector("input");
  const select = controls.querySelector("select");
  const said = controls.querySelector("[role=status]");
  const apply = (): void => {
    const words = (input?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text, status } of rows) {
      const matches =
        words.every((word) => text.includes(word)) && (!select?.value || status === select.value);
      row.hidden = !matches;
      if (matches) shown++;
    }
    if (said) said.textContent = `${shown} of ${rows.length} rows`;
  };
  input?.addEventListener("input", apply);
  select?.addEventListener("change", apply);
}

import type { PageDocument, PageElement, PageEvent } from "./dom.js";
import type { Tip } from "./tip.js";

/**
 * Cells of the network and points of the chart show their layer's figures, and lead to its row: under the pointer, or
 * by the arrow keys where a drawing has the focus.
 */
export function connectLayers(document: PageDocument, tip: Tip): void {
  const table = document.querySelector("#layers-table");
  if (!table) return;
  const rows = Array.from(table.querySelectorAll("tbody tr")).sort(
    (a, b) => Number(a.getAttribute("data-i")) - Number(b.getAttribute("data-i")),
  );
  const headings = Array.from(table.querySelectorAll("thead th"), (heading) => heading.textContent ?? "");

  /** Name, then heading and cell. */
  const describe = (row: PageElement): string => {
    const name = row.querySelector("th")?.textContent ?? "";
    const figures = Array.from(row.children, (cell, index) => {
      const text = cell.textContent ?? "";
      if (text === "" || text === "–" || text === name) return "";
      return index === 0 ? text : `${headings[index]} ${text}`;
    });
    return [name, figures.filter(Boolean).join(" · ")].join("\n");
  };
  const say = (index: number, x: number, y: number): void => {
    const row = rows[index];
    if (row) tip.show(describe(row), x, y);
  };
  const lead = (index: number): void => {
    const row = rows[index];
    if (!row) return;
    for (const other of rows) other.classList.remove("target");
    row.hidden = false;
    row.classList.add("target");
    row.scrollIntoView({ block: "center" });
  };
  /** Arrow keys move from `at` by steps, Enter leads to the row, Escape hides the figures. */
  const steer = (event: PageEvent, at: number, count: number, move: (to: number) => void): void => {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const step = steps[event.key];
    if (event.key === "Escape") tip.hide();
    if (step === undefined) return;
    event.preventDefault();
    move(at < 0 ? 0 : (at + step + count) % count);
  };

  let lit: PageElement | undefined;
  const light = (cell: PageElement | undefined): void => {
    lit?.classList.remove("on");
    lit = cell;
    cell?.classList.add("on");
  };
  const connectNetwork = (drawing: PageElement): void => {
    const cells = Array.from(drawing.querySelectorAll("[data-i]"));
    const indexOf = (cell: PageElement): number => Number(cell.getAttribute("data-i"));
    const leave = (): void => {
      light(undefined);
      tip.hide();
    };
    drawing.addEventListener("pointermove", ({ target, clientX, clientY }) => {
      const cell = cells.find((one) => one === target);
      light(cell);
      if (cell) say(indexOf(cell), clientX, clientY);
      else tip.hide();
    });
    drawing.addEventListener("pointerleave", leave);
    drawing.addEventListener("blur", leave);
    drawing.addEventListener("click", ({ target }) => {
      const cell = cells.find((one) => one === target);
      if (cell) lead(indexOf(cell));
    });
    let at = -1;
    drawing.addEventListener("keydown", (event) => {
      const here = cells[at];
      if (event.key === "Enter" && here) lead(indexOf(here));
      steer(event, at, cells.length, (to) => {
        at = to;
        const cell = cells[to];
        if (!cell) return;
        light(cell);
        const { left, bottom } = cell.getBoundingClientRect();
        say(indexOf(cell), left, bottom);
      });
    });
  };
  const connectChart = (chart: PageElement, cursor: PageElement): void => {
    const [start, width, total] = ["data-left", "data-width", "data-total"].map((name) =>
      Number(chart.getAttribute(name)),
    ) as [number, number, number];
    const place = (index: number): number => start + ((index + 0.5) * width) / rows.length;
    const mark = (index: number): void => {
      cursor.style.opacity = "0.5";
      cursor.setAttribute("transform", `translate(${place(index)} 0)`);
    };
    const indexAt = (clientX: number): number => {
      const box = chart.getBoundingClientRect();
      const x = ((clientX - box.left) / box.width) * total;
      return Math.min(rows.length - 1, Math.max(0, Math.floor(((x - start) / width) * rows.length)));
    };
    const leave = (): void => {
      cursor.style.opacity = "0";
      tip.hide();
    };
    chart.addEventListener("pointermove", ({ clientX, clientY }) => {
      mark(indexAt(clientX));
      say(indexAt(clientX), clientX, clientY);
    });
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("click", ({ clientX }) => {
      lead(indexAt(clientX));
    });
    let at = -1;
    chart.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && at >= 0) lead(at);
      steer(event, at, rows.length, (to) => {
        at = to;
        mark(to);
        const box = chart.getBoundingClientRect();
        say(to, box.left + (place(to) / total) * box.width, box.top + box.height / 2);
      });
    });
  };
  for (const drawing of document.querySelectorAll(".net svg")) connectNetwork(drawing);
  const chart = document.querySelector("#depth-chart");
  const cursor = chart?.querySelector(".cursor");
  if (chart && cursor) connectChart(chart, cursor);
}

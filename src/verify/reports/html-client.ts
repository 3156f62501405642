/** The part of a browser's document that the pages' script uses. */
interface PageDocument {
  readonly body: PageElement;
  readonly documentElement: PageElement;
  createElement(name: string): PageElement;
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): PageElements;
}

interface PageElement {
  id: string;
  type: string;
  value: string;
  hidden: boolean;
  textContent: string | null;
  readonly firstChild: PageElement | null;
  readonly children: ArrayLike<PageElement>;
  readonly classList: {
    add(name: string): void;
    remove(name: string): void;
    contains(name: string): boolean;
  };
  readonly style: { left: string; top: string; opacity: string };
  readonly clientWidth: number;
  readonly clientHeight: number;
  readonly offsetWidth: number;
  readonly offsetHeight: number;
  append(...nodes: readonly PageElement[]): void;
  getAttribute(name: string): string | null;
  setAttribute(name: string, value: string): void;
  removeAttribute(name: string): void;
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): PageElements;
  addEventListener(type: string, listener: (event: PageEvent) => void, capture?: boolean): void;
  getBoundingClientRect(): PageBox;
  scrollIntoView(options: { readonly block: "center" }): void;
}

type PageElements = ArrayLike<PageElement> &
  Iterable<PageElement> & { forEach(each: (element: PageElement, index: number) => void): void };

interface PageBox {
  readonly left: number;
  readonly top: number;
  readonly bottom: number;
  readonly width: number;
  readonly height: number;
}

interface PageEvent {
  readonly target: unknown;
  readonly key: string;
  readonly clientX: number;
  readonly clientY: number;
  preventDefault(): void;
  stopPropagation(): void;
}

/** Figures shown beside a place of the window, in pixels. */
interface Tip {
  show(text: string, x: number, y: number): void;
  hide(): void;
}

/** A box of figures beside the pointer or the focused drawing, also announced to screen readers. */
function makeTip(document: PageDocument): Tip {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);
  return {
    show(text, x, y) {
      if (tip.textContent !== text) tip.textContent = text;
      tip.hidden = false;
      const { clientWidth, clientHeight } = document.documentElement;
      const left = Math.min(x + 14, clientWidth - tip.offsetWidth - 8);
      const below = y + 18 + tip.offsetHeight < clientHeight;
      tip.style.left = `${Math.max(8, left)}px`;
      tip.style.top = `${Math.max(4, below ? y + 18 : y - tip.offsetHeight - 12)}px`;
    },
    hide() {
      tip.hidden = true;
    },
  };
}

/**
 * A page that scrolls to what has the focus moves under a resting pointer, which browsers report as the pointer's own
 * movement: after a key, such events are withheld until the pointer is elsewhere in the window.
 */
function ignoreRestingPointer(document: PageDocument): void {
  const page = document.documentElement;
  let place: string | undefined;
  let keyPressed = false;
  page.addEventListener(
    "keydown",
    () => {
      keyPressed = true;
    },
    true,
  );
  for (const type of ["pointermove", "pointerleave"])
    page.addEventListener(
      type,
      (event) => {
        const now = `${event.clientX} ${event.clientY}`;
        if (place !== undefined && place !== now) keyPressed = false;
        place = now;
        if (keyPressed) event.stopPropagation();
      },
      true,
    );
}

/**
 * Cells of the network and points of the chart show their layer's figures, and lead to its row: under the pointer, or
 * by the arrow keys where a drawing has the focus.
 */
function connectLayers(document: PageDocument, tip: Tip): void {
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

/** Heat maps show the figures of the channel under the pointer, or of the one the arrow keys have reached. */
function connectMaps(document: PageDocument, tip: Tip): void {
  const text = document.querySelector("#gate-data")?.textContent;
  if (!text) return;
  const data = JSON.parse(text) as Record<string, [number, number[], number[], number[]][]>;
  for (const map of document.querySelectorAll("svg.map")) {
    const block = map.getAttribute("data-block") ?? "";
    const gates = data[block] ?? [];
    const columns = Number(map.getAttribute("data-columns"));
    const say = (row: number, column: number, x: number, y: number): void => {
      const gate = gates[row];
      if (!gate) return;
      const [stream, reference, candidate, difference] = gate;
      tip.show(
        `${block}, stream ${stream}, channel ${column}\nreference ${reference[column]} · candidate ${candidate[column]}\nlargest difference ${difference[column]}`,
        x,
        y,
      );
    };
    map.addEventListener("pointermove", ({ clientX, clientY }) => {
      const box = map.getBoundingClientRect();
      const row = Math.floor(((clientY - box.top) / box.height) * gates.length);
      const column = Math.floor(((clientX - box.left) / box.width) * columns);
      say(Math.max(0, row), Math.min(columns - 1, Math.max(0, column)), clientX, clientY);
    });
    map.addEventListener("pointerleave", () => tip.hide());
    map.addEventListener("blur", () => tip.hide());
    let [row, column] = [0, -1];
    map.addEventListener("keydown", (event) => {
      if (event.key === "Escape") tip.hide();
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      if (event.key === "ArrowRight") column = (column + 1) % columns;
      if (event.key === "ArrowLeft") column = (Math.max(0, column) - 1 + columns) % columns;
      if (event.key === "ArrowDown") row = (row + 1) % gates.length;
      if (event.key === "ArrowUp") row = (row - 1 + gates.length) % gates.length;
      const box = map.getBoundingClientRect();
      const x = box.left + (Math.max(0, column) / columns) * box.width;
      say(row, Math.max(0, column), x, box.bottom);
    });
  }
}

/** Headings become buttons that order the rows: numbers largest first, text from A. */
function makeSortable(document: PageDocument, table: PageElement): void {
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

/** Shows rows that contain every word of the filter, and have the chosen status, if any. */
function makeFilterable(document: PageDocument, controls: PageElement): void {
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

/** A button that turns light into dark and back; the page starts as the reader's system is. */
function makeThemeButton(document: PageDocument, prefersDark: boolean): void {
  const root = document.documentElement;
  document.querySelector("#theme")?.addEventListener("click", () => {
    const isDark = (root.getAttribute("data-theme") ?? (prefersDark ? "dark" : "light")) === "dark";
    root.setAttribute("data-theme", isDark ? "light" : "dark");
  });
}

/**
 * The behaviour of a report in a browser: functions whose source is written into the page. Each uses only its
 * arguments, so that its text works anywhere, even after a bundler has renamed it.
 */

/** The page's script. */
export const SCRIPT: string = `(function(){"use strict";
document.body.classList.remove("noscript");
document.querySelectorAll("table.data").forEach(function(table){(${makeSortable})(document,table)});
document.querySelectorAll(".controls[data-for]").forEach(function(controls){(${makeFilterable})(document,controls)});
var tip=(${makeTip})(document);
(${ignoreRestingPointer})(document);
(${connectLayers})(document,tip);
(${connectMaps})(document,tip);
(${makeThemeButton})(document,matchMedia("(prefers-color-scheme:dark)").matches);
})();`;

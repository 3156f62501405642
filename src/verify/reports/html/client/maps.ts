import type { PageDocument } from "./dom.js";
import type { Tip } from "./tip.js";

/** Heat maps show the figures of the channel under the pointer, or of the one the arrow keys have reached. */
export function connectMaps(document: PageDocument, tip: Tip): void {
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

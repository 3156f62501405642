import { el, svg } from "./dom.js";
import type { Cell, Group } from "./picture.js";
import type { LayerMark } from "./protocol.js";
import type { Words } from "./words.js";

/** Side of a cell, and the distances of columns and of streams. */
const CELL = 15;
const PITCH = 21;
const LANE = 22;
/** Room in which wires part and meet. */
const BEND = 18;

/** What a verification found of a module: the worst of its layers. */
interface Mark {
  readonly style: string;
  readonly text: string;
}

/** Steps of the margin's colours, as the report has them. */
const STEPS = [
  [1e-3, "m0"],
  [1e-2, "m1"],
  [0.1, "m2"],
  [0.5, "m3"],
  [1, "m4"],
] as const;

function styleOf({ margin, status }: LayerMark): string {
  if (status === "untested") return "mu";
  if (status === "fail" || margin === null) return "mf";
  return STEPS.find(([most]) => margin <= most)?.[1] ?? "mf";
}

const ORDER = ["mu", ...STEPS.map(([, style]) => style), "mf"];

/** Sums and products of two values use all of their bound wherever they round: their margins say nothing. */
const SATURATED: ReadonlySet<string> = new Set(["sum", "add"]);

function markOf(
  { layers, kind }: Cell,
  marks: ReadonlyMap<string, LayerMark>,
  words: Words,
): Mark | undefined {
  const found = layers.flatMap((name) => marks.get(name) ?? []);
  const shown = found.filter(
    ({ name, status }) => status === "fail" || !(SATURATED.has(kind) || /gate\[\d+\]$/.test(name)),
  );
  const list = shown.length > 0 ? shown : found.filter(({ status }) => status === "untested");
  const [first] = list;
  if (!first) return undefined;
  const worst = list.reduce((a, b) => (ORDER.indexOf(styleOf(b)) > ORDER.indexOf(styleOf(a)) ? b : a), first);
  const style = styleOf(worst);
  const margin = worst.margin === null ? "∞" : Number(worst.margin.toPrecision(2)).toString();
  if (style === "mu") return { style, text: words.untested };
  return {
    style,
    text: worst.status === "fail" ? `${words.fails}: ${words.margin(margin)}` : words.margin(margin),
  };
}

interface Placed {
  readonly cell: Cell;
  readonly x: number;
  readonly y: number;
}

/**
 * The network as figures in a row: a block with its streams one below the other and the gate at the end of each, modules
 * between them. With results, each has the colour of what a verification found.
 *
 * @param faulty layers that faults are of
 */
export function networkDrawing(
  picture: readonly Group[],
  words: Words,
  results: readonly LayerMark[] = [],
  faulty: readonly string[] = [],
): HTMLElement {
  const marks = new Map(results.map((mark) => [mark.name, mark]));
  // Missing or replaced layers have no margin, but are faults.
  for (const name of faulty)
    marks.set(name, { name, status: "fail", margin: marks.get(name)?.margin ?? null });
  return el("div", { class: "net" }, ...picture.map((group) => groupFigure(group, words, marks)));
}

function groupFigure(group: Group, words: Words, marks: ReadonlyMap<string, LayerMark>): HTMLElement {
  const { cells, wires, width, height } = group.streams.length > 0 ? drawBlock(group) : drawRow(group.before);
  const drawn = cells.map((placed) => ({ ...placed, mark: markOf(placed.cell, marks, words) }));
  const faults = drawn.filter(({ mark }) => mark?.style === "mf").length;
  const label = [
    group.streams.length > 0
      ? words.blockLabel(group.name, group.streams.length)
      : `${group.name}: ${group.before.map(({ kind }) => words.cells[kind]).join(", ")}`,
    ...(faults > 0 ? [words.pictureFaults(faults)] : []),
  ].join("; ");
  return el(
    "figure",
    { class: faults > 0 ? "bad" : undefined },
    el("figcaption", { class: "name" }, group.name),
    svg(
      "svg",
      { role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}` },
      svg("path", { class: "wire", d: wires }),
      ...drawn.flatMap(({ cell, x, y, mark }) => shapes(cell, x, y, words, mark)),
    ),
  );
}

/** A cell's shape, centred at its place: gates and sums are round. */
function shapes(
  { name, kind }: Cell,
  x: number,
  y: number,
  words: Words,
  mark: Mark | undefined,
): SVGElement[] {
  const title = svg("title", {}, [`${name}: ${words.cells[kind]}`, ...(mark ? [mark.text] : [])].join("\n"));
  const style = `c k-${kind} ${mark?.style ?? ""}`;
  const half = CELL / 2;
  const isRound = kind === "gate" || kind === "sum" || kind === "add";
  const shape = isRound
    ? svg("circle", { class: style, cx: x, cy: y, r: kind === "gate" ? half : half - 1.5 }, title)
    : svg("rect", { class: style, x: x - half, y: y - half, width: CELL, height: CELL, rx: 3 }, title);
  const sign =
    mark?.style === "mf"
      ? [svg("path", { class: "x", d: `M${x - 3} ${y - 3}l6 6m0-6l-6 6` })]
      : kind === "sum" || kind === "add"
        ? [svg("path", { class: "sign", d: `M${x - 3} ${y}h6m-3-3v6` })]
        : [];
  return [shape, ...sign];
}

interface Drawing {
  readonly cells: readonly Placed[];
  readonly wires: string;
  readonly width: number;
  readonly height: number;
}

function drawRow(row: readonly Cell[]): Drawing {
  const y = CELL / 2 + 1;
  const cells = row.map((cell, index) => ({ cell, x: CELL / 2 + 1 + index * PITCH, y }));
  const width = Math.max(row.length * PITCH - (PITCH - CELL) + 2, CELL + 2);
  return { cells, wires: `M1 ${y}H${width - 1}`, width, height: CELL + 2 };
}

/** Left of the streams what they read, right of them what is made of their sum, below them the block's input. */
function drawBlock({ before, streams, after }: Group): Drawing {
  const direct = before.filter(({ kind }) => kind !== "downsample");
  const bypass = [...before, ...after].filter(({ kind }) => kind === "downsample");
  const behind = after.filter(({ kind }) => kind !== "downsample");
  const middle = ((streams.length - 1) * LANE) / 2 + CELL / 2 + 1;
  const start = 5;
  const left = direct.map((cell, index) => ({ cell, x: start + CELL / 2 + 4 + index * PITCH, y: middle }));
  const fork = (left.at(-1)?.x ?? start) + CELL / 2;
  const laneStart = fork + BEND + CELL / 2;
  const longest = Math.max(...streams.map(({ length }) => length));
  const gateX = laneStart + (longest - 1) * PITCH;
  const join = gateX + CELL / 2 + BEND;
  const right = behind.map((cell, index) => ({ cell, x: join + CELL / 2 + index * PITCH, y: middle }));
  const end = (right.at(-1)?.x ?? join) + CELL / 2 + 5;
  const lanes = streams.flatMap((cells, row) =>
    cells.map((cell, index) => ({
      cell,
      x: index === cells.length - 1 ? gateX : laneStart + index * PITCH,
      y: row * LANE + CELL / 2 + 1,
    })),
  );
  const floor = (streams.length - 1) * LANE + CELL + LANE - 6;
  const add = right.find(({ cell }) => cell.kind === "add");
  const wires = [
    `M0 ${middle}H${fork}M${join} ${middle}H${end}`,
    ...streams.map((_, row) => {
      const y = row * LANE + CELL / 2 + 1;
      return `M${fork} ${middle}C${fork + BEND / 2} ${middle} ${fork + BEND / 2} ${y} ${fork + BEND} ${y}H${gateX + CELL / 2}C${join - BEND / 2} ${y} ${join - BEND / 2} ${middle} ${join} ${middle}`;
    }),
    ...(add ? [`M${start} ${middle}V${floor - 6}q0 6 6 6H${add.x - 6}q6 0 6 -6V${middle}`] : []),
  ].join("");
  const around = bypass.map((cell, index) => ({
    cell,
    x: (start + (add?.x ?? end)) / 2 + index * PITCH,
    y: floor,
  }));
  const height = add ? floor + CELL / 2 + 1 : floor;
  return { cells: [...left, ...lanes, ...right, ...around], wires, width: end, height };
}

/** What the colours mean. */
export function marginLegend(words: Words): HTMLElement {
  const box = (style: string): SVGElement =>
    svg(
      "svg",
      { viewBox: "0 0 10 10", "aria-hidden": "true" },
      svg("rect", { class: style, width: 10, height: 10, rx: 2 }),
    );
  return el(
    "p",
    { class: "legend" },
    ...STEPS.map(([most, style]) => el("span", {}, box(style), `≤ ${most}`)),
    el("span", {}, words.legend),
    el("span", {}, box("mf"), words.fails),
    el("span", {}, box("mu"), words.untested),
  );
}

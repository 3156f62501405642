import { gateColour } from "osnet-convert/web";
import { el } from "./dom.js";
import { problemView } from "./outcome.js";
import type { GateMap, Pictures } from "./protocol.js";
import { type State, sourceOf, wordsOf } from "./state.js";
import type { Words } from "./words.js";

/** Where the focus goes when the job is done. */
export const PICTURES_HEADING = "pictures-h";

export interface PictureActions {
  choose(files: readonly File[]): void;
  run(): void;
}

/** The user's own pictures: embeddings, their cosines, and what the gates make of each. */
export function picturesPanel(state: State, actions: PictureActions): HTMLElement | undefined {
  const words = wordsOf(state);
  if (!sourceOf(state)) return undefined;
  const { pictures, seen } = state;
  const input = el("input", {
    type: "file",
    id: "pictures",
    hidden: true,
    multiple: true,
    accept: ".jpg,.jpeg,.png",
    on: { change: (event) => actions.choose([...((event.target as HTMLInputElement).files ?? [])]) },
  });
  return el(
    "section",
    { class: "card pictures", "aria-labelledby": PICTURES_HEADING },
    el("h2", { id: PICTURES_HEADING, tabindex: "-1" }, words.pictures),
    el("p", { class: "soft" }, words.picturesLead),
    el(
      "div",
      { class: "shown" },
      ...pictures.map((file, index) => shownPicture(file, words.picture(index + 1))),
    ),
    el(
      "p",
      { class: "actions" },
      el(
        "button",
        { type: "button", id: "pictures-choose", class: "plain", on: { click: () => input.click() } },
        words.choosePictures,
      ),
      pictures.length > 0 &&
        el(
          "button",
          {
            type: "button",
            id: "pictures-run",
            class: "primary",
            disabled: state.running !== undefined,
            on: { click: () => actions.run() },
          },
          words.picturesRun,
        ),
    ),
    input,
    seen && outcomeOf(seen, words),
  );
}

const addresses = new WeakMap<File, string>();

/** Gives back the pictures that are not shown any more. */
export function releasePictures(pictures: readonly File[]): void {
  for (const picture of pictures) {
    URL.revokeObjectURL(addresses.get(picture) ?? "");
    addresses.delete(picture);
  }
}

function shownPicture(file: File, label: string): HTMLElement {
  const src = addresses.get(file) ?? URL.createObjectURL(file);
  addresses.set(file, src);
  return el("figure", {}, el("img", { src, alt: label }), el("figcaption", {}, file.name));
}

function outcomeOf(seen: Pictures | Error, words: Words): HTMLElement {
  if (!(seen instanceof Error)) return seenView(seen, words);
  return seen.name === "AbortError"
    ? el("p", { class: "soft", id: "pictures-cancelled" }, words.cancelled)
    : problemView(seen, words);
}

function seenView({ pictures, between, backend }: Pictures, words: Words): HTMLElement {
  const tile = (value: number, label: string): HTMLElement =>
    el("div", {}, el("dt", {}, label), el("dd", {}, value.toFixed(6)));
  return el(
    "div",
    { role: "status" },
    el(
      "dl",
      { class: "tiles" },
      ...(between ? [tile(between.original, `${words.samePerson}, ${words.byOriginal}`)] : []),
      ...(between?.model == null
        ? []
        : [tile(between.model, `${words.samePerson}, ${words.byModel} (${backend})`)]),
      ...pictures.flatMap(({ name, cosine }) =>
        cosine === null ? [] : [tile(cosine, `${words.sameNetwork}: ${name}`)],
      ),
    ),
    el("p", { class: "soft" }, words.gateMaps),
    ...pictures.map(({ name, gates }) =>
      el(
        "div",
        { class: "gates" },
        el("h3", {}, name),
        el("div", { class: "net" }, ...gates.map((gate) => gateFigure(gate, words))),
      ),
    ),
  );
}

/** A gate's channels as pixels, a stream to a row: from the report's dark to its bright end. */
function gateFigure({ block, streams }: GateMap, words: Words): HTMLElement {
  const width = Math.max(1, ...streams.map(({ length }) => length));
  const canvas = el("canvas", {
    width,
    height: streams.length,
    role: "img",
    "aria-label": `${block}: ${words.cells.gate}`,
  });
  const context = canvas.getContext("2d");
  if (context) {
    const image = context.createImageData(width, streams.length);
    streams.forEach((channels, row) => {
      channels.forEach((value, column) => {
        image.data.set([...gateColour(value), 255], 4 * (row * width + column));
      });
    });
    context.putImageData(image, 0, 0);
  }
  return el("figure", {}, el("figcaption", { class: "name" }, block), canvas);
}

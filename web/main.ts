import { type ChosenFile, type ChosenModel, groupFiles, resultName } from "osnet-convert/web";
import type { Progress } from "./client.js";
import { prepareWorker, Refusal, work } from "./client.js";
import { backendOf, convertPanel, type PanelActions, pairPanel, targetOf } from "./convert-panel.js";
import { el, replace } from "./dom.js";
import { chooser, filesOf } from "./drop.js";
import { digestId, type FileActions, fileCard } from "./file-card.js";
import { workOffline } from "./offline.js";
import { OUTCOME_HEADING, outcomeView, releaseDownloads } from "./outcome.js";
import { PICTURES_HEADING, picturesPanel, releasePictures } from "./pictures-panel.js";
import type { Summary } from "./protocol.js";
import { DEFAULTS, type Item, type Outcome, pairOf, type State, sourceOf, wordsOf } from "./state.js";
import { LANGUAGES, type Language, preferredLanguage } from "./words.js";

const state: State = {
  language: preferredLanguage(navigator.languages),
  theme: "auto",
  items: [],
  choices: { ...DEFAULTS },
  source: undefined,
  candidate: undefined,
  reference: undefined,
  running: undefined,
  outcome: undefined,
  isEmptyDrop: false,
  pictures: [],
  seen: undefined,
};

const byId = (id: string): HTMLElement => {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
};

/** Redraws everything: a page of a few hundred elements, which keeps the focus. */
function draw(): void {
  const words = wordsOf(state);
  document.documentElement.lang = state.language;
  document.documentElement.dataset.theme = state.theme;
  document.title = words.title;
  const open = new Map([...document.querySelectorAll("details")].map(({ id, open }) => [id, open]));
  replace(byId("top"), ...topBar());
  replace(
    byId("main"),
    ...(state.items.length === 0
      ? [el("h1", {}, words.headline), el("p", { class: "lead" }, words.lead)]
      : [el("h1", { class: "sr" }, words.headline)]),
    !isSecureContext && el("p", { class: "problem", role: "alert" }, words.insecure),
    state.running && progressCard(),
    state.outcome && outcomeView(state.outcome, state),
    el(
      "div",
      { class: state.items.length === 0 ? "" : "columns" },
      el("div", {}, ...state.items.map((item) => fileCard(item, state, fileActions))),
      el(
        "div",
        { class: "side" },
        pairPanel(state, panelActions),
        convertPanel(state, panelActions),
        chooser(state, add),
        state.isEmptyDrop && el("p", { class: "problem", role: "alert" }, words.nothingFound),
      ),
      picturesPanel(state, { choose: choosePictures, run: runPictures }),
    ),
  );
  for (const details of document.querySelectorAll("details"))
    details.open = open.get(details.id) ?? details.open;
  replace(byId("bottom"), el("h2", {}, words.privacy), el("p", {}, words.privacyText));
}

function topBar(): HTMLElement[] {
  const words = wordsOf(state);
  return [
    el("span", { class: "mark" }, words.title),
    el("span", { class: "local" }, words.local),
    el(
      "label",
      { class: "switch" },
      el("span", { class: "sr" }, words.language),
      el(
        "select",
        {
          id: "language",
          on: {
            change: (event) => {
              state.language = (event.target as HTMLSelectElement).value as Language;
              draw();
            },
          },
        },
        ...Object.entries(LANGUAGES).map(([name, { languageName }]) =>
          el("option", { value: name, lang: name, selected: name === state.language }, languageName),
        ),
      ),
    ),
    el(
      "label",
      { class: "switch" },
      el("span", { class: "sr" }, words.theme),
      el(
        "select",
        {
          id: "theme",
          on: {
            change: (event) => {
              state.theme = (event.target as HTMLSelectElement).value as State["theme"];
              draw();
            },
          },
        },
        ...(["auto", "light", "dark"] as const).map((theme) =>
          el("option", { value: theme, selected: theme === state.theme }, words.themes[theme]),
        ),
      ),
    ),
  ];
}

/** Says something to those who do not see it happen. */
function announce(text: string): void {
  byId("live").textContent = text;
}

let nextId = 1;

const PICTURE = /\.(jpe?g|png)$/i;

async function add(files: readonly ChosenFile[]): Promise<void> {
  const pictures = files.filter(({ path }) => PICTURE.test(path));
  const models = groupFiles(files.filter((file) => !pictures.includes(file)));
  state.isEmptyDrop = models.length + pictures.length === 0;
  if (pictures.length > 0) choosePictures(pictures.map(({ path, blob }) => new File([blob], path)));
  const items = models.map((model): Item => ({ id: nextId++, model, given: {} }));
  state.items = [...state.items, ...items];
  draw();
  // One at a time: each has a worker.
  for (const item of items) await read(item);
}

/** Ends the reading of a file that is taken away. */
const readers = new Map<number, AbortController>();

/** Inspects a file; the result appears at once, whatever else is running. */
async function read(item: Item): Promise<void> {
  const words = wordsOf(state);
  if (!state.items.some(({ id }) => id === item.id)) return;
  const controller = new AbortController();
  readers.set(item.id, controller);
  announce(words.reading(item.model.name));
  const { summary: _, problem: __, ...bare } = item;
  try {
    const early = (summary: Summary): void => update({ ...bare, summary });
    const job = { kind: "inspect", model: item.model, options: item.given } as const;
    const summary = await work<"inspect">(job, undefined, controller.signal, early);
    // The digest alone is new, unless nothing went ahead of it: no button is replaced under the pointer for that.
    const place = document.getElementById(digestId(item.id));
    if (place) {
      place.textContent = summary.sha256;
      state.items = state.items.map((other) => (other.id === item.id ? { ...bare, summary } : other));
    } else update({ ...bare, summary });
    announce(`${item.model.name}: ${summary.network?.name ?? words.unknownNetwork}`);
  } catch (error) {
    const problem = error as Error;
    update({ ...bare, problem });
    if (!controller.signal.aborted) announce(problem.message);
  }
  readers.delete(item.id);
}

function update(item: Item): void {
  state.items = state.items.map((other) => (other.id === item.id ? item : other));
  draw();
}

const fileActions: FileActions = {
  remove(item) {
    readers.get(item.id)?.abort();
    state.items = state.items.filter(({ id }) => id !== item.id);
    if (state.items.length === 0) setOutcome(undefined);
    draw();
    byId("choose").focus();
  },
  again(item, given) {
    const { problem: _, ...bare } = item;
    const next = { ...bare, given };
    update(next);
    void read(next);
  },
};

function setOutcome(outcome: Outcome | undefined): void {
  releaseDownloads();
  state.outcome = outcome;
  // What pictures gave was of another model.
  state.seen = undefined;
}

/** Runs a job with its progress shown and a way to end it; gives what it came to, or why it did not. */
async function underway<T>(
  title: string,
  job: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<T>,
): Promise<T | Error> {
  const controller = new AbortController();
  state.running = { title, controller, progress: { step: "open" } };
  draw();
  byId("cancel").focus();
  byId("running").scrollIntoView({ block: "nearest" });
  const result = await job(controller.signal, showProgress).catch((error: unknown) => error as Error);
  state.running = undefined;
  return result;
}

/** A job is done: draws, scrolls to and announces its result. */
function present(headingId: string, text?: string): void {
  draw();
  // Its file may have been taken away in the meantime.
  const heading = document.getElementById(headingId);
  heading?.focus({ preventScroll: true });
  heading?.scrollIntoView({ block: "center" });
  announce(text ?? heading?.textContent ?? "");
}

/** A job whose outcome takes the place of what was there. */
async function run(
  title: string,
  job: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<Outcome>,
): Promise<void> {
  if (state.running) return;
  setOutcome(undefined);
  const result = await underway(title, job);
  if (!(result instanceof Error)) setOutcome(result);
  else if (result.name === "AbortError") setOutcome({ kind: "cancelled" });
  else if (result instanceof Refusal) setOutcome({ kind: "refused", problem: result });
  else setOutcome({ kind: "crashed", problem: result });
  present(OUTCOME_HEADING);
}

function progressCard(): HTMLElement {
  const words = wordsOf(state);
  const running = state.running;
  return el(
    "section",
    { class: "card running", id: "running", "aria-labelledby": "running-h" },
    el("h2", { id: "running-h" }, running?.title ?? ""),
    el("p", { id: "step" }, ""),
    el("progress", { id: "bar", "aria-labelledby": "step" }),
    el(
      "p",
      { class: "actions" },
      el(
        "button",
        { type: "button", id: "cancel", class: "plain", on: { click: () => running?.controller.abort() } },
        words.cancel,
      ),
    ),
  );
}

/** Only the bar and its text change, many times a second. */
function showProgress(progress: Progress): void {
  if (!state.running) return;
  const words = wordsOf(state);
  const before = state.running.progress.step;
  state.running = { ...state.running, progress };
  const { step, done, total } = progress;
  const counted = done === undefined || total === undefined ? "" : `: ${words.layersDone(done, total)}`;
  byId("step").textContent = words.steps[step] + counted;
  if (step !== before) announce(words.steps[step]);
  const bar = byId("bar") as HTMLProgressElement;
  if (done === undefined || total === undefined) bar.removeAttribute("value");
  else {
    bar.max = total;
    bar.value = done;
  }
}

const panelActions: PanelActions = {
  change({ choices, ...chosen }, redraw = false) {
    Object.assign(state, chosen);
    Object.assign(state.choices, choices);
    if (redraw) draw();
  },
  convert() {
    const source = sourceOf(state);
    if (!source) return;
    const { id, model, given } = source;
    const name = resultName(model.name, state.choices.format);
    const target = targetOf(state.choices);
    const options = { ...given, dropExtra: state.choices.dropExtra };
    void run(`${model.name} → ${name}`, async (signal, onProgress) => ({
      kind: "converted",
      source: id,
      result: await work<"convert">(
        { kind: "convert", model, name, target, options, backend: backendOf(state, target.format) },
        onProgress,
        signal,
      ),
    }));
  },
  verify() {
    const pair = pairOf(state);
    if (!pair) return;
    const { candidate, reference } = pair;
    void run(`${candidate.model.name} ↔ ${reference.model.name}`, async (signal, onProgress) => ({
      kind: "verified",
      verdict: await work<"verify">(
        {
          kind: "verify",
          candidate: candidate.model,
          reference: reference.model,
          options: reference.given,
          backend: backendOf(state, candidate.summary?.format ?? "pth"),
        },
        onProgress,
        signal,
      ),
    }));
  },
};

function choosePictures(files: readonly File[]): void {
  releasePictures(state.pictures);
  state.pictures = files.slice(0, 2);
  state.seen = undefined;
  draw();
}

/** What a file's own weights are compared with: the converted model, or the model that was dropped beside it. */
function modelOf(source: Item): ChosenModel | undefined {
  const { outcome } = state;
  if (outcome?.kind === "converted" && outcome.source === source.id && outcome.result.verdict)
    return outcome.result.passed ? outcome.result.files : undefined;
  const pair = pairOf(state);
  return pair?.reference === source && pair.candidate.summary?.role === "model"
    ? pair.candidate.model
    : undefined;
}

async function runPictures(): Promise<void> {
  const source = sourceOf(state);
  if (!source || state.running) return;
  const converted = modelOf(source);
  const pictures = state.pictures.map((file) => ({ name: file.name, blob: file }));
  const { model, given } = source;
  state.seen = undefined;
  const seen = await underway(wordsOf(state).pictures, (signal, onProgress) =>
    work<"pictures">({ kind: "pictures", model, options: given, converted, pictures }, onProgress, signal),
  );
  state.seen = seen;
  const words = wordsOf(state);
  const said = !(seen instanceof Error)
    ? words.pictures
    : seen.name === "AbortError"
      ? words.cancelled
      : seen.message;
  present(PICTURES_HEADING, said);
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer) void filesOf(event.dataTransfer).then(add);
});

draw();
prepareWorker();
workOffline();

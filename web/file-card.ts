import { Refusal } from "./client.js";
import { el, english } from "./dom.js";
import { networkDrawing } from "./drawing.js";
import { problemView } from "./outcome.js";
import type { Summary } from "./protocol.js";
import { count, type Item, megabytes, type State, wordsOf } from "./state.js";

export interface FileActions {
  remove(item: Item): void;
  /** Reads a file again, with what the user says of it. */
  again(item: Item, given: Item["given"]): void;
}

/** What a file is: its network, odd weights, fingerprint, and the network's picture. */
export function fileCard(item: Item, state: State, actions: FileActions): HTMLElement {
  const words = wordsOf(state);
  const { summary, problem, model } = item;
  const id = `file-${item.id}`;
  return el(
    "section",
    { class: "card file", "aria-labelledby": id, "aria-busy": summary || problem ? undefined : "true" },
    el(
      "header",
      {},
      el("h2", { id, class: "name" }, model.name),
      summary && el("span", { class: "role" }, words.roles[summary.role]),
      el(
        "button",
        {
          type: "button",
          class: "quiet close",
          "aria-label": words.remove(model.name),
          title: words.remove(model.name),
          on: { click: () => actions.remove(item) },
        },
        "×",
      ),
    ),
    !summary && !problem && el("p", { class: "soft" }, words.reading(model.name), "…"),
    problem && problemView(problem, words),
    problem instanceof Refusal && ASKED.has(problem.code) && givenForm(item, state, actions),
    ...(summary ? summaryView(summary, item.id, state) : []),
  );
}

function summaryView(summary: Summary, id: number, state: State): (Node | undefined | false)[] {
  const words = wordsOf(state);
  const { network, weights, anomalies, refusal } = summary;
  if (summary.role === "recording") return [el("p", {}, words.recordingLead)];
  return [
    el(
      "p",
      { class: "headline" },
      network ? english(network.name, "span", { class: "network-name" }) : words.unknownNetwork,
    ),
    refusal !== undefined && el("p", { class: "refusal" }, english(refusal)),
    el("dl", { class: "facts" }, ...facts(summary, state)),
    ...(network && weights ? [anomalyView(anomalies, state)] : []),
    network &&
      el(
        "details",
        // What a verification found is drawn above; of several files, their facts come first.
        {
          id: `network-${id}-${state.outcome ? "again" : "first"}`,
          class: "picture",
          open: state.items.length === 1 && !state.outcome && matchMedia("(min-width: 1000px)").matches,
        },
        el("summary", {}, words.networkPicture),
        networkDrawing(network.picture, words),
        el("p", { class: "soft" }, words.networkNote),
      ),
    moreView(summary, id, state),
  ];
}

function facts({ network, weights, model, container, bytes }: Summary, state: State): HTMLElement[] {
  const { facts: words } = wordsOf(state);
  return [
    ...(network
      ? [
          fact(words.parameters, count(network.parameters, state)),
          ...(network.multiplyAdds === null
            ? []
            : [fact(words.multiplyAdds, `${count(Math.round(network.multiplyAdds / 1e6), state)} M`)]),
          fact(words.embedding, count(network.embedding, state)),
          fact(words.classes, network.classes === null ? words.noClasses : count(network.classes, state)),
        ]
      : []),
    fact(words.format, `${container}, ${megabytes(bytes, state)}`),
    ...(model
      ? [
          fact(
            words.input,
            `${model.batch === null ? words.anyBatch : model.batch} · ${model.size ? `${model.size.height}×${model.size.width}` : words.anySize}`,
          ),
          fact(words.outputs, model.outputs.join(", ")),
          ...(model.batchNorms && model.batchNorms.folded + model.batchNorms.kept > 0
            ? [fact(words.batchNorms, words.batchNormCounts(model.batchNorms.folded, model.batchNorms.kept))]
            : []),
        ]
      : []),
    ...(weights ? [fact(words.fingerprint, weights.fingerprint.slice(0, 16), "name")] : []),
  ];
}

function fact(label: string, value: string, style?: string, id?: string): HTMLElement {
  return el("div", {}, el("dt", {}, label), el("dd", { class: style, id }, value));
}

/** Where a file's digest stands, which comes after everything else. */
export function digestId(item: number): string {
  return `digest-${item}`;
}

function anomalyView(anomalies: Summary["anomalies"], state: State): HTMLElement {
  const words = wordsOf(state);
  if (anomalies.length === 0) return el("p", { class: "fine" }, words.noAnomalies);
  return el(
    "div",
    { class: "anomalies" },
    el("h3", {}, words.anomalies),
    el(
      "ul",
      {},
      ...anomalies.map(({ severity, explanation, tensors }) =>
        el(
          "li",
          { class: `s-${severity}` },
          el("b", {}, words.severities[severity]),
          " ",
          english(explanation),
          " ",
          el(
            "span",
            {
              class: "soft",
              title: tensors
                .slice(0, 20)
                .map(({ path }) => path)
                .join("\n"),
            },
            words.anomalyPlaces(tensors.length),
          ),
        ),
      ),
    ),
  );
}

function moreView({ weights, sha256, notes, network }: Summary, id: number, state: State): HTMLElement {
  const words = wordsOf(state);
  return el(
    "details",
    { id: `more-${id}` },
    el("summary", {}, words.more),
    el(
      "dl",
      { class: "facts long" },
      ...(weights
        ? [
            fact(words.facts.fingerprint, weights.fingerprint, "name"),
            fact(words.facts.folded, weights.folded, "name"),
            fact(words.facts.dtypes, weights.dtypes.join(", ")),
          ]
        : []),
      fact(words.facts.sha256, sha256 || "…", "name", digestId(id)),
    ),
    el("p", { class: "soft" }, words.fingerprintNote),
    ...(notes.length > 0
      ? [el("ul", { lang: "en", class: "notes" }, ...notes.map((note) => el("li", {}, note)))]
      : []),
    ...(network && network.extra.length > 0
      ? [el("p", { class: "soft name" }, network.extra.slice(0, 12).join(", "))]
      : []),
  );
}

/** Refusals that more knowledge of the file may answer. */
const ASKED: ReadonlySet<string> = new Set(["argument", "state-dict", "spec"]);

/** Choices that some checkpoints leave open, shown after a file was refused. */
function givenForm(item: Item, state: State, actions: FileActions): HTMLElement {
  const { option: words } = wordsOf(state);
  const field = (name: "arch" | "key", label: string): HTMLElement =>
    el(
      "label",
      {},
      el("span", {}, label),
      el("input", {
        id: `${name}-${item.id}`,
        name,
        value: item.given[name] ?? "",
        placeholder: words.optional,
        autocomplete: "off",
        spellcheck: "false",
      }),
    );
  return el(
    "form",
    {
      class: "fields",
      on: {
        submit: (event) => {
          event.preventDefault();
          const data = new FormData(event.target as HTMLFormElement);
          const text = (name: string): string => String(data.get(name) ?? "").trim();
          actions.again(item, {
            ...(text("arch") === "" ? {} : { arch: text("arch") }),
            ...(text("key") === "" ? {} : { key: text("key") }),
          });
        },
      },
    },
    field("key", words.key),
    field("arch", words.arch),
    el("button", { type: "submit", class: "plain" }, words.again),
  );
}

import {
  type FileFormat,
  isModelFormat,
  MODEL_FORMATS,
  type ModelFormat,
  type RuntimeName,
  type Target,
  WEIGHTS_FORMATS,
} from "osnet-convert/web";
import { el } from "./dom.js";
import {
  type Choices,
  convertible,
  pairOf,
  type State,
  sourceOf,
  type TargetFormat,
  wordsOf,
} from "./state.js";
import { LANGUAGES } from "./words.js";

const TARGETS = [...MODEL_FORMATS, ...WEIGHTS_FORMATS].filter(
  (format): format is TargetFormat => format in LANGUAGES.en.targets,
);

/** What runs models of a format in this page, the usual one first. */
const RUNTIMES = {
  onnx: ["onnxruntime-web", "onnxruntime-web-webgpu"],
  tfjs: ["tfjs-wasm", "tfjs-webgl", "tfjs-webgpu", "tfjs-cpu"],
} as const satisfies Partial<Record<ModelFormat, readonly RuntimeName[]>>;

function hasRuntime(format: FileFormat): format is keyof typeof RUNTIMES {
  return format in RUNTIMES;
}

export interface PanelActions {
  /** Takes what was typed or chosen; @param redraw whether other fields depend on it */
  change(
    values: Partial<Pick<State, "source" | "candidate" | "reference">> & { choices?: Partial<Choices> },
    redraw?: boolean,
  ): void;
  convert(): void;
  verify(): void;
}

/** Which format, with which options: the defaults are the command line's. */
export function convertPanel(state: State, actions: PanelActions): HTMLElement | undefined {
  const words = wordsOf(state);
  const source = sourceOf(state);
  if (!source) return undefined;
  const { choices } = state;
  const sources = convertible(state);
  return el(
    "form",
    {
      class: "card convert",
      "aria-labelledby": "convert-h",
      on: {
        submit: (event) => {
          event.preventDefault();
          actions.convert();
        },
      },
    },
    sources.length > 1 &&
      pick(
        "source",
        words.source,
        sources.map(({ id, model }) => [String(id), model.name]),
        String(source.id),
        (value) => actions.change({ source: Number(value) }, true),
      ),
    el(
      "fieldset",
      { class: "targets" },
      el("legend", { id: "convert-h" }, words.convertTo),
      ...TARGETS.map((format) =>
        el(
          "label",
          { class: "target" },
          el("input", {
            type: "radio",
            name: "format",
            id: `to-${format}`,
            value: format,
            checked: choices.format === format,
            on: { change: () => actions.change({ choices: { format } }, true) },
          }),
          el(
            "span",
            {},
            el("b", {}, words.targets[format].name),
            el("small", {}, words.targets[format].note),
          ),
        ),
      ),
    ),
    el(
      "details",
      { id: "options" },
      el("summary", { id: "options-summary" }, words.options),
      el("div", { class: "fields" }, ...fields(state, actions)),
    ),
    el(
      "p",
      { class: "actions" },
      el(
        "button",
        { type: "submit", id: "convert", class: "primary", disabled: state.running !== undefined },
        words.convert,
      ),
    ),
  );
}

type TextField = { [K in keyof Choices]: Choices[K] extends string ? K : never }[keyof Choices];
type Flag = { [K in keyof Choices]: Choices[K] extends boolean ? K : never }[keyof Choices];

/** What runs models of a format here. */
function runtimePick(
  format: keyof typeof RUNTIMES,
  state: State,
  { change }: PanelActions,
  id: string,
): HTMLElement {
  const { option: words } = wordsOf(state);
  const here = RUNTIMES[format].filter((name) => !name.endsWith("webgpu") || "gpu" in navigator);
  return pick(
    id,
    words.backend,
    here.map((name, index) => [index === 0 ? "default" : name, words.backends[name]]),
    state.choices.backend,
    (backend) => change({ choices: { backend } }),
  );
}

/** The runtime that was chosen, if it runs models of a format. */
export function backendOf({ choices }: State, format: FileFormat): RuntimeName | undefined {
  return hasRuntime(format) ? RUNTIMES[format].find((name) => name === choices.backend) : undefined;
}

/** The options that a format has. */
function fields(state: State, actions: PanelActions): HTMLElement[] {
  const { change } = actions;
  const { choices } = state;
  const { option: words } = wordsOf(state);
  const { format } = choices;
  const set = (name: keyof Choices, value: string | boolean): void => change({ choices: { [name]: value } });
  const select = (
    name: TextField,
    label: string,
    pairs: readonly (readonly [string, string])[],
  ): HTMLElement => pick(name, label, pairs, choices[name], (value) => set(name, value));
  const number = (name: TextField, label: string, hint = ""): HTMLElement =>
    el(
      "label",
      {},
      el("span", {}, label),
      el("input", {
        id: name,
        type: "text",
        inputmode: "numeric",
        pattern: "[0-9]*",
        value: choices[name],
        placeholder: hint,
        autocomplete: "off",
        on: { input: (event) => set(name, (event.target as HTMLInputElement).value) },
      }),
    );
  const flag = (name: Flag, label: string): HTMLElement =>
    el(
      "label",
      { class: "flag" },
      el("input", {
        id: name,
        type: "checkbox",
        checked: choices[name],
        on: { change: (event) => set(name, (event.target as HTMLInputElement).checked) },
      }),
      el("span", {}, label),
    );
  const named = <K extends string>(
    texts: Readonly<Record<K, string>>,
    keys = Object.keys(texts) as K[],
  ): [K, string][] => keys.map((key) => [key, texts[key]]);
  if (!isModelFormat(format))
    return [select("dtype", words.dtype, named(words.dtypes)), flag("dropExtra", words.dropExtra)];
  return [
    number("height", words.height),
    number("width", words.width),
    number("batch", words.batch, words.batchHint),
    select("output", words.output, named(words.outputs)),
    select("preprocess", words.preprocess, named(words.preprocesses)),
    ...(format === "onnx"
      ? [
          select("dtype", words.dtype, [
            ["unchanged", "float32"],
            ["float16", "float16"],
          ]),
          number("opset", words.opset),
        ]
      : [
          select("quantize", words.quantize, [
            ["unchanged", "float32"],
            ["float16", "float16"],
            ["uint16", "uint16"],
            ["uint8", "uint8"],
          ]),
          select("tfjsKind", words.tfjsKind, named(words.tfjsKinds)),
        ]),
    runtimePick(format, state, actions, "backend"),
    flag("dynamicSize", words.dynamicSize),
    flag("gates", words.gates),
    flag("fold", words.fold),
    ...(format === "onnx" ? [flag("externalData", words.externalData)] : []),
    flag("dropExtra", words.dropExtra),
  ];
}

function pick(
  id: string,
  label: string,
  pairs: readonly (readonly [value: string, text: string])[],
  selected: string,
  onChange: (value: string) => void,
): HTMLElement {
  return el(
    "label",
    {},
    el("span", {}, label),
    el(
      "select",
      { id, on: { change: (event) => onChange((event.target as HTMLSelectElement).value) } },
      ...pairs.map(([value, text]) => el("option", { value, selected: value === selected }, text)),
    ),
  );
}

/** Two files compared with each other. */
export function pairPanel(state: State, actions: PanelActions): HTMLElement | undefined {
  const words = wordsOf(state);
  const pair = pairOf(state);
  if (!pair) return undefined;
  const format = pair.candidate.summary?.format ?? "pth";
  const files = state.items
    .filter(({ summary }) => summary)
    .map(({ id, model }): [string, string] => [String(id), model.name]);
  return el(
    "form",
    {
      class: "card pair",
      "aria-labelledby": "pair-h",
      on: {
        submit: (event) => {
          event.preventDefault();
          actions.verify();
        },
      },
    },
    el("h2", { id: "pair-h" }, words.verifyPair),
    el("p", { class: "soft" }, words.verifyPairLead),
    el(
      "div",
      { class: "fields" },
      pick("candidate", words.candidate, files, String(pair.candidate.id), (value) =>
        actions.change({ candidate: Number(value) }, true),
      ),
      pick(
        "reference",
        words.reference,
        files.filter(([id]) => id !== String(pair.candidate.id)),
        String(pair.reference.id),
        (value) => actions.change({ reference: Number(value) }, true),
      ),
      hasRuntime(format) && runtimePick(format, state, actions, "pair-backend"),
    ),
    el(
      "p",
      { class: "actions" },
      el(
        "button",
        { type: "submit", id: "verify", class: "primary", disabled: state.running !== undefined },
        words.verify,
      ),
    ),
  );
}

/** The writer's options out of what the form has; what cannot be used is refused by the library. */
export function targetOf(choices: Choices): Target {
  const { format, dtype } = choices;
  if (!isModelFormat(format))
    return { format, ...(dtype === "unchanged" ? {} : { dtype: dtype as "float16" }) };
  const whole = (text: string): number => (/^\d+$/.test(text.trim()) ? Number(text) : Number.NaN);
  const { height, width, batch, output, preprocess } = choices;
  const model = {
    size: choices.dynamicSize ? ("dynamic" as const) : { height: whole(height), width: whole(width) },
    ...(batch.trim() === "" ? {} : { batch: whole(batch) }),
    ...(output === "default" ? {} : { output: output as "features" }),
    ...(preprocess === "none" ? {} : { preprocess: preprocess as "rgb" }),
    gates: choices.gates,
    fold: choices.fold,
  };
  if (format === "onnx")
    return {
      format,
      ...model,
      opset: whole(choices.opset),
      ...(dtype === "float16" ? { dtype } : {}),
      externalData: choices.externalData,
    };
  const { quantize, tfjsKind } = choices;
  return {
    format,
    ...model,
    ...(quantize === "unchanged" ? {} : { quantize: quantize as "uint8" }),
    layers: tfjsKind === "layers",
  };
}

import type { ChosenModel, FileFormat } from "osnet-convert/web";
import type { Progress, Refusal } from "./client.js";
import type { Converted, Pictures, Summary, Verdict } from "./protocol.js";
import { LANGUAGES, type Language, type Words } from "./words.js";

/** A file that the user has chosen, and what is known of it. */
export interface Item {
  readonly id: number;
  readonly model: ChosenModel;
  /** What the user says of it that it does not say itself. */
  readonly given: { readonly arch?: string; readonly key?: string };
  readonly summary?: Summary;
  readonly problem?: Refusal | Error;
}

/** The formats that the page converts to: those that it has words for. */
export type TargetFormat = FileFormat & keyof Words["targets"];

/** What the form of conversions has; texts as they were typed. */
export interface Choices {
  format: TargetFormat;
  height: string;
  width: string;
  dynamicSize: boolean;
  batch: string;
  output: string;
  preprocess: string;
  dtype: string;
  quantize: string;
  tfjsKind: string;
  opset: string;
  gates: boolean;
  fold: boolean;
  externalData: boolean;
  dropExtra: boolean;
  /** What runs the result, or the model of a pair. */
  backend: string;
}

export const DEFAULTS: Choices = {
  format: "onnx",
  height: "256",
  width: "128",
  dynamicSize: false,
  batch: "",
  output: "default",
  preprocess: "none",
  dtype: "unchanged",
  quantize: "unchanged",
  tfjsKind: "graph",
  opset: "17",
  gates: false,
  fold: true,
  externalData: false,
  dropExtra: false,
  backend: "default",
};

/** What the last job came to. */
export type Outcome =
  | { readonly kind: "converted"; readonly source: number; readonly result: Converted }
  | { readonly kind: "verified"; readonly verdict: Verdict }
  | { readonly kind: "refused"; readonly problem: Refusal }
  | { readonly kind: "crashed"; readonly problem: Error }
  | { readonly kind: "cancelled" };

/** Work under way. */
export interface Running {
  readonly title: string;
  readonly controller: AbortController;
  readonly progress: Progress;
}

/** Everything that the page shows. Views read it; `main.ts` changes it and has them drawn again. */
export interface State {
  language: Language;
  theme: "auto" | "light" | "dark";
  items: readonly Item[];
  choices: Choices;
  source: number | undefined;
  candidate: number | undefined;
  reference: number | undefined;
  running: Running | undefined;
  outcome: Outcome | undefined;
  isEmptyDrop: boolean;
  pictures: readonly File[];
  /** What the pictures gave; an `AbortError` where that was cancelled. */
  seen: Pictures | Refusal | Error | undefined;
}

export function wordsOf({ language }: State): Words {
  return LANGUAGES[language];
}

/** Files that can be converted: everything readable except recordings. */
export function convertible({ items }: State): readonly Item[] {
  return items.filter(({ summary }) => summary?.network && summary.role !== "recording");
}

/** The file to convert: the one chosen, or the checkpoint, or the first. */
export function sourceOf(state: State): Item | undefined {
  const items = convertible(state);
  return (
    items.find(({ id }) => id === state.source) ??
    items.find(({ summary }) => summary?.role === "checkpoint") ??
    items[0]
  );
}

/** The two files to hold against each other: a model as the candidate, a checkpoint or a recording as the reference. */
export function pairOf(state: State): { readonly candidate: Item; readonly reference: Item } | undefined {
  const usable = state.items.filter(({ summary }) => summary);
  const candidate =
    usable.find(({ id }) => id === state.candidate) ??
    usable.find(({ summary }) => summary?.role === "model") ??
    usable[0];
  const others = usable.filter((item) => item !== candidate);
  const reference =
    others.find(({ id }) => id === state.reference) ??
    others.find(({ summary }) => summary?.role === "checkpoint") ??
    others.find(({ summary }) => summary?.role === "recording") ??
    others[0];
  return candidate && reference ? { candidate, reference } : undefined;
}

/** `0.94 MB` in the digits of the page's language. */
export function megabytes(bytes: number, { language }: State): string {
  const number = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
  return bytes < 1e5 ? `${number.format(bytes / 1e3)} kB` : `${number.format(bytes / 1e6)} MB`;
}

export function count(value: number, { language }: State): string {
  return new Intl.NumberFormat(language).format(value);
}

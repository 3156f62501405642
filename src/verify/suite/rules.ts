import { RUNTIMES } from "../backends/backend.js";
import type { CandidateSpec, ConversionOptions, EntryOptions, EntryPattern, ModelSpec } from "./file.js";

/** What a value must be, in words, and whether it is. */
export interface Rule {
  readonly expected: string;
  readonly holds: (value: unknown) => boolean;
}

/** A rule for each key. */
type Rules<K extends string> = Readonly<Record<K, Rule>>;

export const TEXT: Rule = { expected: "a text", holds: (value) => typeof value === "string" && value !== "" };
const FLAG: Rule = { expected: "true or false", holds: (value) => typeof value === "boolean" };
const SIZE: Rule = {
  expected: "HEIGHTxWIDTH such as 256x128",
  holds: (value) => typeof value === "string" && /^[1-9]\d{0,3}x[1-9]\d{0,3}$/.test(value),
};
const TEXTS: Rule = {
  expected: "a list of names",
  holds: (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
};
const BACKENDS: Rule = {
  expected: `a list of ${RUNTIMES.join(", ")}`,
  holds: (value) =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((name) => (RUNTIMES as readonly string[]).includes(name)),
};
const whole = (least: number, most: number): Rule => ({
  expected: `a whole number from ${least} to ${most}`,
  holds: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
});
const oneOf = (...words: readonly string[]): Rule => ({
  expected: words.join(" or "),
  holds: (value) => words.includes(value as string),
});

export const ENTRY: Rules<keyof EntryOptions> = {
  tolerance: {
    expected: "auto or a number between 0 and 1",
    holds: (value) => value === "auto" || (typeof value === "number" && value > 0 && value < 1),
  },
  input: TEXT,
  batch: whole(1, 1024),
  size: SIZE,
};

export const MODEL: Rules<keyof ModelSpec> = {
  checkpoint: TEXT,
  key: TEXT,
  arch: TEXT,
  seed: whole(0, 4_294_967_295),
};

export const PATTERN: Rules<keyof EntryPattern> = { model: TEXT, candidate: TEXT, backend: TEXT };

export const CONVERSION: Rules<keyof ConversionOptions> = {
  opset: whole(11, 26),
  fold: FLAG,
  fuse: FLAG,
  gates: FLAG,
  output: oneOf("features", "logits", "both", "probabilities"),
  size: SIZE,
  batch: whole(1, 1024),
};

export const CANDIDATE: Rules<Exclude<keyof CandidateSpec, "options">> = {
  ...ENTRY,
  file: TEXT,
  convert: oneOf("onnx", "tfjs-graph", "tfjs-layers"),
  backends: BACKENDS,
  models: TEXTS,
};

export const MATRIX: Rules<"models" | "candidates" | "backends"> = {
  models: TEXTS,
  candidates: TEXTS,
  backends: BACKENDS,
};

import { InputError } from "../core/errors.js";
import { nearestWord } from "../core/text.js";
import type { Tolerance } from "../verify/outcome/report.js";
import type { Shard } from "../verify/suite/report.js";

/** Parses an option's text; @throws InputError (`argument`). */
type Parser<T> = (text: string) => T;

/** An invalid argument or option. */
export function badArgument(subject: string, found: string, expected: string, remedy: string): InputError {
  return new InputError({ code: "argument", subject, found, expected, remedy });
}

/** An argument or option that cannot be used, with a clause as the reason. */
export function misused(subject: string, reason: string, remedy: string): InputError {
  return new InputError({ code: "argument", subject, found: reason, remedy });
}

/** The suggestion for a mistyped word. */
export function didYouMean(word: string): string {
  return `did you mean ${word}?`;
}

function badValue(option: string, text: string, expected: string, remedy: string): InputError {
  return badArgument(option, JSON.stringify(text), expected, remedy);
}

/** `a`, `a or b`, `a, b or c`. */
export function alternatives(words: readonly string[]): string {
  return series(words, "or");
}

/** `a`, `a and b`, `a, b and c`. */
export function series(words: readonly string[], conjunction: "and" | "or"): string {
  const last = words.slice(-1);
  return [words.slice(0, -1).join(", "), ...last].filter((part) => part !== "").join(` ${conjunction} `);
}

/** Other tools' names for the same types. */
const SYNONYMS: Readonly<Record<string, string>> = {
  fp16: "float16",
  f16: "float16",
  half: "float16",
  fp32: "float32",
  f32: "float32",
  float: "float32",
  single: "float32",
  fp64: "float64",
  double: "float64",
  bf16: "bfloat16",
  int8: "uint8",
  int16: "uint16",
};

/**
 * One of some words. @param otherwise the remedy for another word; if it returns undefined, the nearest word or
 * `remedy` is suggested
 */
export function choice<W extends string>(
  option: string,
  words: readonly W[],
  remedy = "choose one of these",
  otherwise: (text: string) => string | undefined = () => undefined,
): Parser<W> {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const meant = words.find((candidate) => candidate === SYNONYMS[text.toLowerCase()]);
    const nearest = meant ?? nearestWord(text, words);
    throw badValue(
      option,
      text,
      alternatives(words),
      otherwise(text) ?? (nearest ? didYouMean(nearest) : remedy),
    );
  };
}

/** An integer of at least `least`, or one of some words. */
export function int<W extends string = never>(
  option: string,
  least: number,
  ...words: readonly W[]
): Parser<number | W> {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
    throw badValue(
      option,
      text,
      alternatives([`a whole number of at least ${least}`, ...words]),
      "correct the value",
    );
  };
}

export interface Size {
  readonly height: number;
  readonly width: number;
}

/** Larger than any camera's pictures, so that a typing mistake does not ask for terabytes. */
const MAX_SIDE = 8192;

/** Height and width in pixels, such as `256x128`, or one of some words. */
export function size<W extends string = never>(option: string, ...words: readonly W[]): Parser<Size | W> {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const [, height, width] = /^(\d+)x(\d+)$/.exec(text)?.map(Number) ?? [];
    if (height && width && height <= MAX_SIDE && width <= MAX_SIDE) return { height, width };
    const expected =
      height && width
        ? `at most ${MAX_SIDE} pixels per side`
        : alternatives(["HEIGHTxWIDTH in pixels", ...words]);
    throw badValue(option, text, expected, "use a value such as 256x128");
  };
}

/** `--tolerance`: `auto` for each layer's own rounding bound, or a fraction of its largest value. */
export function tolerance(text: string): Tolerance {
  if (text === "auto") return { rule: "derived-bounds" };
  const value = Number(text);
  if (text.trim() !== "" && value > 0 && value < 1) return { rule: "relative-to-max", value };
  throw badValue("--tolerance", text, "auto or a number between 0 and 1", "use a value such as 1e-4");
}

/** `--baseline-factor`: how many times its earlier value a figure may reach. */
export function baselineFactor(text: string): number {
  const factor = Number(text);
  if (factor > 1 && factor < 1e6) return factor;
  throw badValue("--baseline-factor", text, "a number above 1", "use a value such as 2");
}

/** A fraction from 0 to 1. */
export function share(option: string): Parser<number> {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && value >= 0 && value <= 1) return value;
    throw badValue(option, text, "a number from 0 to 1", "use a value such as 0.001");
  };
}

/** `--shard 2/4`: the second of four shards. */
export function shard(text: string): Shard {
  const [, index = 0, total = 0] = /^(\d{1,4})\/(\d{1,4})$/.exec(text)?.map(Number) ?? [];
  if (index >= 1 && index <= total) return { index, total };
  throw badValue("--shard", text, "INDEX/TOTAL, counted from 1", "use a value such as 2/4");
}

/** Collects a repeatable option, parsing each value. */
export function list<T>(parse: Parser<T>): (text: string, earlier: readonly T[] | undefined) => readonly T[] {
  return (text, earlier) => [...(earlier ?? []), parse(text)];
}

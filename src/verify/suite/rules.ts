import { OUTPUT_SELECTIONS } from "../../convert/export/options.js";
import { InputError } from "../../core/errors.js";
import { nearestWord } from "../../core/text.js";
import { RUNTIMES } from "../backends/registry.js";
import { DISTANCE_METRICS } from "../ranking/distances.js";
import {
  type CandidateSpec,
  CONVERSIONS,
  type ConversionOptions,
  type EntryOptions,
  type EntryPattern,
  type ModelSpec,
  type RankingSpec,
  type SuiteFile,
} from "./plan.js";

/** A check of a value, and its description. */
interface Rule {
  readonly expected: string;
  readonly holds: (value: unknown) => boolean;
}

/** A rule for each key. */
type Rules<K extends string> = Readonly<Record<K, Rule>>;

const TEXT: Rule = {
  expected: "a non-empty string",
  holds: (value) => typeof value === "string" && value !== "",
};
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
const SHARE: Rule = {
  expected: "a share from 0 to 1",
  holds: (value) => typeof value === "number" && value >= 0 && value <= 1,
};
const oneOf = (...words: readonly string[]): Rule => ({
  expected: words.join(" or "),
  holds: (value) => words.includes(value as string),
});

const RANKING: Rules<keyof RankingSpec> = {
  data: TEXT,
  distance: oneOf(...DISTANCE_METRICS),
  maxMapDrop: SHARE,
  maxRank1Drop: SHARE,
  maxFlips: SHARE,
  maxBroken: SHARE,
};

const ENTRY: Rules<keyof EntryOptions> = {
  tolerance: {
    expected: "auto or a number between 0 and 1",
    holds: (value) => value === "auto" || (typeof value === "number" && value > 0 && value < 1),
  },
  input: TEXT,
  batch: whole(1, 1024),
  size: SIZE,
  ranking: {
    expected: `data (a folder or a CSV), and optionally ${Object.keys(RANKING).slice(1).join(", ")} (shares from 0 to 1)`,
    holds: (value) =>
      typeof value === "object" &&
      value !== null &&
      "data" in value &&
      Object.entries(value).every(([key, item]) =>
        (RANKING as Partial<Record<string, Rule>>)[key]?.holds(item),
      ),
  },
};

const MODEL: Rules<keyof ModelSpec> = {
  checkpoint: TEXT,
  key: TEXT,
  arch: TEXT,
  seed: whole(0, 4_294_967_295),
};

const PATTERN: Rules<keyof EntryPattern> = { model: TEXT, candidate: TEXT, backend: TEXT };

const CONVERSION: Rules<keyof ConversionOptions> = {
  opset: whole(11, 26),
  fold: FLAG,
  fuse: FLAG,
  gates: FLAG,
  output: oneOf(...OUTPUT_SELECTIONS),
  size: SIZE,
  batch: whole(1, 1024),
};

const CANDIDATE: Rules<Exclude<keyof CandidateSpec, "options">> = {
  ...ENTRY,
  file: TEXT,
  convert: oneOf(...Object.keys(CONVERSIONS)),
  backends: BACKENDS,
  models: TEXTS,
};

const MATRIX: Rules<"models" | "candidates" | "backends"> = {
  models: TEXTS,
  candidates: TEXTS,
  backends: BACKENDS,
};

type Path = readonly (string | number)[];
type Fields = Readonly<Record<string, unknown>>;

/** The position of a value in the file: the line of a path of keys, if known. */
export type Locate = (path: Path) => number | undefined;

/**
 * Checks the content of a suite file: every key known, every value of its type, every name that it refers to defined.
 *
 * @throws InputError (`format`) with every problem, each with its line and key
 */
export function checkSuiteFile(value: unknown, subject: string, locate: Locate): SuiteFile {
  const problems = new Problems(locate);
  const suite = problems.fields([], value, { name: TEXT, $schema: TEXT }, SECTIONS);
  if (suite) {
    if (suite.defaults !== undefined) problems.fields(["defaults"], suite.defaults, ENTRY);
    checkModels(suite, problems);
    checkCandidates(suite, problems);
    if (suite.matrix !== undefined) checkMatrix(suite, problems);
  }
  if (problems.found.length === 0) return value as SuiteFile;
  throw suiteError(subject, problems.found);
}

const SECTIONS = ["defaults", "models", "candidates", "matrix"] as const;

function checkModels(suite: Fields, problems: Problems): void {
  for (const [name, model] of problems.named("models", suite)) {
    const path = ["models", name];
    const found = problems.fields(path, model, MODEL);
    if (found && (found.checkpoint === undefined) === (found.seed === undefined))
      problems.add(path, "expected either a checkpoint, or a seed and an arch");
    else if (found?.seed !== undefined && found.arch === undefined)
      problems.add(path, "found a seed without an arch, expected both");
  }
}

function checkCandidates(suite: Fields, problems: Problems): void {
  for (const [name, candidate] of problems.named("candidates", suite)) {
    const path = ["candidates", name];
    const found = problems.fields(path, candidate, CANDIDATE, ["options"]);
    if (found && (found.file === undefined) === (found.convert === undefined))
      problems.add(path, "expected either a file or a conversion (convert)");
    if (found?.options !== undefined) problems.fields([...path, "options"], found.options, CONVERSION);
    problems.refer([...path, "models"], listOf(found?.models), suite.models);
  }
}

function checkMatrix(suite: Fields, problems: Problems): void {
  const matrix = problems.fields(["matrix"], suite.matrix, MATRIX, ["exclude", "include"]);
  problems.refer(["matrix", "models"], listOf(matrix?.models), suite.models);
  problems.refer(["matrix", "candidates"], listOf(matrix?.candidates), suite.candidates);
  for (const key of ["exclude", "include"] as const) {
    const list = matrix?.[key];
    if (list !== undefined && !Array.isArray(list))
      problems.add(["matrix", key], `found ${show(list)}, expected a list`);
    listOf(list).forEach((item, index) => {
      const path = ["matrix", key, index];
      const found = problems.fields(path, item, key === "include" ? { ...PATTERN, ...ENTRY } : PATTERN);
      if (!found) return;
      problems.referOne([...path, "model"], found.model, suite.models);
      problems.referOne([...path, "candidate"], found.candidate, suite.candidates);
      if (key === "include" && (found.model === undefined || found.candidate === undefined))
        problems.add(path, "expected a model and a candidate");
    });
  }
}

/** The problems of a suite file, one sentence each, with line and key. */
class Problems {
  readonly found: string[] = [];
  readonly #locate: Locate;

  constructor(locate: Locate) {
    this.#locate = locate;
  }

  add(path: Path, text: string): void {
    const line = this.#locate(path);
    const key = path.length === 0 ? "the suite" : path.join(".");
    this.found.push(`${line === undefined ? "" : `line ${line}, `}${key}: ${text}`);
  }

  object(path: Path, value: unknown): Fields | undefined {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
    this.add(path, `found ${show(value)}, expected keys and values`);
    return undefined;
  }

  /** A record of known keys. The values of `others` are checked elsewhere. */
  fields(
    path: Path,
    value: unknown,
    rules: Readonly<Record<string, Rule>>,
    others: readonly string[] = [],
  ): Fields | undefined {
    const record = this.object(path, value);
    for (const [key, item] of Object.entries(record ?? {})) {
      const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
      if (rule && !rule.holds(item))
        this.add([...path, key], `found ${show(item)}, expected ${rule.expected}`);
      else if (!rule && !others.includes(key))
        this.add([...path, key], `no such key, ${suggestion(key, [...Object.keys(rules), ...others])}`);
    }
    return record;
  }

  /** The entries of a section whose keys are names that a person chose. */
  named(section: string, suite: Fields): readonly (readonly [string, unknown])[] {
    const entries = Object.entries(this.object([section], suite[section]) ?? {});
    if (entries.length === 0 && suite[section] !== undefined)
      this.add([section], "found none, expected at least one");
    for (const [name] of entries)
      if (!/^[\w.+-]{1,80}$/.test(name))
        this.add([section, name], "found an invalid name, expected up to 80 letters, digits, _ . + -");
    return entries;
  }

  refer(path: Path, names: readonly unknown[], known: unknown): void {
    names.forEach((name, index) => {
      this.referOne([...path, index], name, known);
    });
  }

  referOne(path: Path, name: unknown, known: unknown): void {
    const names = Object.keys((known ?? {}) as object);
    if (typeof name === "string" && !names.includes(name))
      this.add(path, `found ${show(name)}, ${suggestion(name, names)}`);
  }
}

/** @param problems one to a line; the first is in the sentence */
export function suiteError(subject: string, problems: readonly string[], cause?: unknown): InputError {
  return new InputError(
    {
      code: "format",
      subject,
      found: problems.length === 1 ? (problems[0] ?? "") : `${problems.length} problems`,
      expected: "a suite of models and candidates",
      remedy: "see docs/ci.md, or start from osnet-verify suite --init",
      details: problems.length === 1 ? [] : firstOf(problems),
    },
    { cause },
  );
}

/** Limit on the problems that are listed. */
const MAX_SHOWN = 20;

function firstOf(problems: readonly string[]): readonly string[] {
  const more = problems.length - MAX_SHOWN;
  return more > 0 ? [...problems.slice(0, MAX_SHOWN), `and ${more} more`] : problems;
}

/** Suggestions: the nearest word, or all. */
function suggestion(word: string, words: readonly string[]): string {
  const nearest = nearestWord(word, words);
  return nearest === undefined ? `expected one of ${words.join(", ")}` : `did you mean ${nearest}?`;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 80);
}

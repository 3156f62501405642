import { InputError } from "../../errors.js";

/** A suite as its file says it (`schemas/osnet-suite-1.schema.json`), valid, with nothing filled in. */
export interface SuiteFile {
  readonly name?: string;
  readonly defaults?: EntryOptions;
  readonly models: Readonly<Record<string, ModelSpec>>;
  readonly candidates: Readonly<Record<string, CandidateSpec>>;
  readonly matrix?: MatrixSpec;
}

/** How an entry is verified; what an entry leaves out its candidate, then the file's `defaults`, say. */
export interface EntryOptions {
  readonly tolerance?: "auto" | number;
  readonly input?: string;
  readonly batch?: number;
  readonly size?: string;
}

/** Weights: a checkpoint or recording, or seeded ones of an architecture. */
export interface ModelSpec {
  readonly checkpoint?: string;
  readonly key?: string;
  /** A variant's name or a spec.json. */
  readonly arch?: string;
  readonly seed?: number;
}

/** What is held against a model: a file (`{model}` in its path is the model's name), or a conversion to make. */
export interface CandidateSpec extends EntryOptions {
  readonly file?: string;
  readonly convert?: "onnx" | "tfjs-graph" | "tfjs-layers";
  readonly options?: ConversionOptions;
  readonly backends?: readonly string[];
  /** The models that it is for; all, if absent. */
  readonly models?: readonly string[];
}

export interface ConversionOptions {
  readonly opset?: number;
  readonly fold?: boolean;
  readonly fuse?: boolean;
  readonly gates?: boolean;
  readonly output?: string;
  readonly size?: string;
  readonly batch?: number;
}

/** As in CI: the product of the lists, without what `exclude` matches, with what `include` adds. */
export interface MatrixSpec {
  readonly models?: readonly string[];
  readonly candidates?: readonly string[];
  readonly backends?: readonly string[];
  readonly exclude?: readonly EntryPattern[];
  readonly include?: readonly (EntryPattern & EntryOptions)[];
}

export interface EntryPattern {
  readonly model?: string;
  readonly candidate?: string;
  readonly backend?: string;
}

/** Where a value stands in the file: the line of a path of keys, if it is known. */
export type Locate = (path: readonly (string | number)[]) => number | undefined;

/** What a value must be, in words, and whether it is. */
interface Rule {
  readonly expected: string;
  readonly holds: (value: unknown) => boolean;
}

const TEXT: Rule = { expected: "a text", holds: (value) => typeof value === "string" && value !== "" };
const FLAG: Rule = { expected: "true or false", holds: (value) => typeof value === "boolean" };
const SIZE: Rule = {
  expected: "HEIGHTxWIDTH such as 256x128",
  holds: (value) => typeof value === "string" && /^[1-9]\d{0,3}x[1-9]\d{0,3}$/.test(value),
};
const TEXTS: Rule = {
  expected: "a list of names",
  holds: (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
};
const whole = (least: number, most: number): Rule => ({
  expected: `a whole number from ${least} to ${most}`,
  holds: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
});
const oneOf = (...words: readonly string[]): Rule => ({
  expected: words.join(" or "),
  holds: (value) => words.includes(value as string),
});

const ENTRY = {
  tolerance: {
    expected: "auto or a number between 0 and 1",
    holds: (value) => value === "auto" || (typeof value === "number" && value > 0 && value < 1),
  },
  input: TEXT,
  batch: whole(1, 1024),
  size: SIZE,
} as const satisfies Record<keyof EntryOptions, Rule>;

const MODEL = {
  checkpoint: TEXT,
  key: TEXT,
  arch: TEXT,
  seed: whole(0, 4_294_967_295),
} as const satisfies Record<keyof ModelSpec, Rule>;

const PATTERN = { model: TEXT, candidate: TEXT, backend: TEXT } as const satisfies Record<
  keyof EntryPattern,
  Rule
>;

const CONVERSION = {
  opset: whole(11, 26),
  fold: FLAG,
  fuse: FLAG,
  gates: FLAG,
  output: oneOf("features", "logits", "both", "probabilities"),
  size: SIZE,
  batch: whole(1, 1024),
} as const satisfies Record<keyof ConversionOptions, Rule>;

const CANDIDATE = {
  ...ENTRY,
  file: TEXT,
  convert: oneOf("onnx", "tfjs-graph", "tfjs-layers"),
  backends: TEXTS,
  models: TEXTS,
} as const satisfies Partial<Record<keyof CandidateSpec, Rule>>;

const MATRIX = { models: TEXTS, candidates: TEXTS, backends: TEXTS } as const satisfies Partial<
  Record<keyof MatrixSpec, Rule>
>;

type Path = readonly (string | number)[];

/**
 * Checks what a suite file holds: every key known, every value of its kind, every name it refers to defined.
 *
 * @throws InputError (`format`) with every problem, each with its line and key
 */
export function checkSuiteFile(value: unknown, subject: string, locate: Locate): SuiteFile {
  const problems: string[] = [];
  const report = (path: Path, text: string): void => {
    const line = locate(path);
    const key = path.length === 0 ? "the suite" : path.join(".");
    problems.push(`${line === undefined ? "" : `line ${line}, `}${key}: ${text}`);
  };
  const object = (path: Path, found: unknown): Readonly<Record<string, unknown>> | undefined => {
    if (typeof found === "object" && found !== null && !Array.isArray(found))
      return found as Readonly<Record<string, unknown>>;
    report(path, `found ${show(found)}, expected keys and values`);
    return undefined;
  };
  const fields = (
    path: Path,
    found: unknown,
    rules: Readonly<Record<string, Rule>>,
    others: readonly string[] = [],
  ) => {
    const record = object(path, found);
    for (const [key, item] of Object.entries(record ?? {})) {
      const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
      if (!rule && !others.includes(key))
        report([...path, key], `no such key, expected ${[...Object.keys(rules), ...others].join(", ")}`);
      else if (rule && !rule.holds(item))
        report([...path, key], `found ${show(item)}, expected ${rule.expected}`);
    }
    return record;
  };
  const named = (key: string, record: Readonly<Record<string, unknown>>): readonly [string, unknown][] => {
    const entries = Object.entries(object([key], record[key]) ?? {});
    if (entries.length === 0) report([key], "found none, expected at least one");
    for (const [name] of entries)
      if (!/^[\w.+-]{1,80}$/.test(name))
        report(
          [key, name],
          "found other characters than letters, digits, _ . + -, expected a name of up to 80",
        );
    return entries;
  };

  const suite = fields([], value, { name: TEXT, $schema: TEXT }, [
    "defaults",
    "models",
    "candidates",
    "matrix",
  ]);
  if (suite) {
    if (suite.defaults !== undefined) fields(["defaults"], suite.defaults, ENTRY);
    for (const [name, model] of named("models", suite)) {
      const found = fields(["models", name], model, MODEL);
      if (found && (found.checkpoint === undefined) === (found.seed === undefined))
        report(["models", name], "expected either a checkpoint, or a seed and an arch");
      else if (found?.seed !== undefined && found.arch === undefined)
        report(["models", name], "found a seed alone, expected an arch beside it");
    }
    for (const [name, candidate] of named("candidates", suite)) {
      const found = fields(["candidates", name], candidate, CANDIDATE, ["options"]);
      if (found && (found.file === undefined) === (found.convert === undefined))
        report(["candidates", name], "expected either a file or a conversion (convert)");
      if (found?.options !== undefined) fields(["candidates", name, "options"], found.options, CONVERSION);
    }
    const known = { model: suite.models, candidate: suite.candidates } as const;
    const refer = (path: Path, kind: keyof typeof known, name: unknown): void => {
      const names = Object.keys((known[kind] ?? {}) as object);
      if (typeof name === "string" && !names.includes(name))
        report(path, `found ${show(name)}, expected one of ${names.join(", ")}`);
    };
    for (const [name, candidate] of Object.entries((suite.candidates ?? {}) as object))
      listOf(candidate?.models).forEach((model, index) => {
        refer(["candidates", name, "models", index], "model", model);
      });
    if (suite.matrix !== undefined) {
      const matrix = fields(["matrix"], suite.matrix, MATRIX, ["exclude", "include"]);
      listOf(matrix?.models).forEach((name, index) => {
        refer(["matrix", "models", index], "model", name);
      });
      listOf(matrix?.candidates).forEach((name, index) => {
        refer(["matrix", "candidates", index], "candidate", name);
      });
      for (const key of ["exclude", "include"] as const) {
        const list = matrix?.[key];
        if (list !== undefined && !Array.isArray(list))
          report(["matrix", key], `found ${show(list)}, expected a list`);
        listOf(list).forEach((item, index) => {
          const path = ["matrix", key, index];
          const found = fields(path, item, key === "include" ? { ...PATTERN, ...ENTRY } : PATTERN);
          if (!found) return;
          refer([...path, "model"], "model", found.model);
          refer([...path, "candidate"], "candidate", found.candidate);
          if (key === "include" && (found.model === undefined || found.candidate === undefined))
            report(path, "expected a model and a candidate");
        });
      }
    }
  }
  if (problems.length === 0) return value as SuiteFile;
  throw suiteError(subject, problems);
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
      details: problems.length === 1 ? [] : problems,
    },
    { cause },
  );
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 80);
}

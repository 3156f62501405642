import type { OutputSelection } from "../../convert/export/options.js";
import { formatOfName, isWeightsFormat, type ModelFormat } from "../../convert/formats/registry.js";
import { InputError } from "../../core/errors.js";
import { definedOf } from "../../core/functions.js";
import type { RuntimeName } from "../backends/backend.js";
import { runtimesFor } from "../backends/registry.js";
import type { DistanceMetric } from "../ranking/distances.js";
import { entryFileName, type Shard } from "./report.js";

/** A suite file (`schemas/osnet-suite-1.schema.json`) after validation, without defaults. */
export interface SuiteFile {
  readonly name?: string;
  readonly defaults?: EntryOptions;
  readonly models: Readonly<Record<string, ModelSpec>>;
  readonly candidates: Readonly<Record<string, CandidateSpec>>;
  readonly matrix?: MatrixSpec;
}

/** How an entry is verified; what an entry does not set comes from its candidate, then from the file's `defaults`. */
export interface EntryOptions {
  readonly tolerance?: "auto" | number;
  readonly input?: string;
  readonly batch?: number;
  readonly size?: string;
  /** Also ranks pictures, as `osnet-verify rank` does. */
  readonly ranking?: RankingSpec;
}

/**
 * The pictures to rank, and how much worse than the model an entry may be. The defaults are those of `osnet-verify
 * rank`.
 */
export interface RankingSpec {
  /** A data set's folder or CSV. */
  readonly data: string;
  readonly distance?: DistanceMetric;
  readonly maxMapDrop?: number;
  readonly maxRank1Drop?: number;
  readonly maxFlips?: number;
  readonly maxBroken?: number;
}

/** Weights: a checkpoint or recording, or seeded ones of an architecture. */
export interface ModelSpec {
  readonly checkpoint?: string;
  readonly key?: string;
  /** A variant's name or a spec.json. */
  readonly arch?: string;
  readonly seed?: number;
}

/**
 * The conversions of checkpoints, by their names in suite files: a format, and for TensorFlow.js a kind of model.
 */
export type Conversion = "onnx" | "tfjs-graph" | "tfjs-layers";

/** The format and options of each conversion. */
export const CONVERSIONS: {
  readonly [C in Conversion]: { readonly format: ModelFormat; readonly tfjsFormat?: "graph" | "layers" };
} = {
  onnx: { format: "onnx" },
  "tfjs-graph": { format: "tfjs", tfjsFormat: "graph" },
  "tfjs-layers": { format: "tfjs", tfjsFormat: "layers" },
};

/** A candidate: a file (`{model}` in its path is the model's name), or a conversion to make. */
export interface CandidateSpec extends EntryOptions {
  readonly file?: string;
  readonly convert?: Conversion;
  readonly options?: ConversionOptions;
  readonly backends?: readonly string[];
  /** The models that it belongs to. Default: all. */
  readonly models?: readonly string[];
}

export interface ConversionOptions {
  readonly opset?: number;
  readonly fold?: boolean;
  readonly fuse?: boolean;
  readonly gates?: boolean;
  readonly output?: OutputSelection;
  readonly size?: string;
  readonly batch?: number;
}

/**
 * As in CI systems: the product of the lists, without combinations that `exclude` matches, and with those of
 * `include`.
 */
interface MatrixSpec {
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

/** One verification to make, with all its options, as plain data. */
export interface PlannedEntry {
  readonly id: string;
  readonly model: string;
  readonly candidate: string;
  /**
   * If the file's content does not match its name, the backend may not run it: then the entry is an error.
   */
  readonly backend: RuntimeName | "auto";
  readonly modelSpec: ModelSpec;
  readonly candidateSpec: CandidateSpec;
  readonly options: EntryOptions;
}

/** Limit on entries, beyond which a report is not readable. */
const MAX_ENTRIES = 2000;

/**
 * Every entry of a suite, in the order of its models, candidates and backends; what `include` adds comes last.
 *
 * @throws InputError (`argument`) if there are more than 2000, or none, or two that would write the same reports
 */
export function planSuite(suite: SuiteFile, subject: string): readonly PlannedEntry[] {
  const { matrix = {} } = suite;
  const entries = new Map<string, PlannedEntry>();
  const add = (pattern: Required<EntryPattern>, options: EntryOptions = {}): void => {
    const entry = planEntry(suite, pattern, options);
    if (entry) entries.set(entry.id, entry);
    if (entries.size > MAX_ENTRIES) throw countError(subject, `more than ${MAX_ENTRIES} entries`);
  };
  for (const model of matrix.models ?? Object.keys(suite.models))
    for (const candidate of matrix.candidates ?? Object.keys(suite.candidates)) {
      const spec = suite.candidates[candidate];
      if (!spec || (spec.models && !spec.models.includes(model))) continue;
      for (const backend of backendsOf(spec, matrix.backends)) {
        const pattern = { model, candidate, backend };
        if (!(matrix.exclude ?? []).some((excluded) => matches(excluded, pattern))) add(pattern);
      }
    }
  for (const { model = "", candidate = "", backend, ...options } of matrix.include ?? []) {
    const spec = suite.candidates[candidate];
    if (!spec) continue;
    for (const name of backend ? [backend] : backendsOf(spec, undefined))
      add({ model, candidate, backend: name }, options);
  }
  if (entries.size === 0) throw countError(subject, "no entry");
  expectDistinctFiles([...entries.keys()], subject);
  return [...entries.values()];
}

/** Reports are files, and some file systems are not case-sensitive. */
function expectDistinctFiles(ids: readonly string[], subject: string): void {
  const byName = new Map<string, string>();
  for (const id of ids) {
    const name = entryFileName(id).toLowerCase();
    const other = byName.get(name);
    if (other !== undefined)
      throw new InputError({
        code: "argument",
        subject,
        found: `${other} and ${id}, whose reports would have the same file name`,
        expected: "entries with unique names",
        remedy: "rename a model or candidate",
      });
    byName.set(name, id);
  }
}

function planEntry(
  { models, candidates, defaults }: SuiteFile,
  { model, candidate, backend }: Required<EntryPattern>,
  overrides: EntryOptions,
): PlannedEntry | undefined {
  const [modelSpec, candidateSpec] = [models[model], candidates[candidate]];
  if (!modelSpec || !candidateSpec) return undefined;
  const { tolerance, input, batch, size, ranking } = {
    ...defaults,
    ...definedOf(candidateSpec),
    ...overrides,
  };
  return {
    id: [model, candidate, ...(backend === "auto" ? [] : [backend])].join(" · "),
    model,
    candidate,
    backend: backend as PlannedEntry["backend"],
    modelSpec,
    candidateSpec,
    options: definedOf({ tolerance, input, batch, size, ranking }),
  };
}

/** The backends of the candidate, or those of the matrix, that run its format. Default: one. */
function backendsOf(
  { convert, file, backends }: CandidateSpec,
  matrix: readonly string[] | undefined,
): readonly string[] {
  if (backends) return backends;
  const possible: readonly string[] = convert
    ? runtimesFor(CONVERSIONS[convert].format)
    : fileBackends(file ?? "");
  if (matrix && possible.length > 0) return matrix.filter((name) => possible.includes(name));
  return convert ? possible.slice(0, 1) : ["auto"];
}

/**
 * The runtimes for a file of this name: none for recordings and checkpoints. A folder is a TensorFlow.js model.
 */
function fileBackends(file: string): readonly RuntimeName[] {
  const format = formatOfName(file) ?? "tfjs";
  return isWeightsFormat(format) ? [] : runtimesFor(format);
}

function matches(pattern: EntryPattern, entry: Required<EntryPattern>): boolean {
  return (["model", "candidate", "backend"] as const).every(
    (key) => pattern[key] === undefined || pattern[key] === entry[key],
  );
}

/** Entries whose id contains the text; `*` matches anything. */
export function chooseEntries(
  entries: readonly PlannedEntry[],
  only: readonly string[],
): readonly PlannedEntry[] {
  if (only.length === 0) return entries;
  const patterns = only.map((text) => {
    const parts = text.split("*").map((part) => part.replace(/[\\^$.+?()[\]{}|]/g, "\\$&"));
    return new RegExp(parts.join(".*"), "i");
  });
  return entries.filter(({ id }) => patterns.some((pattern) => pattern.test(id)));
}

/** Every `total`th entry, so that a model's slow and fast candidates are spread over the shards. */
export function shardEntries(
  entries: readonly PlannedEntry[],
  { index, total }: Shard,
): readonly PlannedEntry[] {
  return entries.filter((_, position) => position % total === index - 1);
}

/**
 * Which of the entries that wait a process runs next: one of the model that it ran last, since it has that open, else of one that no
 * process has begun, else the first.
 *
 * @param begun names of models
 * @returns its place, 0 if none waits
 */
export function nextEntry(
  waiting: readonly PlannedEntry[],
  last: string | undefined,
  begun: ReadonlySet<string>,
): number {
  const same = waiting.findIndex(({ model }) => model === last);
  return Math.max(0, same >= 0 ? same : waiting.findIndex(({ model }) => !begun.has(model)));
}

function countError(subject: string, found: string): InputError {
  return new InputError({
    code: "argument",
    subject,
    found,
    expected: `1 to ${MAX_ENTRIES} entries`,
    remedy: "correct the matrix, or the options that select entries",
  });
}

import { InputError } from "../../core/errors.js";
import { type Fault, type ParityReport, recounted } from "../outcome/report.js";
import type { DatasetFacts } from "../ranking/dataset.js";
import type { DistanceMetric } from "../ranking/distances.js";
import { isWithinLimit, type RankingCheck } from "../ranking/report.js";

/**
 * The result of a suite, plain JSON (schema `osnet-parity-suite/1`): every entry with its whole report, so that shards
 * can be joined and later runs compared. Deterministic except for the `run` blocks.
 */
export interface SuiteReport {
  /** Name and version of the document; a version's fields keep their meaning. */
  readonly schema: "osnet-parity-suite/1";
  /** The suite's name, from its file. */
  readonly name: string;
  /** Every entry passed, and no shard is missing. */
  readonly passed: boolean;
  /** The faults of all entries, those of the worst entry first. */
  readonly faults: readonly SuiteFault[];
  /** In the order of the suite file. */
  readonly entries: readonly SuiteEntry[];
  /** Which share of a suite this is; absent for all of it. */
  readonly shard?: Shard;
  /** Entries of the suite that were not run, by id: after a failure under fail-fast, or not chosen by `--only`. */
  readonly skipped: readonly string[];
}

/** A fault of one of the entries. */
interface SuiteFault extends Fault {
  /** The entry's id. */
  readonly entry: string;
}

/** The `index`th of `total` shares, from 1. */
export interface Shard {
  /** Which share this is, from 1. */
  readonly index: number;
  /** Into how many shares the suite was cut. */
  readonly total: number;
  /** A hash of all entries of the suite: only shards of equal suites are joined. Absent from older reports. */
  readonly plan?: string;
}

/** One verification of a suite. */
export interface SuiteEntry {
  /** `model · candidate · backend`, or without the backend if none was requested; unique in its suite. */
  readonly id: string;
  /** Name of the model in the suite file. */
  readonly model: string;
  /** Name of the candidate in the suite file, such as `onnx`. */
  readonly candidate: string;
  /** The requested runtime; `auto` if the file decides. */
  readonly backend: string;
  /** `error`: a file could not be used, and nothing was compared. */
  readonly status: EntryStatus;
  /** A hash of everything that the result depends on: model, candidate, backend, options and versions. */
  readonly fingerprint: string | null;
  /** Absent after an error. */
  readonly report: ParityReport | null;
  /** The ranking of pictures, if the suite asks for it. */
  readonly ranking?: EntryRanking;
  /** The reason why a file could not be used; null if something was compared. */
  readonly error: string | null;
  /** Time and cache; absent for an entry that did not run. */
  readonly run?: EntryRun;
}

/** A summary of what `osnet-verify rank` finds for the entry. */
export interface EntryRanking {
  /** The data set's size and classes, and its folder's name. */
  readonly dataset: DatasetFacts & { readonly name: string };
  /** The distance between embeddings. */
  readonly distance: DistanceMetric;
  /** Each judged figure with its limit: the entry fails if one exceeds it. */
  readonly checks: readonly RankingCheck[];
  /** Shares by the model and by the candidate; null without labels. */
  readonly mAP: readonly [reference: number, candidate: number] | null;
  /** Shares of queries whose nearest image is a match; null without labels. */
  readonly rank1: readonly [reference: number, candidate: number] | null;
}

/** Parity holds, and the ranking passes if there is one. */
export function entryStatus(
  report: Pick<ParityReport, "passed">,
  ranking: Pick<EntryRanking, "checks"> | undefined,
): "pass" | "fail" {
  return report.passed && (ranking?.checks ?? []).every(isWithinLimit) ? "pass" : "fail";
}

/** `pass`: parity holds. `fail`: it does not. `error`: a file could not be used. */
type EntryStatus = "pass" | "fail" | "error";

/** The part that differs between two runs of the same entry. */
interface EntryRun {
  /** Whether the report was taken from a cache, since nothing that it depends on had changed. */
  readonly cached: boolean;
  /** Wall-clock time of this run, to the millisecond: next to nothing where `cached`. */
  readonly seconds: number;
}

/** Puts entries together. */
export function suiteReport(
  name: string,
  entries: readonly SuiteEntry[],
  { shard, skipped = [] }: { readonly shard?: Shard; readonly skipped?: readonly string[] } = {},
): SuiteReport {
  return {
    schema: "osnet-parity-suite/1",
    name,
    passed: entries.every(({ status }) => status === "pass"),
    faults: failuresFirst(entries).flatMap(({ id, report }) =>
      (report?.faults ?? []).map((fault) => ({ entry: id, ...fault })),
    ),
    entries,
    ...(shard ? { shard } : {}),
    skipped,
  };
}

/**
 * A suite from a file, with everything that follows from its entries' reports recomputed, since the file is not
 * trusted.
 */
export function recountedSuite({ name, entries, shard, skipped }: SuiteReport): SuiteReport {
  return suiteReport(name, entries.map(recountedEntry), { ...(shard ? { shard } : {}), skipped });
}

function recountedEntry(entry: SuiteEntry): SuiteEntry {
  if (entry.report === null || entry.error !== null)
    return { ...entry, status: "error", report: null, error: entry.error ?? "nothing was compared" };
  const report = recounted(entry.report);
  const { ranking } = entry;
  const checks = ranking?.checks.map((check) => ({ ...check, passed: isWithinLimit(check) }));
  return {
    ...entry,
    report,
    ...(ranking && checks ? { ranking: { ...ranking, checks } } : {}),
    status: entryStatus(report, ranking),
  };
}

/** 0: all pass. 1: one fails. 2: a file could not be used. */
export function suiteExitStatus({ entries, passed }: SuiteReport): 0 | 1 | 2 {
  if (entries.some(({ status }) => status === "error")) return 2;
  return passed ? 0 : 1;
}

/** The number of entries by status. */
export function suiteCounts({ entries }: SuiteReport): Readonly<Record<EntryStatus | "cached", number>> {
  const count = (matches: (entry: SuiteEntry) => boolean): number => entries.filter(matches).length;
  return {
    pass: count(({ status }) => status === "pass"),
    fail: count(({ status }) => status === "fail"),
    error: count(({ status }) => status === "error"),
    cached: count(({ run }) => run?.cached ?? false),
  };
}

/** Entries that did not pass first, errors before the others, then by their worst fault. */
export function failuresFirst(entries: readonly SuiteEntry[]): readonly SuiteEntry[] {
  const rank: Readonly<Record<EntryStatus, number>> = { error: 0, fail: 1, pass: 2 };
  const worst = ({ report }: SuiteEntry): number =>
    (report?.faults ?? []).reduce((most, { margin }) => Math.max(most, margin ?? Infinity), 0);
  return entries.toSorted((a, b) => {
    const order = rank[a.status] - rank[b.status];
    return order !== 0 || worst(a) === worst(b) ? order : worst(b) - worst(a);
  });
}

/**
 * A file name for an entry, unique in a suite's plan. Ids from merged reports cannot name anything outside the folder
 * either.
 */
export function entryFileName(id: string): string {
  return id
    .replaceAll(" · ", "--")
    .replace(/[^\w.+-]/g, "_")
    .slice(0, 240);
}

/**
 * Joins the reports of a suite's shards, with the entries in the suite's order.
 *
 * @throws InputError (`argument`) if they are not exactly one of each shard of one suite
 */
export function mergeSuites(
  reports: readonly { readonly name: string; readonly suite: SuiteReport }[],
): SuiteReport {
  const [first] = reports;
  const refuse = (subject: string, found: string, expected: string): InputError =>
    new InputError({
      code: "argument",
      subject,
      found,
      expected,
      remedy: "pass the report of every shard once",
    });
  if (!first) throw refuse("merge", "no report", "the reports of a suite's shards");
  const total = first.suite.shard?.total ?? 1;
  const byIndex = new Map<number, SuiteReport>();
  for (const { name, suite } of reports) {
    const { shard = { index: 1, total: 1 } } = suite;
    if (suite.name !== first.suite.name)
      throw refuse(name, `a report of suite ${suite.name}`, `suite ${first.suite.name}`);
    if (shard.plan !== first.suite.shard?.plan)
      throw refuse(name, "a shard of other entries", `the entries of the suite in ${first.name}`);
    if (shard.total !== total || byIndex.has(shard.index))
      throw refuse(name, `shard ${shard.index} of ${shard.total}`, `one of each of ${total} shards`);
    byIndex.set(shard.index, suite);
  }
  // Checked first, since the file states the length of the list that is built below.
  if (total > reports.length)
    throw refuse("merge", `reports of ${reports.length} shards`, `all ${total} shards`);
  const missing = Array.from({ length: total }, (_, index) => index + 1).filter(
    (index) => !byIndex.has(index),
  );
  if (missing.length > 0)
    throw refuse("merge", `no report of shard ${missing.join(", ")}`, `all ${total} shards`);
  const shards = [...byIndex].sort(([a], [b]) => a - b).map(([, suite]) => suite);
  const counts = shards.map(({ entries }) => entries.length);
  const count = counts.reduce((sum, own) => sum + own, 0);
  if (count === 0) throw refuse("merge", "no entry in any shard", "the entries of a suite");
  // Every `total`th entry is in a shard; what was skipped is not counted.
  const isWhole = counts.every((own, at) => own === Math.ceil((count - at) / total));
  if (!isWhole && shards.every(({ skipped }) => skipped.length === 0))
    throw refuse("merge", `shards with ${counts.join(", ")} entries`, "entries shared out evenly");
  const length = Math.max(...shards.map(({ entries }) => entries.length));
  const entries: SuiteEntry[] = [];
  // Takes an entry from each shard in turn, as they were distributed.
  for (let row = 0; row < length; row++)
    for (const shard of shards) entries.push(...shard.entries.slice(row, row + 1));
  const files = new Set<string>();
  for (const { id } of entries) {
    if (files.has(entryFileName(id))) throw refuse("merge", `entry ${id} twice`, "each entry in one shard");
    files.add(entryFileName(id));
  }
  return suiteReport(first.suite.name, entries, { skipped: shards.flatMap(({ skipped }) => skipped) });
}

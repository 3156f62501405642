import type { DatasetFacts } from "../ranking/dataset.js";
import type { DistanceMetric } from "../ranking/distances.js";
import type { RankingCheck } from "../ranking/report.js";
import { recounted } from "../recount.js";
import type { Fault, ParityReport } from "../report.js";

/**
 * The result of a suite, plain JSON (schema `osnet-parity-suite/1`): every entry with its whole report, so that shards
 * can be joined and later runs compared. Deterministic but for the `run` blocks.
 */
export interface SuiteReport {
  /** Name and version of the document; a version's fields keep their meaning. */
  readonly schema: "osnet-parity-suite/1";
  /** The suite's name, from its file. */
  readonly name: string;
  /** Every entry passed, and no shard is missing. */
  readonly passed: boolean;
  /** Of all entries, so that what is wrong stands before what was compared: those of the worst entry first. */
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
}

/** One verification of a suite. */
export interface SuiteEntry {
  /** `model · candidate · backend`, or without the backend where none was asked for; unique in its suite. */
  readonly id: string;
  /** Name of the model in the suite file. */
  readonly model: string;
  /** Name of the candidate in the suite file, such as `onnx`. */
  readonly candidate: string;
  /** The runtime that was asked for; `auto` where the file decides. */
  readonly backend: string;
  /** `error`: a file could not be used, and nothing was compared. */
  readonly status: EntryStatus;
  /** Of all that the result depends on: model, candidate, backend, options and versions. */
  readonly fingerprint: string | null;
  /** Absent after an error. */
  readonly report: ParityReport | null;
  /** How it ranks pictures, where the suite asks for that. */
  readonly ranking?: EntryRanking;
  /** What could not be used; null where something was compared. */
  readonly error: string | null;
  /** Time and cache; absent for an entry that did not run. */
  readonly run?: EntryRun;
}

/** What `osnet-verify rank` finds of the entry, in short. */
export interface EntryRanking {
  /** What was read of the data set, and its folder's name. */
  readonly dataset: DatasetFacts & { readonly name: string };
  /** How far apart two embeddings are taken to be. */
  readonly distance: DistanceMetric;
  /** Each figure that is judged, with its limit: the entry fails where one is above it. */
  readonly checks: readonly RankingCheck[];
  /** Shares by the model and by the candidate; null without labels. */
  readonly mAP: readonly [reference: number, candidate: number] | null;
  /** Shares of queries whose nearest image is a match, likewise; null without labels. */
  readonly rank1: readonly [reference: number, candidate: number] | null;
}

/** Parity holds, and so does the ranking if there is one. */
export function entryStatus(
  report: Pick<ParityReport, "passed">,
  ranking: Pick<EntryRanking, "checks"> | undefined,
): "pass" | "fail" {
  return report.passed && (ranking?.checks ?? []).every(({ value, limit }) => value <= limit)
    ? "pass"
    : "fail";
}

/** `pass`: parity holds. `fail`: it does not. `error`: a file could not be used. */
export type EntryStatus = "pass" | "fail" | "error";

/** What differs between two runs of the same entry. */
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

/** A suite from a file, with all that follows from its entries' reports found again: what it says of itself is not trusted. */
export function recountedSuite({ name, entries, shard, skipped }: SuiteReport): SuiteReport {
  return suiteReport(name, entries.map(recountedEntry), { ...(shard ? { shard } : {}), skipped });
}

function recountedEntry(entry: SuiteEntry): SuiteEntry {
  if (entry.report === null || entry.error !== null)
    return { ...entry, status: "error", report: null, error: entry.error ?? "nothing was compared" };
  const report = recounted(entry.report);
  const { ranking } = entry;
  const checks = ranking?.checks.map((check) => ({ ...check, passed: check.value <= check.limit }));
  return {
    ...entry,
    report,
    ...(ranking && checks ? { ranking: { ...ranking, checks } } : {}),
    status: entryStatus(report, ranking),
  };
}

/** 0: all hold. 1: one does not. 2: a file could not be used. */
export function suiteExitStatus({ entries, passed }: SuiteReport): 0 | 1 | 2 {
  if (entries.some(({ status }) => status === "error")) return 2;
  return passed ? 0 : 1;
}

/** How many entries ended how. */
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
 * A file name for an entry; a suite's plan holds no two ids with the same. Ids that others wrote, which are merged, name
 * nothing outside the folder either.
 */
export function entryFileName(id: string): string {
  return id
    .replaceAll(" · ", "--")
    .replace(/[^\w.+-]/g, "_")
    .slice(0, 240);
}

import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { lstat, mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { sha256 } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { clean, type Paint } from "../../core/text.js";
import { fileError, isFolder } from "../../node/read.js";
import { expectNotInputs, expectWritable, sweepTemporaries } from "../../node/write.js";
import { type BaselineOptions, compareToBaseline } from "../../verify/outcome/baseline.js";
import { entryRankingText, suiteClause, verdictClause, worstMargin } from "../../verify/reports/facts.js";
import { REPORT_FORMATS, renderReport, renderSuite } from "../../verify/reports/index.js";
import {
  chooseEntries,
  nextEntry,
  type PlannedEntry,
  planSuite,
  shardEntries,
} from "../../verify/suite/plan.js";
import {
  entryFileName,
  entryStatus,
  mergeSuites,
  type Shard,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
  suiteExitStatus,
  suiteReport,
} from "../../verify/suite/report.js";
import { badArgument } from "../options.js";
import type { ExitStatus } from "../program.js";
import { type BaselineFlags, baselineOptions, readSuiteReport, writeReport } from "../reports.js";
import { setEngineFlags } from "../start.js";
import { type Io, paintFor, progress } from "../terminal.js";
import { executeEntry } from "./entry.js";
import { filesOf, readSuiteFile, STARTER } from "./file.js";

/** The command's options as parsed by commander. */
interface SuiteOptions extends BaselineFlags {
  readonly reportDir?: string;
  readonly jobs?: number;
  readonly only?: readonly string[];
  readonly failFast?: boolean;
  readonly shard?: Shard;
  readonly cache: boolean | string;
  readonly init?: boolean;
  readonly quiet?: boolean;
}

/** Runs a suite and writes its reports; exit status 0 if all entries pass, 1 if not, 2 if a file could not be used. */
export async function runSuite(path: string | undefined, options: SuiteOptions, io: Io): Promise<ExitStatus> {
  if (options.init) return writeStarter(path ?? "parity.yaml", io);
  if (path === undefined)
    throw badArgument(
      "suite",
      "no file",
      "a suite file, or --init",
      "create one with osnet-verify suite --init",
    );
  const { reportDir, shard } = options;
  if (reportDir === undefined)
    throw badArgument("--report-dir", "no folder", "a folder for the reports", "name one, such as parity/");
  const comparison = baselineOptions(options);
  const baseline = comparison && (await readSuiteReport(comparison.path));
  const suite = await readSuiteFile(path);
  const planned = planSuite(suite, basename(path));
  const { entries, leftOut } = selectEntries(planned, options.only ?? [], shard);
  if (
    baseline &&
    comparison &&
    !entries.some(({ id }) => baseline.entries.some((entry) => entry.id === id && entry.report))
  )
    throw badArgument(
      "--baseline",
      `${comparison.name}, which has no report of these entries`,
      "an earlier suite.json of this suite",
      "use the report of an earlier run",
    );
  await expectNotInputs(
    reportPaths(
      reportDir,
      entries.map(({ id }) => id),
    ),
    [path, comparison?.path, ...new Set(entries.flatMap((entry) => filesOf(entry, dirname(path))))],
  );
  await prepareFolder(reportDir);
  const cache = options.cache === false ? undefined : cacheFolder(options.cache, reportDir);
  if (cache !== undefined) await expectNoLink(cache);
  if (cache !== undefined) await sweepTemporaries(cache);

  const say = (text: string): void => void (options.quiet || io.stdout.write(`${text}\n`));
  const bar = progress("", io);
  const paint = paintFor(io.stdout);
  const ended = new Map<string, SuiteEntry>();
  await runEntries(entries, {
    folder: dirname(path),
    cache,
    jobs: options.jobs,
    io,
    onProgress: ({ id }, done, total) =>
      bar.update(done, total, `[${ended.size}/${entries.length}] ${clean(id)}: layer`),
    onResult(result) {
      const entry = baseline && comparison ? compared(result, baseline, comparison) : result;
      ended.set(entry.id, entry);
      bar.clear();
      say(entryLine(entry, ended.size, entries.length, paint));
      return entry.status === "pass" || !options.failFast;
    },
  });
  const report = suiteReport(
    suite.name ?? basename(path),
    entries.flatMap(({ id }) => ended.get(id) ?? []),
    {
      ...(shard ? { shard: { ...shard, plan: await planOf(planned) } } : {}),
      skipped: [...entries.map(({ id }) => id).filter((id) => !ended.has(id)), ...leftOut],
    },
  );
  await writeSuite(report, reportDir);
  say(verdictLine(report, reportDir, paint));
  return suiteExitStatus(report);
}

function planOf(planned: readonly PlannedEntry[]): Promise<string> {
  return sha256(new TextEncoder().encode(JSON.stringify(planned)));
}

/** The entry compared with its report in the baseline, if there is one. */
function compared(entry: SuiteEntry, baseline: SuiteReport, options: BaselineOptions): SuiteEntry {
  const earlier = baseline.entries.find(({ id }) => id === entry.id)?.report;
  if (!earlier || !entry.report) return entry;
  try {
    const report = compareToBaseline(entry.report, earlier, options);
    return { ...entry, report, status: entryStatus(report, entry.ranking) };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return { ...entry, report: null, status: "error", error: error.message };
  }
}

function cacheFolder(cache: boolean | string, reportDir: string): string {
  return typeof cache === "string" ? cache : join(reportDir, ".cache");
}

async function writeStarter(path: string, { stdout }: Io): Promise<ExitStatus> {
  await expectWritable(path, false);
  await writeReport(path, STARTER);
  stdout.write(`wrote ${path}; run it with osnet-verify suite ${path} --report-dir parity/\n`);
  return 0;
}

/** The entries of a plan that this run executes, and the ids of those of its shard that it skips. */
interface Selection {
  readonly entries: readonly PlannedEntry[];
  readonly leftOut: readonly string[];
}

/**
 * Narrows a plan by `--only`, then to a shard. Entries of other shards are not counted as skipped.
 *
 * @throws InputError (`argument`) if no entry's name contains what `only` asks for
 */
function selectEntries(
  planned: readonly PlannedEntry[],
  only: readonly string[],
  shard: Shard | undefined,
): Selection {
  const chosen = chooseEntries(planned, only);
  if (chosen.length === 0)
    throw badArgument(
      "--only",
      only.join(", "),
      "part of an entry's name",
      `choose from ${planned
        .slice(0, 5)
        .map(({ id }) => id)
        .join("; ")}`,
    );
  if (!shard) return { entries: chosen, leftOut: idsWithout(planned, chosen) };
  return {
    entries: shardEntries(chosen, shard),
    leftOut: idsWithout(shardEntries(planned, shard), chosen),
  };
}

function idsWithout(all: readonly PlannedEntry[], chosen: readonly PlannedEntry[]): readonly string[] {
  const ids = new Set(chosen.map(({ id }) => id));
  return all.map(({ id }) => id).filter((id) => !ids.has(id));
}

interface PoolOptions {
  readonly folder: string;
  readonly cache: string | undefined;
  /** Entries at a time; with 1, they run in this process. Default: one per processor, at most 4. */
  readonly jobs: number | undefined;
  readonly io: Io;
  /** Called for each entry when it ends; false prevents others from starting. */
  readonly onResult: (result: SuiteEntry) => boolean;
  readonly onProgress: (entry: PlannedEntry, done: number, total: number) => void;
}

/** Beside this file as compiled; if the TypeScript source runs directly, it does not exist, and no process is started. */
const WORKER = new URL("./worker.js", import.meta.url);

/** Each needs as much memory as a verification. */
const DEFAULT_MAX_JOBS = 4;

function defaultJobs(): number {
  return existsSync(WORKER) ? Math.min(DEFAULT_MAX_JOBS, availableParallelism()) : 1;
}

/** Runs entries, several at a time in separate processes, since the runtimes do not support concurrent use in one. */
async function runEntries(
  entries: readonly PlannedEntry[],
  options: PoolOptions,
): Promise<ReadonlyMap<string, SuiteEntry>> {
  const results = new Map<string, SuiteEntry>();
  const queue = [...entries];
  let isStopped = false;
  const finish = (result: SuiteEntry, { id }: PlannedEntry): void => {
    results.set(id, result);
    if (!options.onResult(result)) isStopped = true;
  };
  const jobs = Math.min(options.jobs ?? defaultJobs(), entries.length);
  const begun = new Set<string>();
  const lane = async (run: (entry: PlannedEntry) => Promise<SuiteEntry>): Promise<void> => {
    let model: string | undefined;
    while (!isStopped) {
      const [entry] = queue.splice(nextEntry(queue, model, begun), 1);
      if (!entry) return;
      model = entry.model;
      begun.add(model);
      finish(await run(entry), entry);
    }
  };
  if (jobs <= 1) {
    setEngineFlags(true);
    await lane((entry) =>
      executeEntry(entry, options, (done, total) => options.onProgress(entry, done, total)),
    );
    return results;
  }
  // Where every processor has a process, threads that collect garbage would take time from the others, and more of it.
  const flags = jobs < availableParallelism() ? [] : ["--single-threaded-gc"];
  const execArgv = [...process.execArgv, ...flags];
  const workers = Array.from({ length: jobs }, () => fork(WORKER, { execArgv }));
  try {
    await Promise.all(workers.map((worker) => lane((entry) => runIn(worker, entry, options))));
  } finally {
    for (const worker of workers) worker.disconnect();
  }
  return results;
}

function runIn(
  worker: ChildProcess,
  entry: PlannedEntry,
  { folder, cache }: PoolOptions,
): Promise<SuiteEntry> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null): void =>
      reject(new Error(`the process that ran ${entry.id} ended (${code})`));
    worker.once("exit", ended);
    worker.once("message", ({ result, bug }: { readonly result?: SuiteEntry; readonly bug?: string }) => {
      worker.removeListener("exit", ended);
      if (result) resolve(result);
      else reject(new Error(bug));
    });
    worker.send({ entry, folder, cache });
  });
}

/** The folder of the entries' reports, beside the suite's. */
const ENTRIES = "entries";

/** Creates a report folder, and removes what killed runs have left in it. */
async function prepareFolder(path: string): Promise<void> {
  const entries = join(path, ENTRIES);
  await expectNoLink(entries);
  try {
    await mkdir(entries, { recursive: true });
  } catch {
    throw new InputError({
      code: "file",
      subject: path,
      found: "cannot create this folder",
      remedy: "choose another --report-dir",
    });
  }
  await sweepTemporaries(path);
  await sweepTemporaries(entries);
}

/**
 * Reports and cache entries replace files of the same name, but not in a folder reached through a link.
 *
 * @throws InputError (`file`) if the path is a link
 */
async function expectNoLink(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSymbolicLink())
    throw fileError(path, "a link", "a folder", "remove it, or choose another --report-dir");
}

/**
 * The paths of all reports of a suite.
 *
 * @param ids of the entries that may have reports
 */
function reportPaths(folder: string, ids: readonly string[]): readonly string[] {
  const names = [...ids.map((id) => join(ENTRIES, entryFileName(id))), "suite"];
  return names.flatMap((name) => REPORT_FORMATS.map((format) => join(folder, `${name}.${format}`)));
}

/** The entries' reports first, so that the summary never links to missing ones. */
async function writeSuite(suite: SuiteReport, folder: string): Promise<void> {
  for (const { id, report } of suite.entries)
    if (report)
      for (const format of REPORT_FORMATS)
        await writeReport(
          join(folder, ENTRIES, `${entryFileName(id)}.${format}`),
          await renderReport(report, format),
        );
  for (const format of REPORT_FORMATS)
    await writeReport(join(folder, `suite.${format}`), await renderSuite(suite, format));
}

/** `[ 3/37] pass  osnet_x1_0 · onnx · onnxruntime  worst margin 0.99  1.2 s`, as an entry ends. */
function entryLine(
  { id, status, report, ranking, error, run }: SuiteEntry,
  done: number,
  total: number,
  paint: Paint,
): string {
  const place = `[${String(done).padStart(String(total).length)}/${total}]`;
  const word = status === "pass" ? paint.good("pass ") : paint.bad(status.padEnd(5));
  const time = run?.cached ? "cached" : `${(run?.seconds ?? 0).toFixed(1)} s`;
  const passed = report?.passed ? `worst margin ${worstMargin(report)}` : undefined;
  const what = passed ?? (report ? verdictClause(report) : (error ?? "").split("\n", 1)[0]);
  const ranked = ranking ? `; ${entryRankingText(ranking)}` : "";
  return `${place} ${word} ${clean(id)}  ${clean(`${what ?? ""}${ranked}`)}  ${paint.faint(time)}`;
}

/** The last line, with the location of the reports. */
function verdictLine(suite: SuiteReport, folder: string, paint: Paint): string {
  const { shard } = suite;
  if (shard && suite.entries.length + suite.skipped.length === 0)
    return `shard ${shard.index} of ${shard.total} has no entries; reports in ${folder}`;
  const { cached } = suiteCounts(suite);
  const fromCache = cached > 0 ? `, ${cached} taken from the cache` : "";
  return `${suite.passed ? paint.good("PASS") : paint.bad("FAIL")}  ${suiteClause(suite)}${fromCache}; reports in ${folder}`;
}

/** Joins the reports of a suite's shards, given their folders or `suite.json` files. */
export async function mergeReports(
  inputs: readonly string[],
  { reportDir, quiet }: { readonly reportDir: string; readonly quiet?: boolean },
  { stdout }: Io,
): Promise<ExitStatus> {
  const paths: string[] = [];
  const reports: { readonly name: string; readonly suite: SuiteReport }[] = [];
  for (const input of inputs) {
    const path = (await isFolder(input)) ? join(input, "suite.json") : input;
    paths.push(path);
    reports.push({ name: input, suite: await readSuiteReport(path) });
  }
  const merged = mergeSuites(reports);
  const ids = merged.entries.map(({ id }) => id);
  await expectNotInputs(reportPaths(reportDir, ids), paths);
  await prepareFolder(reportDir);
  await writeSuite(merged, reportDir);
  if (!quiet) stdout.write(`${verdictLine(merged, reportDir, paintFor(stdout))}\n`);
  return suiteExitStatus(merged);
}

import { mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { InputError } from "../../src/errors.js";
import { expectWritable, isFolder } from "../../src/files.js";
import { clean } from "../../src/terminal-text.js";
import { compareToBaseline } from "../../src/verify/baseline.js";
import { formatMargin, plural, verdictClause, worstMargin } from "../../src/verify/reports/facts.js";
import { REPORT_FORMATS, renderReport, renderSuite } from "../../src/verify/reports/index.js";
import { mergeSuites } from "../../src/verify/suite/merge.js";
import { chooseEntries, planSuite, shardEntries } from "../../src/verify/suite/plan.js";
import {
  entryFileName,
  type Shard,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
  suiteExitStatus,
  suiteReport,
} from "../../src/verify/suite/report.js";
import { type BaselineFlags, parseBaseline, readSuiteReport } from "./baseline.js";
import type { ExitStatus } from "./options.js";
import { writeReport } from "./reports.js";
import { runEntries } from "./suite/pool.js";
import { readSuiteFile } from "./suite/read-suite.js";
import { PAINT, progress } from "./terminal.js";

/** The command's options, as commander hands them over. */
interface SuiteOptions extends BaselineFlags {
  readonly reportDir?: string;
  readonly jobs?: number;
  readonly only?: readonly string[];
  readonly failFast?: boolean;
  readonly shard?: string;
  readonly cache: boolean | string;
  readonly init?: boolean;
  readonly quiet?: boolean;
}

/** Runs a suite and writes its reports; exit status 0 if all holds, 1 if not, 2 if a file could not be used. */
export async function runSuite(path: string | undefined, options: SuiteOptions): Promise<ExitStatus> {
  if (options.init) return writeStarter(path ?? "parity.yaml");
  if (path === undefined)
    throw badArgument(
      "suite",
      "no file",
      "a suite file, or --init",
      "write one with osnet-verify suite --init",
    );
  const { reportDir } = options;
  if (reportDir === undefined)
    throw badArgument("--report-dir", "no folder", "a folder for the reports", "name one such as parity/");
  const shard = parseShard(options.shard);
  const baselineOptions = parseBaseline(options);
  const baseline = baselineOptions ? await readSuiteReport(baselineOptions.path) : undefined;
  const { suite } = await readSuiteFile(path);
  const planned = planSuite(suite, basename(path));
  const chosen = chooseEntries(planned, options.only ?? []);
  if (chosen.length === 0)
    throw badArgument(
      "--only",
      (options.only ?? []).join(", "),
      "a part of an entry's name",
      `choose among ${planned
        .slice(0, 5)
        .map(({ id }) => id)
        .join("; ")}`,
    );
  const entries = shard ? shardEntries(chosen, shard) : chosen;
  await prepareFolder(join(reportDir, "entries"));
  const say = (text: string): void => void (options.quiet || process.stdout.write(`${text}\n`));

  const bar = progress("");
  const compare = (entry: SuiteEntry): SuiteEntry => {
    const earlier = baseline?.entries.find(({ id }) => id === entry.id)?.report;
    if (!earlier || !entry.report || !baselineOptions) return entry;
    const report = compareToBaseline(entry.report, earlier, baselineOptions);
    return { ...entry, report, status: report.passed ? "pass" : "fail" };
  };
  const compared = new Map<string, SuiteEntry>();
  await runEntries(entries, {
    folder: dirname(path),
    cache: options.cache === false ? undefined : cacheFolder(options.cache, reportDir),
    jobs: options.jobs ?? 1,
    onProgress: (entry, done, total) =>
      bar.update(done, total, `${compared.size + 1}/${entries.length} ${clean(entry.id)}, layer`),
    onResult(result) {
      const entry = compare(result);
      compared.set(entry.id, entry);
      bar.clear();
      say(entryLine(entry, compared.size, entries.length));
      return entry.status === "pass" || !options.failFast;
    },
  });
  const done = entries.flatMap(({ id }) => compared.get(id) ?? []);
  const run = new Set(done.map(({ id }) => id));
  // What another shard runs is not this one's to skip.
  const mine = shard ? shardEntries(planned, shard) : planned;
  const report = suiteReport(suite.name ?? basename(path), done, {
    ...(shard ? { shard } : {}),
    skipped: (shard
      ? [...entries, ...mine.filter(({ id }) => !chosen.some((one) => one.id === id))]
      : planned
    )
      .filter(({ id }) => !run.has(id))
      .map(({ id }) => id),
  });
  await writeSuite(report, reportDir);
  say(verdictLine(report, reportDir));
  return suiteExitStatus(report);
}

/** Joins the reports of a suite's shards, by their folders or `suite.json` files. */
export async function mergeReports(
  inputs: readonly string[],
  { reportDir, quiet }: { readonly reportDir: string; readonly quiet?: boolean },
): Promise<ExitStatus> {
  const reports: { readonly name: string; readonly suite: SuiteReport }[] = [];
  for (const input of inputs) {
    const path = (await isFolder(input)) ? join(input, "suite.json") : input;
    reports.push({ name: input, suite: await readSuiteReport(path) });
  }
  const merged = mergeSuites(reports);
  await prepareFolder(join(reportDir, "entries"));
  await writeSuite(merged, reportDir);
  if (!quiet) process.stdout.write(`${verdictLine(merged, reportDir)}\n`);
  return suiteExitStatus(merged);
}

/** The entries' reports first: when the summary is there, what it links to is. */
async function writeSuite(suite: SuiteReport, folder: string): Promise<void> {
  for (const entry of suite.entries)
    if (entry.report)
      for (const format of REPORT_FORMATS)
        await writeReport(
          join(folder, "entries", `${entryFileName(entry)}.${format}`),
          await renderReport(entry.report, format),
        );
  for (const format of REPORT_FORMATS)
    await writeReport(join(folder, `suite.${format}`), await renderSuite(suite, format));
}

async function prepareFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch {
    throw new InputError({
      code: "file",
      subject: path,
      found: "a path where no folder can be made",
      expected: "a folder for the reports",
      remedy: "choose another --report-dir",
    });
  }
}

function cacheFolder(cache: boolean | string, reportDir: string): string {
  return typeof cache === "string" ? cache : join(reportDir, ".cache");
}

async function writeStarter(path: string): Promise<ExitStatus> {
  await expectWritable(path, false);
  const { STARTER } = await import("./suite/starter.js");
  await writeReport(path, STARTER);
  process.stdout.write(`wrote ${path}; run it with osnet-verify suite ${path} --report-dir parity/\n`);
  return 0;
}

function entryLine({ id, status, report, error, run }: SuiteEntry, done: number, total: number): string {
  const place = `[${String(done).padStart(String(total).length)}/${total}]`;
  const word = status === "pass" ? PAINT.good("pass ") : PAINT.bad(status.padEnd(5));
  const time = run?.cached ? "cached" : `${(run?.seconds ?? 0).toFixed(1)} s`;
  const what = report
    ? status === "pass"
      ? `worst margin ${formatMargin(worstMargin(report.layers))}`
      : verdictClause(report)
    : (error ?? "").split("\n", 1)[0];
  return `${place} ${word} ${clean(id)}  ${clean(what ?? "")}  ${PAINT.faint(time)}`;
}

function verdictLine(suite: SuiteReport, folder: string): string {
  const { pass, fail, error, cached } = suiteCounts(suite);
  const parts = [
    `${pass} of ${plural(suite.entries.length, "entry", "entries")} hold`,
    ...(fail > 0 ? [`${fail} do not`] : []),
    ...(error > 0 ? [`${error} could not be run`] : []),
    ...(cached > 0 ? [`${cached} from the cache`] : []),
    ...(suite.skipped.length > 0 ? [`${suite.skipped.length} not run`] : []),
  ];
  return `${suite.passed ? PAINT.good("PASS") : PAINT.bad("FAIL")}  ${parts.join(", ")}; reports in ${folder}`;
}

/** `--shard 2/4`. */
function parseShard(text: string | undefined): Shard | undefined {
  if (text === undefined) return undefined;
  const [, index = 0, total = 0] = /^(\d{1,4})\/(\d{1,4})$/.exec(text)?.map(Number) ?? [];
  if (index >= 1 && index <= total) return { index, total };
  throw badArgument("--shard", JSON.stringify(text), "INDEX/TOTAL such as 2/4", "count from 1");
}

function badArgument(subject: string, found: string, expected: string, remedy: string): InputError {
  return new InputError({ code: "argument", subject, found, expected, remedy });
}

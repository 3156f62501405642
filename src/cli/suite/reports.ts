import { lstat, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../../core/errors.js";
import { clean, type Paint } from "../../core/text.js";
import { fileError } from "../../node/errors.js";
import { isFolder } from "../../node/read.js";
import { expectNotInputs, sweepTemporaries } from "../../node/write.js";
import { suiteClause, verdictClause, worstMargin } from "../../verify/reports/facts.js";
import { REPORT_FORMATS, renderReport, renderSuite } from "../../verify/reports/index.js";
import { entryRankingText } from "../../verify/reports/ranking-facts.js";
import {
  entryFileName,
  mergeSuites,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
  suiteExitStatus,
} from "../../verify/suite/report.js";
import type { ExitStatus } from "../program.js";
import { readSuiteReport, writeReport } from "../reports.js";
import { type Io, paintFor } from "../terminal.js";

/** The folder of the entries' reports, beside the suite's. */
const ENTRIES = "entries";

/** Creates a report folder, and removes what killed runs have left in it. */
export async function prepareFolder(path: string): Promise<void> {
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
export async function expectNoLink(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSymbolicLink())
    throw fileError(path, "a link", "a folder", "remove it, or choose another --report-dir");
}

/**
 * The paths of all reports of a suite.
 *
 * @param ids of the entries that may have reports
 */
export function reportPaths(folder: string, ids: readonly string[]): readonly string[] {
  const names = [...ids.map((id) => join(ENTRIES, entryFileName(id))), "suite"];
  return names.flatMap((name) => REPORT_FORMATS.map((format) => join(folder, `${name}.${format}`)));
}

/** The entries' reports first, so that the summary never links to missing ones. */
export async function writeSuite(suite: SuiteReport, folder: string): Promise<void> {
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
export function entryLine(
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
export function verdictLine(suite: SuiteReport, folder: string, paint: Paint): string {
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

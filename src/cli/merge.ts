import { join } from "node:path";
import { expectNotInputs, isFolder } from "../node/index.js";
import { mergeSuites } from "../verify/suite/merge.js";
import { type SuiteReport, suiteExitStatus } from "../verify/suite/report.js";
import type { ExitStatus } from "./program.js";
import { readSuiteReport } from "./reports.js";
import { verdictLine } from "./suite/lines.js";
import { prepareFolder, reportPaths, writeSuite } from "./suite/write.js";
import { type Io, paintFor } from "./terminal.js";

/** Joins the reports of a suite's shards, by their folders or `suite.json` files. */
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

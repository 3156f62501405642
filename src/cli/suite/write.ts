import { lstat, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../../core/errors.js";
import { fileError, sweepTemporaries } from "../../node/index.js";
import { REPORT_FORMATS, renderReport, renderSuite } from "../../verify/reports/index.js";
import { entryFileName, type SuiteReport } from "../../verify/suite/report.js";
import { writeReport } from "../reports.js";

/** The folder of the entries' own reports, beside the suite's. */
const ENTRIES = "entries";

/** Makes a report folder, and clears it of what runs that were killed have left. */
export async function prepareFolder(path: string): Promise<void> {
  const entries = join(path, ENTRIES);
  await expectNoLink(entries);
  try {
    await mkdir(entries, { recursive: true });
  } catch {
    throw new InputError({
      code: "file",
      subject: path,
      found: "a path where a folder cannot be created",
      expected: "a folder for the reports",
      remedy: "choose another --report-dir",
    });
  }
  await sweepTemporaries(path);
  await sweepTemporaries(entries);
}

/**
 * Reports and cache entries replace what has their names: not in a folder that a link leads to.
 *
 * @throws InputError (`file`) if the path is a link
 */
export async function expectNoLink(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSymbolicLink())
    throw fileError(
      path,
      "a link",
      "a folder of this suite's own",
      "remove it, or choose another --report-dir",
    );
}

/**
 * The paths of all reports of a suite.
 *
 * @param ids of the entries that may have some
 */
export function reportPaths(folder: string, ids: readonly string[]): readonly string[] {
  const names = [...ids.map((id) => join(ENTRIES, entryFileName(id))), "suite"];
  return names.flatMap((name) => REPORT_FORMATS.map((format) => join(folder, `${name}.${format}`)));
}

/** The entries' reports first: when the summary is there, what it links to is. */
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

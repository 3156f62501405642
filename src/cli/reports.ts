import { extname } from "node:path";
import { writeChecked } from "../node/index.js";
import { REPORT_FORMATS, type ReportFormat } from "../verify/reports/index.js";
import { alternatives, badArgument } from "./options.js";

/** @throws InputError (`argument`) if a report's suffix is no format */
export function expectReportFormat(path: string): ReportFormat {
  const suffix = extname(path).slice(1).toLowerCase();
  const format = REPORT_FORMATS.find((name) => name === suffix);
  if (format) return format;
  const suffixes = alternatives(REPORT_FORMATS.map((name) => `.${name}`));
  throw badArgument("--report", JSON.stringify(path), `a file whose name ends in ${suffixes}`, "name one");
}

/** Writes a report so that either the earlier one or the new one is there, whatever happens. */
export async function writeReport(path: string, text: string): Promise<void> {
  await writeChecked(path, new TextEncoder().encode(text), {
    force: true,
    check: async () => undefined,
    accept: () => true,
  });
}

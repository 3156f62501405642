import type { ParityReport } from "../report.js";

/** The report as JSON text, the same for the same result. */
export function renderJson(report: ParityReport): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}

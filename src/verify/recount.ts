import type { ParityReport } from "./report.js";

/**
 * Whether a report's own figures let it pass: no fault, nothing that fails, something that was judged, and no regression
 * that counts. The one rule for what was just verified and for a report that was read from a file.
 */
export function holds({
  faults,
  layers,
  gates,
  output,
  baseline,
}: Pick<ParityReport, "faults" | "layers" | "gates" | "output" | "baseline">): boolean {
  const statuses = [...layers, ...gates, ...(output ? [output] : [])].map(({ status }) => status);
  return (
    faults.length === 0 &&
    !statuses.includes("fail") &&
    layers.some(({ status }) => status === "pass") &&
    !(baseline?.policy === "fail" && baseline.regressions.length > 0)
  );
}

/** A report from a file, with its verdict found again: what it says of itself is not trusted. */
export function recounted(report: ParityReport): ParityReport {
  return { ...report, passed: holds(report) };
}

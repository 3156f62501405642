import { clean, type Paint } from "../../core/text.js";
import { suiteClause, verdictClause, worstMargin } from "../../verify/reports/facts.js";
import { entryRankingText } from "../../verify/reports/ranking/facts.js";
import { type SuiteEntry, type SuiteReport, suiteCounts } from "../../verify/suite/report.js";

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

/** The last line, with where the reports are. */
export function verdictLine(suite: SuiteReport, folder: string, paint: Paint): string {
  const { cached } = suiteCounts(suite);
  const fromCache = cached > 0 ? `, ${cached} taken from the cache` : "";
  return `${suite.passed ? paint.good("PASS") : paint.bad("FAIL")}  ${suiteClause(suite)}${fromCache}; reports in ${folder}`;
}

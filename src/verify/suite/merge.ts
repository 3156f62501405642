import { InputError } from "../../core/errors.js";
import { entryFileName, type SuiteEntry, type SuiteReport, suiteReport } from "./report.js";

/**
 * Joins the reports of a suite's shards, whose entries come back into the suite's order.
 *
 * @throws InputError (`argument`) if they are not one of each shard of one suite
 */
export function mergeSuites(
  reports: readonly { readonly name: string; readonly suite: SuiteReport }[],
): SuiteReport {
  const [first] = reports;
  const refuse = (subject: string, found: string, expected: string): InputError =>
    new InputError({
      code: "argument",
      subject,
      found,
      expected,
      remedy: "give the report of every shard once",
    });
  if (!first) throw refuse("merge", "no report", "the reports of a suite's shards");
  const total = first.suite.shard?.total ?? 1;
  const byIndex = new Map<number, SuiteReport>();
  for (const { name, suite } of reports) {
    const { shard = { index: 1, total: 1 } } = suite;
    if (suite.name !== first.suite.name)
      throw refuse(name, `a report of suite ${suite.name}`, `suite ${first.suite.name}`);
    if (shard.total !== total || byIndex.has(shard.index))
      throw refuse(name, `shard ${shard.index} of ${shard.total}`, `one of each of ${total} shards`);
    byIndex.set(shard.index, suite);
  }
  // Before a list is made of as many as a file says there are.
  if (total > reports.length)
    throw refuse("merge", `reports of ${reports.length} shards`, `all ${total} shards`);
  const missing = Array.from({ length: total }, (_, index) => index + 1).filter(
    (index) => !byIndex.has(index),
  );
  if (missing.length > 0)
    throw refuse("merge", `no report of shard ${missing.join(", ")}`, `all ${total} shards`);
  const shards = [...byIndex].sort(([a], [b]) => a - b).map(([, suite]) => suite);
  const length = Math.max(...shards.map(({ entries }) => entries.length));
  const entries: SuiteEntry[] = [];
  // Shards take turns, as they did when the entries were dealt out.
  for (let row = 0; row < length; row++)
    for (const shard of shards) entries.push(...shard.entries.slice(row, row + 1));
  const files = new Set<string>();
  for (const { id } of entries) {
    if (files.has(entryFileName(id))) throw refuse("merge", `entry ${id} twice`, "each entry in one shard");
    files.add(entryFileName(id));
  }
  return suiteReport(first.suite.name, entries, { skipped: shards.flatMap(({ skipped }) => skipped) });
}

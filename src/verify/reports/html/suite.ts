import {
  entryFileName,
  failuresFirst,
  type SuiteEntry,
  type SuiteReport,
  suiteCounts,
} from "../../suite/report.js";
import { plural, suiteClause, verdictClause } from "../facts.js";
import { checkText } from "../ranking/facts.js";
import { html, type Markup } from "./markup.js";
import { renderPage, type Tile } from "./page.js";
import { baselineSection, entrySection, type Wrong, whereSection, wrongList, wrongsOf } from "./sections.js";

/**
 * The overview of a suite: what failed and why, every entry with its figures, and where in the network each entry comes
 * nearest to its tolerance.
 *
 * @param entryLink where an entry's own report is, if it is beside this one; by `entryFileName`
 */
export function renderSuiteHtml(
  suite: SuiteReport,
  { entryLink }: { readonly entryLink?: (file: string) => string } = {},
): Promise<string> {
  const { name, passed, shard, entries } = suite;
  const failed = failuresFirst(entries).filter(({ status }) => status !== "pass");
  const link = (entry: SuiteEntry): Markup =>
    entryLink && entry.report
      ? html`<a href="${entryLink(entryFileName(entry.id))}">${entry.id}</a>`
      : html`${entry.id}`;
  const regressed = entries.flatMap(({ id, report }) =>
    report?.baseline && report.baseline.regressions.length > 0 ? [{ id, comparison: report.baseline }] : [],
  );
  return renderPage({
    title: name,
    status: passed ? "pass" : "fail",
    verdict: suiteClause(suite),
    subject: html`${name}${shard ? `, shard ${shard.index} of ${shard.total}` : ""}`,
    tiles: tiles(suite),
    sections: [
      ...(failed.length > 0 ? [["failures", "What fails"] as const] : []),
      ...(regressed.length > 0 ? [["regressions", "Baseline"] as const] : []),
      ["entries", "Entries"],
      ["where", "Where"],
    ],
    body: [
      ...(failed.length > 0 ? [failureSection(failed, link)] : []),
      ...(regressed.length > 0
        ? [
            html`<div id="regressions">${regressed.slice(0, 40).map(({ id, comparison }, index) => baselineSection(comparison, { id, index }))}</div>`,
          ]
        : []),
      entrySection(suite, link),
      whereSection(suite, link),
    ],
    footer: "Written by osnet-verify suite.",
  });
}

function tiles(suite: SuiteReport): readonly Tile[] {
  const { pass, fail, error, cached } = suiteCounts(suite);
  const total = suite.entries.length;
  const distinct = (key: "model" | "candidate" | "backend"): number =>
    new Set(suite.entries.map((entry) => entry[key])).size;
  const places = [distinct("model"), distinct("candidate"), distinct("backend")].join(" × ");
  return [
    { figure: pass === total ? String(total) : `${pass} of ${total}`, label: "entries hold" },
    ...(fail > 0 ? [{ figure: String(fail), label: "do not hold", isBad: true }] : []),
    ...(error > 0 ? [{ figure: String(error), label: "could not be run", isBad: true }] : []),
    { figure: places, label: "models × candidates × backends" },
    ...(cached > 0 ? [{ figure: String(cached), label: "unchanged, taken from the cache" }] : []),
    ...(suite.skipped.length > 0 ? [{ figure: String(suite.skipped.length), label: "not run" }] : []),
  ];
}

/** Faults of one entry that stand open; the rest unfolds. */
const MOST = 3;

/** Worst entries first, so that what a reviewer must see is on the first screen. */
function failureSection(failed: readonly SuiteEntry[], link: (entry: SuiteEntry) => Markup): Markup {
  const byEntry = failed.map(wrongsOfEntry);
  const share = (from: number, to?: number): readonly Wrong[] =>
    failed.flatMap((entry, index) =>
      (byEntry[index] ?? []).slice(from, to).map((wrong) => ({ ...wrong, of: link(entry) })),
    );
  const more = share(MOST);
  return html`<section id="failures" aria-labelledby="failures-h"><h2 id="failures-h">What fails</h2>
${more.length > 0 ? html`<p class="soft">The first three faults of each entry.</p>` : ""}${wrongList(share(0, MOST))}
${more.length > 0 ? html`<details><summary>${plural(more.length, "more fault")}</summary>${wrongList(more)}</details>` : ""}</section>`;
}

function wrongsOfEntry({ id, report, ranking, error }: SuiteEntry): readonly Wrong[] {
  const ranked = (ranking?.checks ?? []).filter(({ passed }) => !passed);
  const faults = [
    ...wrongsOf(report?.faults ?? []),
    ...ranked.map((check) => ({
      name: ranking?.dataset.name ?? "",
      kind: "ranking",
      what: checkText(check),
    })),
  ];
  if (faults.length > 0) return faults;
  if (report) return [{ name: id, kind: "regression", what: verdictClause(report) }];
  return [{ name: id, kind: "could not be run", what: error ?? "nothing was compared", isWarning: true }];
}

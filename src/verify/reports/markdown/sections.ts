/** Parts of Markdown reports that a model's and a suite's have in common. */
import type { BaselineComparison, Change, Fault } from "../../report.js";
import { formatMargin, plural } from "../facts.js";
import { groupFaults } from "../faults.js";
import { code, table, text } from "./text.js";

export function faultTable(faults: readonly Fault[], most: number): string {
  const rows = groupFaults(faults).map(({ name, kind, worst }) => [
    code(name),
    kind,
    formatMargin(worst.margin),
    text(worst.explanation, 400),
  ]);
  return table(["layer", "kind", "margin", "what is wrong"], "llrl", rows, most);
}

export function baselineSection(comparison: BaselineComparison): string {
  const { name, factor, policy, regressions, improvements, added, removed, notes } = comparison;
  const summary = [
    regressions.length === 0
      ? `No figure is more than ${factor} times what it was.`
      : `${plural(regressions.length, "figure")} more than ${factor} times what it was (${policy === "fail" ? "which fails" : "a warning"}).`,
    ...(improvements.length > 0 ? [`${plural(improvements.length, "figure")} better by as much.`] : []),
    ...(added.length > 0 ? [`${plural(added.length, "layer")} new.`] : []),
    ...(removed.length > 0 ? [`${plural(removed.length, "layer")} gone.`] : []),
    ...notes.map((note) => `Note: ${text(note)}.`),
  ].join(" ");
  return [
    `### Compared with ${code(name)}\n\n${summary}`,
    ...(regressions.length > 0 ? [changeTable(regressions, 10)] : []),
    ...(improvements.length > 0 ? [`Better:\n\n${changeTable(improvements, 3)}`] : []),
  ].join("\n\n");
}

function changeTable(changes: readonly Change[], most: number): string {
  const rows = changes.map(({ layer, figure, before, after }) => [
    code(layer),
    figure,
    formatMargin(before),
    formatMargin(after),
  ]);
  return table(["layer", "figure", "before", "now"], "llrr", rows, most);
}

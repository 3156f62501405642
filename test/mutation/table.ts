import { RULES } from "./rules.js";
import { type CorrectTally, type MutantTally, medianOf, type RuleCounts } from "./tally.js";

/** Where the tables are in docs/verification-results.md. */
export const BEGIN = "<!-- npm run mutation -- --write: begin -->";
export const END = "<!-- npm run mutation -- --write: end -->";

type Row = readonly (string | number)[];

/** The tables as Markdown: mutants by operator, correct models by kind, margins by operation. */
export function tables(
  mutants: ReadonlyMap<string, MutantTally>,
  correct: ReadonlyMap<string, CorrectTally>,
): string {
  const ruleNames = RULES.map(({ name }) => name);
  return [
    table(
      ["mutants", "judged", "killed", "located", "explained", "by values", ...ruleNames],
      [...mutants, ["**all**", sumOf([...mutants.values()])] as const].map(([name, tally]) =>
        mutantRow(name, tally),
      ),
    ),
    table(
      ["correct models", "runs", "alarms", "dot products: median", "largest", ...ruleNames],
      [...correct, ["**all**", mergedRuns([...correct.values()])] as const].map(([name, tally]) =>
        correctRow(name, tally),
      ),
    ),
    table(
      ["margin of", "layers", "median", "99 %", "largest"],
      [...mergedRuns([...correct.values()]).margins].map(([name, values]) => {
        const sorted = values.toSorted((a, b) => a - b);
        const at = (share: number): string =>
          figure(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
        return [name, values.length, at(0.5), at(0.99), at(1)];
      }),
    ),
  ].join("\n\n");
}

function mutantRow(name: string, { judged, blind, equivalent, rules }: MutantTally): Row {
  const all =
    judged.of === 0
      ? `${equivalent} equivalent`
      : equivalent > 0
        ? `${judged.of} + ${equivalent} equivalent`
        : judged.of;
  return [
    name,
    all,
    judged.killed,
    judged.located,
    judged.explained,
    `${blind.killed} of ${blind.of}`,
    ...ruleCells(rules),
  ];
}

function correctRow(name: string, { runs, alarms, margins, rules }: CorrectTally): Row {
  const products = margins.get("dot product") ?? [];
  const largest = products.reduce((most, value) => Math.max(most, value), 0);
  return [name, runs, alarms, figure(medianOf(products)), figure(largest), ...ruleCells(rules)];
}

/** By all layers, and by the embedding alone. */
function ruleCells(rules: RuleCounts): Row {
  return rules.map(({ byLayers, byOutput }) => `${byLayers} / ${byOutput}`);
}

function figure(value: number): string {
  return value === 0 ? "0" : String(Number(value.toPrecision(2)));
}

function table(head: Row, rows: readonly Row[]): string {
  const line = (cells: Row): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

export function sumOf(tallies: readonly MutantTally[]): MutantTally {
  const add = (of: (tally: MutantTally) => number): number =>
    tallies.reduce((sum, tally) => sum + of(tally), 0);
  const count = (which: "judged" | "blind"): MutantTally["judged"] => ({
    of: add((tally) => tally[which].of),
    killed: add((tally) => tally[which].killed),
    located: add((tally) => tally[which].located),
    explained: add((tally) => tally[which].explained),
  });
  return {
    judged: count("judged"),
    blind: count("blind"),
    equivalent: add(({ equivalent }) => equivalent),
    rules: addedRules(tallies.map(({ rules }) => rules)),
  };
}

export function mergedRuns(tallies: readonly CorrectTally[]): CorrectTally {
  const margins = new Map<string, number[]>();
  for (const tally of tallies)
    for (const [operation, values] of tally.margins)
      margins.set(operation, [...(margins.get(operation) ?? []), ...values]);
  return {
    runs: tallies.reduce((sum, { runs }) => sum + runs, 0),
    alarms: tallies.reduce((sum, { alarms }) => sum + alarms, 0),
    margins,
    rules: addedRules(tallies.map(({ rules }) => rules)),
  };
}

function addedRules(all: readonly RuleCounts[]): RuleCounts {
  return RULES.map((_, i) => ({
    byLayers: all.reduce((sum, rules) => sum + (rules[i]?.byLayers ?? 0), 0),
    byOutput: all.reduce((sum, rules) => sum + (rules[i]?.byOutput ?? 0), 0),
  }));
}

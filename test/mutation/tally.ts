import type { CorrectRun } from "./correct-models.js";
import type { Mutant, Outcome } from "./mutants.js";
import { RULES, type RuleVerdict } from "./rules.js";

/** How many of how many. */
export interface Count {
  readonly of: number;
  readonly killed: number;
  readonly located: number;
  readonly explained: number;
}

const NONE: Count = { of: 0, killed: 0, located: 0, explained: 0 };

function counted(count: Count, { killed, located, explained }: Outcome): Count {
  return {
    of: count.of + 1,
    killed: count.killed + Number(killed),
    located: count.located + Number(located),
    explained: count.explained + Number(explained),
  };
}

/** How many runs each rule of another tool fails, by all layers and by the embedding alone. */
export type RuleCounts = readonly { readonly byLayers: number; readonly byOutput: number }[];

const NO_RULES: RuleCounts = RULES.map(() => ({ byLayers: 0, byOutput: 0 }));

function failing(counts: RuleCounts, verdicts: readonly RuleVerdict[]): RuleCounts {
  return counts.map(({ byLayers, byOutput }, i) => ({
    byLayers: byLayers + Number(verdicts[i]?.byLayers === false),
    byOutput: byOutput + Number(verdicts[i]?.byOutput === false),
  }));
}

export interface MutantTally {
  readonly judged: Count;
  /** By values alone. */
  readonly blind: Count;
  /** Left out of all other counts. */
  readonly equivalent: number;
  readonly rules: RuleCounts;
}

const NO_MUTANTS: MutantTally = { judged: NONE, blind: NONE, equivalent: 0, rules: NO_RULES };

export function withMutant(tally: MutantTally = NO_MUTANTS, mutant: Mutant): MutantTally {
  if (mutant.isEquivalent) return { ...tally, equivalent: tally.equivalent + 1 };
  return {
    ...tally,
    judged: counted(tally.judged, mutant.outcome),
    blind: mutant.blind ? counted(tally.blind, mutant.blind) : tally.blind,
    rules: failing(tally.rules, mutant.rules),
  };
}

/** Of a file that is refused before anything is run: what others make of its values nobody knows. */
export function withRefusal(tally: MutantTally = NO_MUTANTS, outcome: Outcome): MutantTally {
  return { ...tally, judged: counted(tally.judged, outcome) };
}

export interface CorrectTally {
  readonly runs: number;
  readonly alarms: number;
  /** By operation. */
  readonly margins: ReadonlyMap<string, readonly number[]>;
  readonly rules: RuleCounts;
}

const NO_RUNS: CorrectTally = { runs: 0, alarms: 0, margins: new Map(), rules: NO_RULES };

export function withRun(tally: CorrectTally = NO_RUNS, { report, margins, rules }: CorrectRun): CorrectTally {
  const all = new Map(tally.margins);
  for (const [operation, values] of margins) all.set(operation, [...(all.get(operation) ?? []), ...values]);
  return {
    runs: tally.runs + 1,
    alarms: tally.alarms + Number(!report.passed),
    margins: all,
    rules: failing(tally.rules, rules),
  };
}

export function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

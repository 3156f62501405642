import { mergedRuns, sumOf } from "./table.js";
import { type CorrectTally, type MutantTally, medianOf } from "./tally.js";

/** What a verifier must do to be worth anything: as the project's own rule, and as a failing exit status. */
const LOCATED = 0.99;
const EXPLAINED = 0.8;

/** A bound a thousand times too wide passes anything. */
const MIN_MEDIAN = 0.01;

/** The demands that are not met, in words. */
export function unmetOfMutants(tallies: ReadonlyMap<string, MutantTally>): readonly string[] {
  const { judged } = sumOf([...tallies.values()]);
  const { of, killed, located, explained } = judged;
  return [
    ...(killed < of ? [`${of - killed} of ${of} mutants survive`] : []),
    ...(located < LOCATED * of ? [`${located} of ${of} are found at their layer, below ${LOCATED}`] : []),
    ...(explained < EXPLAINED * of ? [`${explained} of ${of} are explained, below ${EXPLAINED}`] : []),
  ];
}

export function unmetOfRuns(tallies: ReadonlyMap<string, CorrectTally>): readonly string[] {
  const { runs, alarms, margins } = mergedRuns([...tallies.values()]);
  const median = medianOf(margins.get("dot product") ?? []);
  return [
    ...(alarms > 0 ? [`${alarms} of ${runs} correct models fail`] : []),
    ...(median < MIN_MEDIAN ? [`the median margin of dot products is ${median}, below ${MIN_MEDIAN}`] : []),
  ];
}

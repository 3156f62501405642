import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { correctRuns } from "./correct-models.js";
import type { TinyFamily } from "./families.js";
import { mutants, optimisedMutants } from "./mutants.js";
import { unmetOfMutants, unmetOfRuns } from "./requirements.js";
import { BEGIN, END, mergedRuns, sumOf } from "./table.js";
import { type CorrectTally, type MutantTally, withMutant, withRun } from "./tally.js";

/** How much a sample of one family must try at least, so that it does not shrink unseen. */
const LEAST = { mutants: 5, runs: 1 } as const;

/**
 * The tests of one family's sample. The five families take turns, so that together they have one mutation of every operator, in one
 * form each, and a right model of every kind; `npm run mutation` tries all in all.
 */
export function testSample(family: TinyFamily): void {
  const document = readFileSync(new URL("../../docs/verification-results.md", import.meta.url), "utf8");
  const table = document.slice(document.indexOf(BEGIN), document.indexOf(END));

  describe(family, () => {
    it("mutants of every operator are killed, found at their layers and explained", async () => {
      const byOperator = new Map<string, MutantTally>();
      const missed: string[] = [];
      for (const some of [mutants({ forms: 1, only: family }), optimisedMutants(family)])
        for await (const mutant of some) {
          const { mutation, form, outcome, isEquivalent } = mutant;
          byOperator.set(mutation.operator, withMutant(byOperator.get(mutation.operator), mutant));
          if (!outcome.killed && !isEquivalent) missed.push(`${family}, ${form}: ${mutation.says}`);
        }
      const { judged, blind, equivalent } = sumOf([...byOperator.values()]);
      expect(missed).toEqual([]);
      expect(unmetOfMutants(byOperator)).toEqual([]);
      expect(judged.of).toBeGreaterThanOrEqual(LEAST.mutants);
      // The one mistake that is none: with one pixel, NHWC and NCHW are the same.
      expect(equivalent).toBeLessThanOrEqual(1);
      // By values alone, the derived bounds find all but an ε of 1e-6 in a batch norm that is folded.
      expect(blind.of - blind.killed).toBeLessThanOrEqual(1);
      for (const operator of byOperator.keys()) expect(table).toContain(`| ${operator} |`);
    });

    it("correct models of every kind pass, and bounds are no wider than necessary", async () => {
      const byKind = new Map<string, CorrectTally>();
      const alarms: string[] = [];
      for await (const run of correctRuns(family)) {
        byKind.set(run.kind, withRun(byKind.get(run.kind), run));
        const [fault] = run.report.faults;
        if (fault) alarms.push(`${run.says}: ${fault.layer}: ${fault.explanation}`);
      }
      expect(alarms).toEqual([]);
      expect(unmetOfRuns(byKind)).toEqual([]);
      expect(mergedRuns([...byKind.values()]).runs).toBeGreaterThanOrEqual(LEAST.runs);
      for (const kind of byKind.keys()) expect(table).toContain(`| ${kind} |`);
    });
  });
}

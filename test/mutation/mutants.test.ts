import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { unmetOfMutants } from "./demands.js";
import { mutants } from "./mutants.js";
import { BEGIN, END, sumOf } from "./table.js";
import { type MutantTally, withMutant } from "./tally.js";

const SECONDS = 1000;

it(
  "mutants of every operator are killed, found at their layers and explained; the table has them all",
  async () => {
    const byOperator = new Map<string, MutantTally>();
    const missed: string[] = [];
    // Each mutation in one form, of two families in turn; `npm run mutation` takes more.
    for await (const mutant of mutants({ forms: 1, families: 2 })) {
      const { mutation, family, form, outcome, isEquivalent } = mutant;
      byOperator.set(mutation.operator, withMutant(byOperator.get(mutation.operator), mutant));
      if (!outcome.killed && !isEquivalent) missed.push(`${family}, ${form}: ${mutation.says}`);
    }
    const { judged, blind, equivalent } = sumOf([...byOperator.values()]);
    expect(missed).toEqual([]);
    expect(unmetOfMutants(byOperator)).toEqual([]);
    expect(judged.of).toBeGreaterThanOrEqual(200);
    // The one mistake that is none: with one pixel, NHWC and NCHW are the same.
    expect(equivalent).toBeLessThanOrEqual(2);
    // By values alone, the derived bounds find all but an ε of 1e-6 in a batch norm that is folded.
    expect(blind.of - blind.killed).toBeLessThanOrEqual(0.02 * blind.of);

    const document = readFileSync(new URL("../../docs/verification.md", import.meta.url), "utf8");
    const table = document.slice(document.indexOf(BEGIN), document.indexOf(END));
    for (const operator of byOperator.keys()) expect(table).toContain(`| ${operator} |`);
  },
  120 * SECONDS,
);

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { unmetOfRuns } from "./demands.js";
import { honestRuns } from "./honest.js";
import { BEGIN, END, mergedRuns } from "./table.js";
import { type HonestTally, withRun } from "./tally.js";

const SECONDS = 1000;

it(
  "right models of every kind pass, and bounds are no wider than they must be",
  async () => {
    const byKind = new Map<string, HonestTally>();
    const alarms: string[] = [];
    for await (const run of honestRuns(false)) {
      byKind.set(run.kind, withRun(byKind.get(run.kind), run));
      const [fault] = run.report.faults;
      if (fault) alarms.push(`${run.says}: ${fault.layer}: ${fault.explanation}`);
    }
    expect(alarms).toEqual([]);
    expect(unmetOfRuns(byKind)).toEqual([]);
    expect(mergedRuns([...byKind.values()]).runs).toBeGreaterThanOrEqual(200);

    const document = readFileSync(new URL("../../docs/verification.md", import.meta.url), "utf8");
    const table = document.slice(document.indexOf(BEGIN), document.indexOf(END));
    for (const kind of byKind.keys()) expect(table).toContain(`| ${kind} |`);
  },
  120 * SECONDS,
);

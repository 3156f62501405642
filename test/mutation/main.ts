/**
 * npm run mutation -- [--forms N] [--operator REGEXP] [--write]
 *
 * Verifies the verifier: mutants of every operator in N of the eight forms, in turn (default 2), and in files that onnxruntime has
 * optimised; pickled models and traces that must be refused, and right models of every kind; prints what became of them, and exits with status 1 if a mutant survives or a right
 * model fails. `--write` puts the tables into docs/verification-results.md. `--operator` tries those mutations alone whose operator
 * matches, and no right models.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { correctRuns } from "./correct-models.js";
import { type Mutant, mutants, optimisedMutants } from "./mutants.js";
import { readerMutants } from "./readers.js";
import { unmetOfMutants, unmetOfRuns } from "./requirements.js";
import { BEGIN, END, tables } from "./table.js";
import { type CorrectTally, type MutantTally, withMutant, withRefusal, withRun } from "./tally.js";
import { traceMutants } from "./traces.js";

const DOCUMENT = "docs/verification-results.md";

const { values } = parseArgs({
  options: {
    forms: { type: "string", default: "2" },
    operator: { type: "string" },
    write: { type: "boolean", default: false },
  },
});
const { operator: pattern } = values;
if (pattern !== undefined && values.write) throw new Error("the tables are of all operators");

const byOperator = new Map<string, MutantTally>();

function count(mutant: Mutant): void {
  const { mutation, family, form, outcome, isEquivalent } = mutant;
  byOperator.set(mutation.operator, withMutant(byOperator.get(mutation.operator), mutant));
  if (isEquivalent || (outcome.killed && outcome.located && outcome.explained)) return;
  const [fault] = outcome.faults;
  const what = outcome.killed ? (outcome.located ? "not explained" : "found elsewhere") : "survives";
  console.error(
    `${family}, ${form}: ${mutation.says}: ${what}${fault ? `: ${fault.layer}: ${fault.explanation}` : ""}`,
  );
}

const wanted = pattern === undefined ? undefined : new RegExp(pattern);
for await (const mutant of mutants({
  forms: Number(values.forms),
  ...(wanted ? { operator: wanted } : {}),
}))
  count(mutant);
if (wanted?.test("optimised by onnxruntime") !== false)
  for await (const mutant of optimisedMutants()) count(mutant);

for (const [kind, refused] of [
  ["a model pickled whole", readerMutants()],
  ["a trace", traceMutants()],
] as const)
  for (const { family, operator, says, outcome } of refused) {
    if (wanted?.test(operator) === false) continue;
    byOperator.set(operator, withRefusal(byOperator.get(operator), outcome));
    if (!(outcome.killed && outcome.located && outcome.explained))
      console.error(`${family}, ${kind}: ${says}: ${outcome.killed ? "otherwise named" : "read"}`);
  }

const byKind = new Map<string, CorrectTally>();
for await (const run of pattern === undefined ? correctRuns() : []) {
  byKind.set(run.kind, withRun(byKind.get(run.kind), run));
  const [fault] = run.report.faults;
  if (fault) console.error(`${run.says}: fails: ${fault.layer}: ${fault.explanation}`);
}

const text = tables(byOperator, byKind);
console.log(text);
if (values.write) {
  const document = readFileSync(DOCUMENT, "utf8");
  const [from, to] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`${DOCUMENT} has no place for the tables`);
  writeFileSync(DOCUMENT, `${document.slice(0, from)}${BEGIN}\n\n${text}\n\n${document.slice(to)}`);
}

const unmet = [...unmetOfMutants(byOperator), ...(pattern === undefined ? unmetOfRuns(byKind) : [])];
for (const demand of unmet) console.error(demand);
process.exit(unmet.length > 0 ? 1 : 0);

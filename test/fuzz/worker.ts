/** Feeds inputs to the readers until it is told to stop, in a thread with a memory limit of its own. */

import { parentPort, workerData } from "node:worker_threads";
import { installMeter } from "./meter.js";
import { getTally, setRun, setTally } from "./tally.js";

export interface WorkerTask {
  readonly seed: number;
  /** Names of the targets, in the tally's order. */
  readonly targets: readonly string[];
  readonly tally: Float64Array;
  /** When to stop, as `Date.now()` counts. */
  readonly deadline: number;
  /** Inputs to try for each target at most. */
  readonly inputs: number;
}

export interface Finding {
  readonly target: string;
  readonly index: number;
  readonly finding: string;
  readonly bytes: Uint8Array;
}

/** Time for one target before it is the next one's turn. */
const TURN_MILLISECONDS = 100;

const meter = installMeter();
// Only now, with the meter in place, may the readers be loaded.
const { TARGETS } = await import("./targets.js");
const { inputOf } = await import("./inputs.js");
const { judge } = await import("./oracle.js");
const { minimize } = await import("./minimize.js");

const task = workerData as WorkerTask;
const { tally } = task;
const seen = new Set<string>();
const targets = task.targets.map((name) => TARGETS.filter((target) => target.name === name));

function add(target: number, field: Parameters<typeof getTally>[2], amount: number): void {
  setTally(tally, target, field, getTally(tally, target, field) + amount);
}

function tryInput(at: number): void {
  const [target] = targets[at] ?? [];
  if (target === undefined) return;
  const index = getTally(tally, at, "next");
  setTally(tally, at, "next", index + 1);
  const bytes = inputOf(target, task.seed, index);
  setRun(tally, "target", at);
  setRun(tally, "startedAt", Date.now());
  const verdict = judge(target, bytes, meter);
  setRun(tally, "startedAt", 0);
  add(at, "milliseconds", verdict.milliseconds);
  if (verdict.milliseconds > getTally(tally, at, "slowest")) {
    setTally(tally, at, "slowest", verdict.milliseconds);
    setTally(tally, at, "slowestInput", index);
  }
  if (verdict.outcome !== "finding") {
    add(at, verdict.outcome, 1);
    return;
  }
  add(at, "findings", 1);
  const { finding } = verdict;
  const kind = kindOf(finding);
  if (seen.has(`${target.name} ${kind}`)) return;
  seen.add(`${target.name} ${kind}`);
  report({ target: target.name, index, finding, bytes });
  // A smaller input may hang where this one did not.
  setRun(tally, "minimizing", 1);
  const same = (candidate: Uint8Array): boolean => {
    setRun(tally, "startedAt", Date.now());
    const found = judge(target, candidate, meter).finding;
    setRun(tally, "startedAt", 0);
    return kindOf(found) === kind;
  };
  report({ target: target.name, index, finding: "the same, smaller", bytes: minimize(bytes, same) });
  setRun(tally, "minimizing", 0);
}

function report(finding: Finding): void {
  parentPort?.postMessage(finding);
}

/** What findings of one cause have in common. */
function kindOf(finding: string): string {
  return finding.replace(/"(?:[^"\\]|\\.)*"/g, "…");
}

const hasMore = (at: number): boolean => getTally(tally, at, "next") < task.inputs;
const done = (): boolean => Date.now() >= task.deadline || !targets.some((_, at) => hasMore(at));

while (!done()) {
  for (let at = 0; at < targets.length; at++)
    for (const end = Date.now() + TURN_MILLISECONDS; Date.now() < end && hasMore(at); ) tryInput(at);
}

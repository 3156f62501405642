/**
 * npm run fuzz -- [--seconds N] [--seed S] [--target NAME] [--inputs N] [--input I] [--out FOLDER]
 *
 * Tries mutated files on every reader, prints what it tried, and exits with status 1 if a reader crashed, hung, took
 * too much memory or refused a file in anything but one sentence. What it found is in FOLDER, minimised; the same
 * seed gives the same inputs, and `--target NAME --seed S --input I` writes one of them.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { inputOf } from "./inputs.js";
import { judge } from "./oracle.js";
import { createTally, getRun, getTally, setRun, setTally } from "./tally.js";
import { TARGETS } from "./targets.js";
import type { Finding, WorkerTask } from "./worker.js";

/** Longer than any input of this size may take, on a machine that does other things too. */
const HANG_MILLISECONDS = 5000;

/** For JavaScript's own objects; typed arrays are outside it and counted one by one. */
const HEAP_MEGABYTES = 256;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: "1" },
    inputs: { type: "string", default: "Infinity" },
    target: { type: "string", multiple: true },
    input: { type: "string" },
    out: { type: "string", default: "fuzz-findings" },
  },
});
const seed = Number(values.seed);
const targets = TARGETS.filter(({ name }) => values.target?.includes(name) ?? true);
if (targets.length === 0) {
  console.error(`--target: found ${values.target}, expected ${TARGETS.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

function save(target: string, index: number, bytes: Uint8Array): string {
  mkdirSync(values.out, { recursive: true });
  const path = join(values.out, `${target}-${seed}-${index}.bin`);
  writeFileSync(path, bytes);
  return path;
}

function replay(index: number): void {
  for (const target of targets) {
    const bytes = inputOf(target, seed, index);
    console.log(`${target.name} input ${index}: ${bytes.length} bytes in ${save(target.name, index, bytes)}`);
    console.log(judge(target, bytes));
  }
}

/** Runs one worker until it ends, hangs or dies; resolves to why the input at work failed, or nothing. */
function work(task: WorkerTask, report: (finding: Finding) => void): Promise<string | undefined> {
  return new Promise((resolve) => {
    const worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData: task,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MEGABYTES },
    });
    const watch = setInterval(() => {
      const startedAt = getRun(task.tally, "startedAt");
      if (startedAt === 0 || Date.now() - startedAt < HANG_MILLISECONDS) return;
      clearInterval(watch);
      void worker.terminate().then(() => resolve(`runs for more than ${HANG_MILLISECONDS} ms`));
    }, 500);
    worker.on("message", report);
    worker.on("error", (error) => {
      clearInterval(watch);
      resolve(`ends the thread: ${error.message}`);
    });
    worker.on("exit", () => {
      clearInterval(watch);
      resolve(undefined);
    });
  });
}

async function fuzz(): Promise<number> {
  const tally = createTally(targets.length);
  const started = Date.now();
  const deadline = started + 1000 * Number(values.seconds);
  const report = ({ target, index, finding, bytes }: Finding): void => {
    console.log(`FINDING ${target} --seed ${seed} --input ${index}: ${finding}`);
    console.log(`  ${bytes.length} bytes in ${save(target, index, bytes)}`);
  };
  const task: WorkerTask = {
    seed,
    targets: targets.map(({ name }) => name),
    tally,
    deadline,
    inputs: Number(values.inputs),
  };
  for (;;) {
    const failure = await work(task, report);
    if (failure === undefined) break;
    const at = getRun(tally, "target");
    const target = targets[at];
    if (getRun(tally, "startedAt") === 0 || target === undefined) throw new Error(failure);
    setRun(tally, "startedAt", 0);
    const minimizing = getRun(tally, "minimizing") === 1;
    setRun(tally, "minimizing", 0);
    // The input as it was is saved already; only a smaller one went wrong in another way.
    if (minimizing) continue;
    const index = getTally(tally, at, "next") - 1;
    setTally(tally, at, "findings", getTally(tally, at, "findings") + 1);
    report({ target: target.name, index, finding: failure, bytes: inputOf(target, seed, index) });
  }
  printFigures(tally, (Date.now() - started) / 1000);
  return targets.reduce((total, _, at) => total + getTally(tally, at, "findings"), 0);
}

function printFigures(tally: Float64Array, seconds: number): void {
  let total = 0;
  const rows = targets.map(({ name }, at) => {
    const get = (field: Parameters<typeof getTally>[2]) => getTally(tally, at, field);
    total += get("next");
    return {
      target: name,
      inputs: get("next"),
      read: get("read"),
      refused: get("refused"),
      findings: get("findings"),
      "inputs/s": Math.round((1000 * get("next")) / Math.max(1, get("milliseconds"))),
      "slowest ms": Math.round(10 * get("slowest")) / 10,
      "slowest input": get("slowestInput"),
    };
  });
  console.table(rows);
  console.log(`${total} inputs in ${seconds.toFixed(0)} s, seed ${seed}`);
}

if (values.input !== undefined) replay(Number(values.input));
else process.exitCode = (await fuzz()) > 0 ? 1 : 0;

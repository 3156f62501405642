import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { PlannedEntry } from "../../verify/suite/plan.js";
import type { SuiteEntry } from "../../verify/suite/report.js";
import type { Io } from "../terminal.js";
import { executeEntry } from "./entry.js";

export interface PoolOptions {
  readonly folder: string;
  readonly cache: string | undefined;
  /** Entries at a time; 1 runs them in this process. Default: one to a processor, at most 4. */
  readonly jobs: number | undefined;
  readonly io: Io;
  /** Told of each entry as it ends; false stops what has not begun. */
  readonly onResult: (result: SuiteEntry) => boolean;
  readonly onProgress: (entry: PlannedEntry, done: number, total: number) => void;
}

/** Beside this file where both are compiled; where the source runs as it is, there is no such file, and no process. */
const WORKER = new URL("./worker.js", import.meta.url);

/** Each needs the memory of a verification. */
const MOST_BY_DEFAULT = 4;

function defaultJobs(): number {
  return existsSync(WORKER) ? Math.min(MOST_BY_DEFAULT, availableParallelism()) : 1;
}

/** Runs entries, several at a time in processes of their own: the runtimes are not made to share one. */
export async function runEntries(
  entries: readonly PlannedEntry[],
  options: PoolOptions,
): Promise<ReadonlyMap<string, SuiteEntry>> {
  const results = new Map<string, SuiteEntry>();
  const queue = [...entries];
  let isStopped = false;
  const finish = (result: SuiteEntry, { id }: PlannedEntry): void => {
    results.set(id, result);
    if (!options.onResult(result)) isStopped = true;
  };
  const jobs = Math.min(options.jobs ?? defaultJobs(), entries.length);
  const lane = async (run: (entry: PlannedEntry) => Promise<SuiteEntry>): Promise<void> => {
    for (let entry = queue.shift(); entry && !isStopped; entry = queue.shift())
      finish(await run(entry), entry);
  };
  if (jobs <= 1) {
    await lane((entry) =>
      executeEntry(entry, options, (done, total) => options.onProgress(entry, done, total)),
    );
    return results;
  }
  const workers = Array.from({ length: jobs }, () => fork(WORKER));
  try {
    await Promise.all(workers.map((worker) => lane((entry) => runIn(worker, entry, options))));
  } finally {
    for (const worker of workers) worker.disconnect();
  }
  return results;
}

function runIn(
  worker: ChildProcess,
  entry: PlannedEntry,
  { folder, cache }: PoolOptions,
): Promise<SuiteEntry> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null): void =>
      reject(new Error(`the process that ran ${entry.id} ended (${code})`));
    worker.once("exit", ended);
    worker.once("message", ({ result, bug }: { readonly result?: SuiteEntry; readonly bug?: string }) => {
      worker.removeListener("exit", ended);
      if (result) resolve(result);
      else reject(new Error(bug));
    });
    worker.send({ entry, folder, cache });
  });
}

import { lstat, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { InputError } from "../../core/errors.js";
import type { ParityReport } from "../../verify/report.js";
import type { PlannedEntry } from "../../verify/suite/plan.js";
import { entryStatus, type SuiteEntry } from "../../verify/suite/report.js";
import { readReport, writeReport } from "../reports.js";
import type { Io } from "../terminal.js";
import { openEntry } from "./run-entry.js";

interface ExecuteOptions {
  readonly folder: string;
  /** The cache's folder, if there is one. */
  readonly cache: string | undefined;
  readonly io: Io;
  /** How many judge layers: one where entries run beside each other. Default: as `verify` sees fit. */
  readonly threads?: number;
}

/**
 * Runs an entry, or takes its report from the cache if nothing that it depends on has changed. An unusable file is a
 * result of status `error`; only a bug is an exception.
 */
export async function executeEntry(
  entry: PlannedEntry,
  { folder, cache, io, threads }: ExecuteOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<SuiteEntry> {
  const started = performance.now();
  const { id, model, candidate, backend } = entry;
  const seconds = (): number => Math.round(performance.now() - started) / 1000;
  let fingerprint: string | null = null;
  try {
    const opened = await openEntry(entry, folder, io);
    fingerprint = opened.fingerprint;
    const path = cache === undefined ? undefined : join(cache, `${fingerprint}.json`);
    const known = path === undefined ? undefined : await readCached(path);
    const report = known ?? (await opened.run(onProgress, threads));
    if (path !== undefined && !known) await writeCached(path, report);
    const ranking = await opened.rank(cache);
    return {
      id,
      model,
      candidate,
      backend: report.backend,
      status: entryStatus(report, ranking),
      fingerprint,
      report,
      ...(ranking ? { ranking } : {}),
      error: null,
      run: { cached: known !== undefined, seconds: seconds() },
    };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const text = [error.message, ...error.details.slice(0, 20)].join("\n");
    const run = { cached: false, seconds: seconds() };
    return { id, model, candidate, backend, status: "error", fingerprint, report: null, error: text, run };
  }
}

/** What is not cached is computed again: that there is no room for it is no error of the entry. */
async function writeCached(path: string, report: ParityReport): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeReport(path, JSON.stringify(report));
  } catch {
    // The reports themselves will say so if nothing can be written.
  }
}

/** A cache that cannot be read is none; so is a link, which leads elsewhere, and a pipe, which may never end. */
export async function readCached(path: string): Promise<ParityReport | undefined> {
  try {
    if (!(await lstat(path)).isFile()) return undefined;
    return await readReport(path);
  } catch {
    return undefined;
  }
}

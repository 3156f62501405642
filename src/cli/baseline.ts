import { basename } from "node:path";
import { InputError } from "../core/errors.js";
import { readInput } from "../node/index.js";
import type { BaselineOptions } from "../verify/baseline.js";
import type { ParityReport } from "../verify/report.js";
import type { SuiteReport } from "../verify/suite/report.js";

/** The options of a comparison with an earlier report. */
export interface BaselineFlags {
  readonly baseline?: string;
  readonly baselineFactor?: number;
  readonly baselinePolicy?: "fail" | "warn";
}

/** How a report is compared with an earlier one; undefined without `--baseline`. */
export function baselineOptions({
  baseline,
  baselineFactor: factor,
  baselinePolicy: policy,
}: BaselineFlags): (BaselineOptions & { readonly path: string }) | undefined {
  if (baseline === undefined) return undefined;
  return {
    path: baseline,
    name: basename(baseline),
    ...(factor === undefined ? {} : { factor }),
    ...(policy === undefined ? {} : { policy }),
  };
}

/** @throws InputError (`format`) if the file is no report of this schema */
export async function readReport(path: string): Promise<ParityReport> {
  return readJson(path, "osnet-parity/1", "layers") as Promise<ParityReport>;
}

/** @throws InputError (`format`) if the file is no suite's report */
export async function readSuiteReport(path: string): Promise<SuiteReport> {
  const suite = (await readJson(path, "osnet-parity-suite/1", "entries")) as SuiteReport;
  if (suite.entries.every(isEntry) && Array.isArray(suite.skipped)) return suite;
  throw new InputError({
    code: "format",
    subject: basename(path),
    found: "an entry that is none",
    expected: "a report of schema osnet-parity-suite/1",
    remedy: "give the suite.json of an earlier run",
  });
}

/** Whether an entry has what reports read of it, so far that no rendering stumbles; the schema says the rest. */
function isEntry(entry: unknown): boolean {
  if (typeof entry !== "object" || entry === null) return false;
  const { report, error, ...names } = entry as Readonly<Record<string, unknown>>;
  return (
    ["id", "model", "candidate", "backend", "status"].every((key) => typeof names[key] === "string") &&
    (report === null || Array.isArray((report as Partial<ParityReport> | undefined)?.layers)) &&
    (error === null || typeof error === "string")
  );
}

async function readJson(path: string, schema: string, list: string): Promise<unknown> {
  const bytes = await readInput(path);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    value = undefined;
  }
  const found = value as Readonly<Record<string, unknown>> | null | undefined;
  if (typeof found === "object" && found?.schema === schema && Array.isArray(found[list])) return found;
  throw new InputError({
    code: "format",
    subject: basename(path),
    found:
      value === undefined
        ? "text that is not JSON"
        : `a file of schema ${JSON.stringify(found?.schema ?? null)}`,
    expected: `a report of schema ${schema}`,
    remedy: "give the .json report of an earlier run",
  });
}

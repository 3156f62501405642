import { createRequire } from "node:module";
import { arch, availableParallelism, cpus, platform } from "node:os";
import { basename, dirname, extname, join } from "node:path";
import type { OutputUnit, Schema } from "@cfworker/json-schema";
import { InputError } from "../core/errors.js";
import { definedOf } from "../core/functions.js";
import { readInput } from "../node/read.js";
import { writeChecked } from "../node/write.js";
import { BACKENDS } from "../verify/backends/registry.js";
import type { BaselineOptions } from "../verify/outcome/baseline.js";
import type { ParityReport, RunFacts } from "../verify/outcome/report.js";
import { recounted } from "../verify/outcome/report.js";
import { recountedSuite, type SuiteReport } from "../verify/suite/report.js";
import { alternatives, badArgument } from "./options.js";

/**
 * The format of a `--report` file, from its suffix.
 *
 * @throws InputError (`argument`) if the suffix is not one of `formats`
 */
export function reportFormat<F extends string>(path: string, formats: readonly F[]): F {
  const suffix = extname(path).slice(1).toLowerCase();
  const format = formats.find((name) => name === suffix);
  if (format) return format;
  const suffixes = alternatives(formats.map((name) => `.${name}`));
  throw badArgument(
    "--report",
    JSON.stringify(path),
    `a file name that ends in ${suffixes}`,
    "choose one of these formats",
  );
}

/** Writes a report atomically: the file is either the earlier report or the new one. */
export async function writeReport(path: string, text: string): Promise<void> {
  await writeChecked(path, new TextEncoder().encode(text), {
    force: true,
    check: async () => undefined,
    accept: () => true,
  });
}

/**
 * An earlier report, validated by its schema; the verdict is derived again from its content.
 *
 * @throws InputError (`format`) if the file is not a report
 */
export async function readReport(path: string): Promise<ParityReport> {
  return recounted((await readValid(path, REPORT_SCHEMA)) as ParityReport);
}

/**
 * An earlier suite's report; statuses, faults and the verdict are derived again from its entries' reports.
 *
 * @throws InputError (`format`) if the file is not a suite's report
 */
export async function readSuiteReport(path: string): Promise<SuiteReport> {
  return recountedSuite((await readValid(path, "osnet-parity-suite-1.schema.json")) as SuiteReport);
}

const REPORT_SCHEMA = "osnet-parity-1.schema.json";

const require = createRequire(import.meta.url);

/** A published schema of this package, by its file name. */
const schemaIn = (file: string): Schema => require(`osnet-convert/schemas/${file}`) as Schema;

/**
 * Two thousand entries of a suite, each with its whole report, take 400 MB; longer text does not fit in a JavaScript
 * string.
 */
const MAX_REPORT_BYTES = 2 ** 29 - 24;

/** A report may come from anyone: only what the schema allows is used. */
async function readValid(path: string, file: string): Promise<unknown> {
  const bytes = await readInput(path, { most: MAX_REPORT_BYTES });
  const refuse = (found: string): InputError =>
    new InputError({
      code: "format",
      subject: basename(path),
      found,
      expected: `a report that follows ${file}`,
      remedy: "use the unchanged .json report of an earlier run",
    });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw refuse("text that is not JSON");
  }
  const { Validator } = await import("@cfworker/json-schema");
  // Interprets the schema, without generating code; reports refer to each other's schemas.
  const validator = new Validator(schemaIn(file), "2020-12");
  if (file !== REPORT_SCHEMA) validator.addSchema(schemaIn(REPORT_SCHEMA));
  const { valid, errors } = validator.validate(value);
  if (valid) return value;
  // The innermost location, where the first failure is.
  const deepest = errors.reduce((a, b) => (depth(b) > depth(a) ? b : a));
  const { instanceLocation, error } = deepest;
  const [, missing] = /does not have required property "([^"]*)"/.exec(error) ?? [];
  if (missing !== undefined)
    throw refuse(`no ${JSON.stringify(missing)}${instanceLocation === "#" ? "" : ` at ${instanceLocation}`}`);
  throw refuse(`an invalid value at ${instanceLocation} (${error.replace(/\.$/, "")})`);
}

const depth = ({ instanceLocation }: OutputUnit): number => instanceLocation.split("/").length;

/** Options for the comparison with an earlier report. */
export interface BaselineFlags {
  readonly baseline?: string;
  readonly baselineFactor?: number;
  readonly baselinePolicy?: "fail" | "warn";
}

/** The comparison with an earlier report; undefined without `--baseline`. */
export function baselineOptions({
  baseline,
  baselineFactor: factor,
  baselinePolicy: policy,
}: BaselineFlags): (BaselineOptions & { readonly path: string }) | undefined {
  if (baseline === undefined) return undefined;
  return {
    path: baseline,
    name: basename(baseline),
    ...definedOf({ factor, policy }),
  };
}

/** The versions of this package and of the installed runtimes, on which a result depends. */
export function installedVersions(): Readonly<Record<string, string>> {
  return Object.fromEntries([
    ["osnet-convert", versionIn("osnet-convert/package.json")],
    ...[...new Set(Object.values(BACKENDS).map((engine) => engine.package))].flatMap((name) => {
      const version = packageVersion(name);
      return version === undefined ? [] : [[name, version]];
    }),
  ]);
}

/** The machine and versions of this process. */
export function runFacts(seconds: number): RunFacts {
  return {
    versions: { ...installedVersions(), node: process.versions.node },
    platform: `${platform()} ${arch()}`,
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    threads: availableParallelism(),
    seconds: Math.round(seconds * 1000) / 1000,
  };
}

function packageVersion(name: string): string | undefined {
  try {
    // A package may not export its package.json, so it is searched upwards from what the package does export.
    const main = require.resolve(name);
    for (let folder = dirname(main); folder !== dirname(folder); folder = dirname(folder))
      if (basename(folder) === basename(name)) return versionIn(join(folder, "package.json"));
  } catch {
    // Not installed, which is fine.
  }
  return undefined;
}

function versionIn(path: string): string {
  return (require(path) as { readonly version: string }).version;
}

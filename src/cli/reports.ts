import { createRequire } from "node:module";
import { basename, extname } from "node:path";
import { type OutputUnit, type Schema, Validator } from "@cfworker/json-schema";
import { InputError } from "../core/errors.js";
import { readInput, writeChecked } from "../node/index.js";
import { recounted } from "../verify/recount.js";
import type { ParityReport } from "../verify/report.js";
import { REPORT_FORMATS, type ReportFormat } from "../verify/reports/index.js";
import { recountedSuite, type SuiteReport } from "../verify/suite/report.js";
import { alternatives, badArgument } from "./options.js";

/** @throws InputError (`argument`) if a report's suffix is no format */
export function expectReportFormat(path: string): ReportFormat {
  const suffix = extname(path).slice(1).toLowerCase();
  const format = REPORT_FORMATS.find((name) => name === suffix);
  if (format) return format;
  const suffixes = alternatives(REPORT_FORMATS.map((name) => `.${name}`));
  throw badArgument("--report", JSON.stringify(path), `a file whose name ends in ${suffixes}`, "name one");
}

/** Writes a report so that either the earlier one or the new one is there, whatever happens. */
export async function writeReport(path: string, text: string): Promise<void> {
  await writeChecked(path, new TextEncoder().encode(text), {
    force: true,
    check: async () => undefined,
    accept: () => true,
  });
}

/**
 * An earlier report, valid by its schema; whether it passed is found again from what it lists.
 *
 * @throws InputError (`format`) if the file is not a report
 */
export async function readReport(path: string): Promise<ParityReport> {
  return recounted((await readValid(path, REPORT_SCHEMA)) as ParityReport);
}

/**
 * An earlier suite's report, likewise: statuses, faults and the verdict are found again from its entries' reports.
 *
 * @throws InputError (`format`) if the file is not a suite's report
 */
export async function readSuiteReport(path: string): Promise<SuiteReport> {
  return recountedSuite((await readValid(path, "osnet-parity-suite-1.schema.json")) as SuiteReport);
}

const REPORT_SCHEMA = "osnet-parity-1.schema.json";

const require = createRequire(import.meta.url);

/** A published schema of this package, by its file. */
const schemaIn = (file: string): Schema => require(`osnet-convert/schemas/${file}`) as Schema;

/** Two thousand entries of a suite, each with its whole report, take 400 MB; no longer text is a string in JavaScript. */
const MAX_REPORT_BYTES = 2 ** 29 - 24;

/** A report is what another run wrote, or what somebody wants to be taken for that: no more of it is used than the schema allows. */
async function readValid(path: string, file: string): Promise<unknown> {
  const bytes = await readInput(path, { most: MAX_REPORT_BYTES });
  const refuse = (found: string): InputError =>
    new InputError({
      code: "format",
      subject: basename(path),
      found,
      expected: `a report of ${file}`,
      remedy: "give the .json report of an earlier run, unchanged",
    });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw refuse("text that is not JSON");
  }
  // Interprets the schema, without making code of it; reports refer to each other's.
  const validator = new Validator(schemaIn(file), "2020-12");
  if (file !== REPORT_SCHEMA) validator.addSchema(schemaIn(REPORT_SCHEMA));
  const { valid, errors } = validator.validate(value);
  if (valid) return value;
  // The innermost place, where the first failure is.
  const deepest = errors.reduce((a, b) => (depth(b) > depth(a) ? b : a));
  const { instanceLocation, error } = deepest;
  const [, missing] = /does not have required property "([^"]*)"/.exec(error) ?? [];
  if (missing !== undefined)
    throw refuse(`no ${JSON.stringify(missing)}${instanceLocation === "#" ? "" : ` at ${instanceLocation}`}`);
  throw refuse(`a value at ${instanceLocation} that it does not allow (${error.replace(/\.$/, "")})`);
}

const depth = ({ instanceLocation }: OutputUnit): number => instanceLocation.split("/").length;

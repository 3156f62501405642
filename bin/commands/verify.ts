import { basename, extname } from "node:path";
import { InputError } from "../../src/errors.js";
import { expectWritable, readInput, writeChecked } from "../../src/files.js";
import { openVerification } from "../../src/verify/open.js";
import { renderJson } from "../../src/verify/reports/json.js";
import { renderText } from "../../src/verify/reports/text.js";
import { verify } from "../../src/verify/verify.js";
import { readImages } from "./images.js";
import { parseBackend, parseTolerance, readArchitecture } from "./inputs.js";
import { readModel } from "./models.js";
import type { ExitStatus, Size } from "./options.js";
import { PAINT, progress } from "./terminal.js";

/** The command's options, as commander hands them over. */
interface VerifyOptions {
  readonly reference: string;
  readonly tolerance?: string;
  readonly backend?: string;
  readonly input?: readonly string[];
  readonly batch?: number;
  readonly size?: Size;
  readonly arch?: string;
  readonly key?: string;
  readonly report?: readonly string[];
  readonly layers?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Verifies a candidate file against a reference file; exit status 0 if parity holds, 1 if not. */
export async function verifyFiles(candidate: string, options: VerifyOptions): Promise<ExitStatus> {
  const reports = options.report ?? [];
  reports.forEach(expectReportSuffix);
  for (const path of reports) await expectWritable(path, true);
  const tolerance = parseTolerance(options.tolerance);
  const arch = await readArchitecture(options.arch);
  const images = await readImages(options.input);
  const backend = parseBackend(options.backend);
  const model = await readModel(candidate);
  const verification = await openVerification(
    model,
    { name: basename(options.reference), bytes: await readInput(options.reference) },
    {
      ...(backend ? { backend } : {}),
      ...(images ? { images } : {}),
      ...(arch === undefined ? {} : { arch }),
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(options.batch === undefined ? {} : { batch: options.batch }),
      ...(options.size === undefined ? {} : { size: options.size }),
    },
  );
  const bar = progress("verifying layer");
  const report = await verify({
    ...verification,
    ...(tolerance ? { tolerance } : {}),
    onProgress: bar.update,
  });
  bar.clear();
  const json = renderJson(report);
  for (const path of reports)
    await writeChecked(path, new TextEncoder().encode(json), {
      force: true,
      check: async () => undefined,
      accept: () => true,
    });
  if (options.json) process.stdout.write(json);
  else if (!options.quiet)
    process.stdout.write(`${renderText(report, { layers: options.layers ?? false, paint: PAINT })}\n`);
  return report.passed ? 0 : 1;
}

function expectReportSuffix(path: string): void {
  if (extname(path) !== ".json")
    throw badArgument("--report", JSON.stringify(path), "a .json file", "name one");
}

function badArgument(subject: string, found: string, expected: string, remedy: string): InputError {
  return new InputError({ code: "argument", subject, found, expected, remedy });
}

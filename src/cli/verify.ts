import { basename, dirname, relative, sep } from "node:path";
import { performance } from "node:perf_hooks";
import { InputError } from "../core/errors.js";
import { expectWritable, openInput, sweepTemporaries } from "../node/index.js";
import { compareToBaseline } from "../verify/baseline.js";
import { openVerification } from "../verify/open.js";
import { renderReport } from "../verify/reports/index.js";
import { renderJson } from "../verify/reports/json.js";
import { renderText } from "../verify/reports/text.js";
import { verify } from "../verify/verify.js";
import { type BaselineFlags, parseBaseline, readReport } from "./baseline.js";
import { readImages } from "./images.js";
import { parseBackend, parseTolerance, readArchitecture } from "./inputs.js";
import { readModel } from "./models.js";
import type { ExitStatus, Size } from "./options.js";
import { expectReportFormat, writeReport } from "./reports.js";
import { PAINT, progress, readingProgress } from "./terminal.js";
import { runFacts } from "./versions.js";

/** The command's options, as commander hands them over. */
interface VerifyOptions extends BaselineFlags {
  readonly reference?: string;
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
  const started = performance.now();
  const { reference } = options;
  if (reference === undefined)
    throw new InputError({
      code: "argument",
      subject: "--reference",
      found: "none",
      expected: "the checkpoint that the model came from, or a recording .npz",
      remedy: "add one, such as --reference w.pth",
    });
  const reports = options.report ?? [];
  const formats = reports.map((path) => ({ path, format: expectReportFormat(path) }));
  for (const path of reports) {
    await expectWritable(path, true);
    await sweepTemporaries(dirname(path));
  }
  const baselineOptions = parseBaseline(options);
  const baseline = baselineOptions ? await readReport(baselineOptions.path) : undefined;
  const tolerance = parseTolerance(options.tolerance);
  const arch = await readArchitecture(options.arch);
  const images = await readImages(options.input);
  const backend = parseBackend(options.backend);
  const model = await readModel(candidate, options);
  const reading = readingProgress(reference, options);
  const referenceBytes = await openInput(reference, reading.update);
  const verification = await openVerification(
    model,
    { name: basename(reference), bytes: referenceBytes },
    {
      ...(backend ? { backend } : {}),
      ...(images ? { images } : {}),
      ...(arch === undefined ? {} : { arch }),
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(options.batch === undefined ? {} : { batch: options.batch }),
      ...(options.size === undefined ? {} : { size: options.size }),
    },
  );
  reading.clear();
  const bar = progress("verifying layer");
  const verified = await verify({
    ...verification,
    ...(tolerance ? { tolerance } : {}),
    onProgress: bar.update,
  });
  bar.clear();
  referenceBytes.close();
  const compared = { ...verified, run: runFacts((performance.now() - started) / 1000) };
  const report =
    baselineOptions && baseline ? compareToBaseline(compared, baseline, baselineOptions) : compared;
  const path = relative(process.cwd(), candidate).split(sep).join("/");
  for (const { path: file, format } of formats)
    await writeReport(
      file,
      await renderReport(report, format, path.startsWith("..") || candidate === "-" ? {} : { path }),
    );
  if (options.json) process.stdout.write(renderJson(report));
  else if (!options.quiet)
    process.stdout.write(`${renderText(report, { layers: options.layers ?? false, paint: PAINT })}\n`);
  return report.passed ? 0 : 1;
}

import { basename, dirname, relative, sep } from "node:path";
import { performance } from "node:perf_hooks";
import type { PixelOrder } from "../../convert/export/options.js";
import { isModelFormat } from "../../convert/formats/registry.js";
import { sniffFormat } from "../../convert/formats/sniff.js";
import type { NamedBytes } from "../../core/bytes.js";
import { definedOf } from "../../core/functions.js";
import { isFolder, openInput, type ReadProgress } from "../../node/read.js";
import { expectNotInputs, expectWritable, sweepTemporaries } from "../../node/write.js";
import type { RuntimeName } from "../../verify/backends/backend.js";
import { openVerification } from "../../verify/open.js";
import { compareToBaseline } from "../../verify/outcome/baseline.js";
import type { Tolerance } from "../../verify/outcome/report.js";
import { REPORT_FORMATS, renderJson, renderReport } from "../../verify/reports/index.js";
import { renderText } from "../../verify/reports/text.js";
import { verify } from "../../verify/verify.js";
import { readArchitecture, readImages, readModel } from "../inputs.js";
import { badArgument, misused, type Size } from "../options.js";
import type { ExitStatus } from "../program.js";
import {
  type BaselineFlags,
  baselineOptions,
  readReport,
  reportFormat,
  runFacts,
  writeReport,
} from "../reports.js";
import { type Io, paintFor, progress, readingProgress } from "../terminal.js";

/** The command's options as parsed by commander. */
interface VerifyOptions extends BaselineFlags {
  readonly reference?: string;
  readonly tolerance?: Tolerance;
  readonly backend?: RuntimeName;
  readonly input?: readonly string[];
  readonly batch?: number;
  readonly size?: Size;
  readonly arch?: string;
  readonly key?: string;
  readonly output?: string;
  readonly inputOrder?: PixelOrder;
  readonly jobs?: number;
  readonly report?: readonly string[];
  readonly layers?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** A reference: a checkpoint or a recording, read on demand; or a model with the files beside it. */
async function openReferenceFile(
  path: string,
  options: VerifyOptions,
  io: Io,
  onProgress: ReadProgress,
): Promise<{ readonly file: NamedBytes; readonly close: () => void }> {
  const close = (): void => undefined;
  if (await isFolder(path)) return { file: await readModel(path, io, options), close };
  const bytes = await openInput(path, { onProgress, stdin: io.stdin, isShared: true });
  if (!isModelFormat(sniffFormat(bytes)) || path === "-")
    return { file: { name: basename(path), bytes }, close: () => bytes.close() };
  bytes.close();
  return { file: await readModel(path, io, options), close };
}

/** @param second the argument after the candidate, short for `--reference` */
function referenceOf(second: string | undefined, { reference }: VerifyOptions): string {
  if (second !== undefined && reference !== undefined)
    throw badArgument(
      "--reference",
      `${reference} and ${second}`,
      "one reference",
      "remove the second argument or the option",
    );
  const only = second ?? reference;
  if (only !== undefined) return only;
  throw misused(
    "<reference>",
    "missing argument",
    "add the checkpoint the model came from, or a recording (.npz), as in osnet-verify osnet.onnx w.pth",
  );
}

/** Verifies a candidate file against a reference file; exit status 0 if parity holds, 1 if not. */
export async function verifyFiles(
  candidate: string,
  second: string | undefined,
  options: VerifyOptions,
  io: Io,
): Promise<ExitStatus> {
  const started = performance.now();
  const { tolerance, backend, key, output, inputOrder, batch, size, jobs } = options;
  const reference = referenceOf(second, options);
  const reports = options.report ?? [];
  const formats = reports.map((path) => ({ path, format: reportFormat(path, REPORT_FORMATS) }));
  await expectNotInputs(reports, [
    candidate,
    reference,
    options.baseline,
    options.arch,
    ...(options.input ?? []),
  ]);
  for (const path of reports) {
    await expectWritable(path, true);
    await sweepTemporaries(dirname(path));
  }
  const comparison = baselineOptions(options);
  const baseline = comparison && (await readReport(comparison.path));
  const arch = await readArchitecture(options.arch);
  const images = await readImages(options.input);
  const model = await readModel(candidate, io, options);
  const reading = readingProgress(reference, options, io);
  const against = await openReferenceFile(reference, options, io, reading.update);
  const verification = await openVerification(model, against.file, {
    ...definedOf({ arch, images, backend, key, output, inputOrder, batch, size, jobs }),
    startsThreads: true,
  });
  reading.clear();
  const bar = progress("verifying layer", io);
  const verified = await verify({
    ...verification,
    ...definedOf({ tolerance }),
    onProgress: bar.update,
  });
  bar.clear();
  against.close();
  const compared = { ...verified, run: runFacts((performance.now() - started) / 1000) };
  const report = comparison && baseline ? compareToBaseline(compared, baseline, comparison) : compared;
  const path = relative(process.cwd(), candidate).split(sep).join("/");
  for (const { path: file, format } of formats)
    await writeReport(
      file,
      await renderReport(report, format, path.startsWith("..") || candidate === "-" ? {} : { path }),
    );
  if (options.json) io.stdout.write(renderJson(report));
  else if (!options.quiet)
    io.stdout.write(
      `${renderText(report, { layers: options.layers ?? false, paint: paintFor(io.stdout) })}\n`,
    );
  if (reports.length > 0 && !options.quiet)
    (options.json ? io.stderr : io.stdout).write(`wrote ${reports.join(", ")}\n`);
  return report.passed ? 0 : 1;
}

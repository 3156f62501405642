import { basename, extname } from "node:path";
import { decodeNpy } from "../../src/convert/formats/npz/npy.js";
import { InputError } from "../../src/errors.js";
import { expectWritable, readInput, writeChecked } from "../../src/files.js";
import { formatShape, type Tensor } from "../../src/tensor.js";
import { isDType } from "../../src/tensor-cast.js";
import { type OpenOptions, openVerification } from "../../src/verify/open.js";
import { renderJson } from "../../src/verify/reports/json.js";
import { renderText } from "../../src/verify/reports/text.js";
import { verify } from "../../src/verify/verify.js";
import { parseBackend, parseTolerance, readArchitecture } from "./inputs.js";
import { readModel } from "./models.js";
import type { ExitStatus, Size } from "./options.js";
import { PAINT, progress } from "./terminal.js";

/** The command's options, as commander hands them over. */
interface VerifyOptions {
  readonly reference: string;
  readonly tolerance?: string;
  readonly backend?: string;
  readonly input?: string;
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

/** `--input`: `seed:N`, or an .npy file of [N, 3, H, W] float32. */
async function readImages(text: string | undefined): Promise<OpenOptions["images"]> {
  if (text === undefined) return undefined;
  const seed = /^seed:(\d{1,9})$/.exec(text)?.[1];
  if (seed !== undefined) return { seed: Number(seed) };
  if (extname(text) !== ".npy")
    throw badArgument("--input", JSON.stringify(text), "seed:N or an .npy file", "give one of them");
  const tensor: Tensor = decodeNpy(await readInput(text), basename(text));
  if (!isDType(tensor, "float32") || tensor.shape.length !== 4 || tensor.shape[1] !== 3)
    throw badArgument(
      basename(text),
      `${tensor.dtype} ${formatShape(tensor.shape)}`,
      "float32 images [N, 3, H, W]",
      "save them with numpy.save as PyTorch takes them",
    );
  return { source: basename(text), tensor };
}

function expectReportSuffix(path: string): void {
  if (extname(path) !== ".json")
    throw badArgument("--report", JSON.stringify(path), "a .json file", "name one");
}

function badArgument(subject: string, found: string, expected: string, remedy: string): InputError {
  return new InputError({ code: "argument", subject, found, expected, remedy });
}

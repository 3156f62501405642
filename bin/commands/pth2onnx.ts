import { basename } from "node:path";
import { multiplyAdds, parameterCount } from "../../src/arch/index.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/checkpoint.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import {
  lowerToOnnx,
  type OnnxOptions,
  type OnnxOutputSelection,
} from "../../src/convert/lower/onnx/index.js";
import { InputError } from "../../src/errors.js";
import { expectWritable, readInput, writeChecked } from "../../src/files.js";
import type { ParityReport } from "../../src/verify/report.js";
import { parseTolerance, readArchitecture } from "./inputs.js";
import type { ExitStatus, Size } from "./options.js";
import { megabytes, PAINT, progress } from "./terminal.js";

/** The command's options, as commander hands them over. */
interface Pth2OnnxOptions {
  readonly out?: string;
  readonly opset?: number;
  readonly batch?: number | "dynamic";
  readonly size?: Size | "dynamic";
  readonly output?: string;
  readonly gates?: boolean;
  readonly fold: boolean;
  readonly inputName?: string;
  readonly outputName?: string;
  readonly arch?: string;
  readonly key?: string;
  readonly tolerance?: string;
  readonly verify: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Converts a checkpoint; the file appears under its name only once it is verified. */
export async function pth2onnx(input: string, options: Pth2OnnxOptions): Promise<ExitStatus> {
  const output = options.out ?? defaultOutput(input);
  const force = options.force ?? false;
  if (output !== "-") await expectWritable(output, force);
  const tolerance = parseTolerance(options.tolerance);
  const arch = await readArchitecture(options.arch);
  const source = { name: input === "-" ? "standard input" : basename(input), bytes: await readInput(input) };
  const checkpoint = openCheckpoint(source.bytes, {
    subject: source.name,
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(arch === undefined ? {} : { arch }),
  });
  const bytes = encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict, onnxOptions(options)));

  const check = async (written: Uint8Array): Promise<ParityReport | undefined> => {
    if (!options.verify) return undefined;
    const { openVerification } = await import("../../src/verify/open.js");
    const { verify } = await import("../../src/verify/verify.js");
    const bar = progress("verifying layer");
    const verification = await openVerification(
      { name: output === "-" ? "standard output" : basename(output), bytes: written },
      { ...source, checkpoint },
    );
    const report = await verify({
      ...verification,
      ...(tolerance ? { tolerance } : {}),
      onProgress: bar.update,
    });
    bar.clear();
    return report;
  };
  const passed = (report: ParityReport | undefined): boolean => report?.passed ?? true;

  const report =
    output === "-"
      ? await check(bytes)
      : await writeChecked(output, bytes, {
          force,
          check: async (temporary) => check(await readInput(temporary)),
          accept: passed,
        });
  if (output === "-" && passed(report)) process.stdout.write(bytes);
  await announce({ checkpoint, output, bytes, source: source.name, ...(report ? { report } : {}) }, options);
  return passed(report) ? 0 : 1;
}

interface Conversion {
  readonly checkpoint: Checkpoint;
  readonly source: string;
  readonly output: string;
  readonly bytes: Uint8Array;
  readonly report?: ParityReport;
}

/** Says what was done: on standard output, or on standard error where that carries the file. */
async function announce(conversion: Conversion, { json, quiet }: Pth2OnnxOptions): Promise<void> {
  const { checkpoint, report, output, bytes } = conversion;
  const stream = output === "-" ? process.stderr : process.stdout;
  const passed = report?.passed ?? true;
  if (json) {
    const result = {
      output,
      bytes: bytes.length,
      written: passed,
      spec: checkpoint.spec,
      verification: report ?? null,
    };
    stream.write(`${JSON.stringify(result, null, 2)}\n`);
  } else if (!passed && report) {
    const { renderText } = await import("../../src/verify/reports/text.js");
    stream.write(`${renderText(report, { paint: PAINT })}\n\n${output} was not written.\n`);
  } else if (!quiet) stream.write(summary(conversion));
}

function summary({ checkpoint, source, output, bytes, report }: Conversion): string {
  const { graph, spec, variant, decoded } = checkpoint;
  const parameters = `${(parameterCount(graph).embedding / 1e6).toFixed(1)} M parameters`;
  const work = `${(multiplyAdds(graph, [1, 3, 256, 128]) / 1e6).toFixed(0)} M multiply-adds at 256×128`;
  const head = spec.head ? `${spec.head.classes} classes` : "no classifier";
  const lines = [
    `${source}: ${PAINT.strong(variant ?? "an OSNet of its own kind")}, ${head}, ${parameters}, ${work}`,
  ];
  for (const note of decoded.notes) lines.push(PAINT.faint(`  ${note}`));
  if (report) {
    const worst = report.layers.reduce((a, b) => ((b.margin ?? Infinity) > (a.margin ?? Infinity) ? b : a));
    lines.push(
      `${PAINT.good("verified")}: ${report.layers.length} layers and ${report.gates.length} gates agree with the float64 reference; the worst, ${worst.name}, uses ${((worst.margin ?? 0) * 100).toPrecision(2)} % of the tolerance`,
    );
  }
  lines.push(
    `wrote ${PAINT.strong(output)}, ${megabytes(bytes.length)}${report ? "" : ", not verified"}`,
    "",
  );
  return lines.join("\n");
}

const OUTPUTS: readonly OnnxOutputSelection[] = ["features", "logits", "both", "probabilities"];

function onnxOptions({
  fold,
  opset,
  batch,
  size,
  output,
  gates,
  inputName,
  outputName,
}: Pth2OnnxOptions): OnnxOptions {
  const selection = OUTPUTS.find((kind) => kind === output);
  if (output !== undefined && !selection)
    throw new InputError({
      code: "argument",
      subject: "--output",
      found: JSON.stringify(output),
      expected: OUTPUTS.join(", "),
      remedy: "choose one of them",
    });
  return {
    fold,
    ...(opset === undefined ? {} : { opset }),
    ...(batch === undefined ? {} : { batch }),
    ...(size === undefined ? {} : { size }),
    ...(selection === undefined ? {} : { output: selection }),
    ...(gates === undefined ? {} : { gates }),
    ...(inputName === undefined ? {} : { inputName }),
    ...(outputName === undefined ? {} : { outputName }),
  };
}

/** The input's name with its PyTorch suffix exchanged: `w.pth.tar-60` becomes `w.onnx`. */
function defaultOutput(input: string): string {
  if (input === "-") return "-";
  return `${input.replace(/(\.(pth|pt|pyth|bin|pkl|ckpt|tar)(-\d+)?)+$/i, "")}.onnx`;
}

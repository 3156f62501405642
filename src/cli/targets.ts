import type { OnnxOptions } from "../convert/export/onnx.js";
import { kindsOf, type ModelOptions, type OutputSelection } from "../convert/export/options.js";
import {
  compareBits,
  type Encoded,
  isWeightsTarget,
  storedWeights,
  type Target,
  type WeightsTarget,
} from "../convert/export/write.js";
import { type FileFormat, isModelFormat, isWeightsFormat } from "../convert/formats/registry.js";
import type { QuantizedDType } from "../convert/formats/tfjs/model.js";
import { decodeWeights } from "../convert/open/checkpoint.js";
import type { OnnxInterface } from "../convert/open/onnx-interface.js";
import type { NamedBytes } from "../core/bytes.js";
import { definedOf } from "../core/functions.js";
import type { FloatDType } from "../core/tensor-cast.js";
import { formatCosine, type Paint } from "../core/text.js";
import { usualRuntimes } from "../verify/backends/registry.js";
import type { ParityReport, Tolerance } from "../verify/outcome/report.js";
import type { Source } from "./inputs.js";
import { badArgument } from "./options.js";
import { type Io, progress } from "./terminal.js";

/** A written file, with those beside it. */
export type Written = Pick<NamedBytes, "beside"> & { readonly bytes: Uint8Array };

/** Output options under their writers' names, as parsed by commander; a command has those of its format. */
export interface TargetOptions extends ModelOptions, Omit<OnnxOptions, "output" | "dtype"> {
  readonly output?: OutputSelection;
  readonly dtype?: FloatDType;
  /** An ONNX file whose interface is copied unless options override it. */
  readonly like?: string;
  readonly externalData?: boolean;
  readonly fuse?: boolean;
  readonly tfjsFormat?: "graph" | "layers";
  readonly quantize?: QuantizedDType;
}

/** The target of a command, with notes on it. */
interface NamedTarget {
  readonly target: Target;
  /** Parts of the copied interface that are not written, one clause each. */
  readonly notes: readonly string[];
}

/**
 * The target that the options describe; only the file of `--like` is read.
 *
 * @throws InputError (`argument`) if the format does not support an option
 */
export async function openTarget(
  format: FileFormat,
  { tfjsFormat, ...options }: TargetOptions,
  io: Io,
): Promise<NamedTarget> {
  if (isWeightsFormat(format))
    return { target: { format, ...definedOf({ dtype: options.dtype }) }, notes: [] };
  if (format === "onnx") return onnxTarget(options as TargetOptions & OnnxOptions, io);
  if (format === "tfjs" && tfjsFormat === "layers") {
    expectOfLayers(options);
    return { target: { ...options, format, layers: true }, notes: [] };
  }
  // A command has the options of its own format and no others (convert-options.ts).
  return { target: { ...options, format } as Target, notes: [] };
}

async function onnxTarget(options: TargetOptions & OnnxOptions, io: Io): Promise<NamedTarget> {
  const like = options.like === undefined ? undefined : await readInterface(options.like, io);
  const output = outputOf(options.output, like);
  const externalData = options.externalData ?? like?.externalData ?? false;
  return {
    target: { ...like?.options, ...options, ...definedOf({ output }), format: "onnx", externalData },
    notes: (like?.notes ?? []).map((note) => `like ${options.like}: ${note}`),
  };
}

/** The parts of the copied interface that options do not override; of its outputs, the names. */
function outputOf(
  given: OutputSelection | undefined,
  like: OnnxInterface | undefined,
): OnnxOptions["output"] | undefined {
  const copied = like?.options.output;
  if (given === undefined || copied === undefined || typeof copied === "string") return given ?? copied;
  return kindsOf(given).map((kind) => copied.find((output) => output.kind === kind) ?? { kind, name: kind });
}

async function readInterface(path: string, io: Io): Promise<OnnxInterface> {
  const { readModel } = await import("./inputs.js");
  const { openOnnxInterface } = await import("../convert/open/onnx-interface.js");
  return openOnnxInterface(await readModel(path, io));
}

/** Keras layers have no names for inputs and outputs, and nothing to fuse. */
function expectOfLayers({ inputName, outputName, fuse = true }: TargetOptions): void {
  const flags = {
    "--input-name": inputName,
    "--output-name": outputName,
    "--no-fuse": fuse ? undefined : "",
  };
  for (const [flag, value] of Object.entries(flags))
    if (value !== undefined)
      throw badArgument(
        flag,
        "a layers model",
        "a graph model, which has this option",
        "remove one of the two",
      );
}

/** Describes the removal of negligible weights, in a clause. */
export function zerosNote({ zeros }: Encoded): readonly string[] {
  if (!zeros) return [];
  return [
    `${zeros.count} denormal weights of dead channels are written as zeros, which is faster and changes any value by at most ${roundedUp(zeros.bound)} of a rounding error (--keep-denormals keeps them)`,
  ];
}

/** Two digits, rounded up. */
function roundedUp(value: number): string {
  if (value === 0) return "0";
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return (Math.ceil(value / unit) * unit).toExponential(1);
}

/** The result of a verification; a failed one is not an exception. */
export interface Verdict {
  readonly passed: boolean;
  /** For `--json`. */
  readonly report: unknown;
  /** The result of the verification, to follow the word "verified". */
  readonly sentence: string;
  /** The loss of quantisation, if any. */
  readonly loss?: string | undefined;
  /** The full report of a failure. */
  explain(paint: Paint): Promise<string>;
}

/** Options for verifying the result. */
interface WrittenOptions {
  readonly tolerance?: Tolerance | undefined;
  /** Whether the source is a model that runs, whose own outputs the result's are compared with. */
  readonly rewritten: boolean;
}

/**
 * Compares the written result, read back, with its source: weights bit for bit, a model layer by layer in its runtime
 * with the float64 reference.
 */
export async function verifyWritten(
  target: Target,
  written: Written,
  source: Source,
  output: string,
  options: WrittenOptions,
  io: Io,
): Promise<Verdict> {
  if (isWeightsTarget(target)) return verifyWeights(target, written, source, output);
  return verifyModel({ name: output, ...written }, source, options, io);
}

function verifyWeights(target: WeightsTarget, { bytes }: Written, source: Source, output: string): Verdict {
  const expected = storedWeights(source.checkpoint.stateDict, target, source.name);
  const { stateDict } = decodeWeights(bytes, { subject: output, format: target.format });
  const differences = compareBits(expected, stateDict);
  const [passed, tensors] = [differences.length === 0, expected.size];
  return {
    passed,
    report: { passed, tensors, differences },
    sentence: `${tensors} tensors read back bit for bit`,
    explain: async () =>
      ["The file that was written does not match its source:", ...differences].join("\n  "),
  };
}

async function verifyModel(
  written: NamedBytes,
  source: Source,
  { tolerance, rewritten }: WrittenOptions,
  io: Io,
): Promise<Verdict> {
  const { openVerification } = await import("../verify/open.js");
  const { verify } = await import("../verify/verify.js");
  const bar = progress("verifying layer", io);
  const { checkpoint: _checkpoint, ...model } = source;
  const verification = await openVerification(written, source, {
    startsThreads: true,
    ...(rewritten ? { source: model } : {}),
  });
  const report = await verify({ ...verification, ...definedOf({ tolerance }), onProgress: bar.update });
  bar.clear();
  return parityVerdict(report);
}

/** The runtime, if it is not the usual one. */
function runBy({ backend, candidate: { format } }: ParityReport): string {
  const [usual] = isModelFormat(format) ? usualRuntimes(format) : [backend];
  return backend === usual ? "" : `; run in ${backend}, because ${usual} is not installed`;
}

function parityVerdict(report: ParityReport): Verdict {
  const { layers, gates, quantization } = report;
  return {
    passed: report.passed,
    report,
    get sentence() {
      const stored = quantization ? " on the weights as stored" : "";
      const all = `${layers.length} layers and ${gates.length} gates`;
      if (report.tolerance.rule === "derived-bounds") {
        const drift = report.output?.relMax?.toExponential(1);
        const embedding = drift
          ? `; the embedding is within ${drift} of the float64 reference (relative to its largest value)`
          : "";
        return `${all}, each recomputed in float64${stored}, match to within rounding${embedding}${runBy(report)}`;
      }
      const worst = layers.reduce((a, b) => ((b.margin ?? Infinity) > (a.margin ?? Infinity) ? b : a));
      const share = ((worst.margin ?? 0) * 100).toPrecision(2);
      return `${all} agree with the float64 reference${stored}; the worst, ${worst.name}, uses ${share} % of the tolerance`;
    },
    get loss() {
      if (!quantization) return undefined;
      const { dtypes, tensors, relMax, cosine } = quantization;
      return `${tensors} tensors as ${dtypes.join(", ")}, which changes the embedding by ${(relMax ?? Infinity).toExponential(1)} relative to its largest value (cosine ${formatCosine(cosine)})`;
    },
    async explain(paint) {
      const { renderText } = await import("../verify/reports/text.js");
      return renderText(report, { paint });
    },
  };
}

import { statedZeros } from "../../convert/export/metadata.js";
import type { ModelOptions, OutputSelection } from "../../convert/export/options.js";
import { formatCosine } from "../../core/text.js";
import type { RuntimeName } from "../../verify/backends/backend.js";
import { usualRuntimes } from "../../verify/backends/registry.js";
import type { ParityReport, Tolerance } from "../../verify/report.js";
import { type Io, progress } from "../terminal.js";
import type { Sink, Verdict } from "./sink.js";

/** The options of every converted model: those of the writers, under the same names. */
export interface ModelSinkOptions extends ModelOptions {
  readonly output?: OutputSelection;
  readonly tolerance?: Tolerance;
}

/** What was done to weights that cannot be seen, in a clause. */
export function zerosNote(metadata: ReadonlyMap<string, unknown>): readonly string[] {
  const zeros = statedZeros(metadata);
  if (!zeros) return [];
  return [
    `${zeros.count} denormal weights of dead channels are written as zeros, which is faster and changes any value by at most ${roundedUp(zeros.bound)} of a rounding error (--keep-denormals keeps them)`,
  ];
}

/** To two digits, and no less than it is. */
function roundedUp(value: number): string {
  if (value === 0) return "0";
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return (Math.ceil(value / unit) * unit).toExponential(1);
}

/** Converted models, verified layer by layer in their runtime against the float64 reference. */
export function paritySink(
  { tolerance }: ModelSinkOptions,
  io: Io,
  encode: Sink["encode"],
  backend?: RuntimeName,
): Sink {
  return {
    encode,
    async verify(written, source, output, rewritten = false) {
      const { openVerification } = await import("../../verify/open.js");
      const { verify } = await import("../../verify/verify.js");
      const bar = progress("verifying layer", io);
      const { checkpoint: _checkpoint, ...model } = source;
      const verification = await openVerification({ name: output, ...written }, source, {
        ...(backend ? { backend } : {}),
        ...(rewritten ? { source: model } : {}),
      });
      const report = await verify({
        ...verification,
        ...(tolerance ? { tolerance } : {}),
        onProgress: bar.update,
      });
      bar.clear();
      return parityVerdict(report);
    },
  };
}

/** Which runtime ran the model, where it is not the usual one. */
function runBy({ backend, candidate: { format } }: ParityReport): string {
  const [usual] = format === "onnx" || format === "tfjs" ? usualRuntimes(format) : [backend];
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
      const { renderText } = await import("../../verify/reports/text.js");
      return renderText(report, { paint });
    },
  };
}

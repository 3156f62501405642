import type { ImageSize } from "../../convert/export/options.js";
import type { PixelOrder } from "../../convert/export/preprocess.js";
import type { OutputSelection, ResultOptions } from "../../convert/export/results.js";
import { InputError } from "../../core/errors.js";
import { formatCosine } from "../../core/text.js";
import type { TfjsBackendName } from "../../verify/backends/backend.js";
import type { ParityReport } from "../../verify/report.js";
import { parseTolerance } from "../inputs.js";
import { progress } from "../terminal.js";
import type { Encoded, Sink, Source, Verdict } from "./sink.js";

/** The options of every converted model, as commander hands them over. */
export interface LoweringOptions {
  readonly batch?: number | "dynamic";
  readonly size?: ImageSize | "dynamic";
  readonly output?: string;
  readonly gates?: boolean;
  readonly fold?: boolean;
  readonly inputName?: string;
  readonly outputName?: string;
  /** `--preprocess` without an order is true. */
  readonly preprocess?: PixelOrder | true;
  readonly tolerance?: string;
}

/** Converted models, verified layer by layer in their runtime against the float64 reference. */
export function paritySink(
  options: LoweringOptions,
  encode: (source: Source, output: string) => Encoded,
  backend?: TfjsBackendName,
): Sink {
  const tolerance = parseTolerance(options.tolerance);
  return {
    encode,
    async verify({ beside, ...written }, source, output) {
      const { openVerification } = await import("../../verify/open.js");
      const { verify } = await import("../../verify/verify.js");
      const bar = progress("verifying layer");
      const candidate = {
        name: output,
        ...written,
        ...(beside ? { sidecar: (name: string) => beside.get(name) } : {}),
      };
      const verification = await openVerification(candidate, source, {
        ...(backend ? { backend } : {}),
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
        const embedding = drift ? `; the embedding is within ${drift} of max of the float64 reference's` : "";
        return `${all}, each recomputed in float64${stored}, are right to rounding${embedding}`;
      }
      const worst = layers.reduce((a, b) => ((b.margin ?? Infinity) > (a.margin ?? Infinity) ? b : a));
      const share = ((worst.margin ?? 0) * 100).toPrecision(2);
      return `${all} agree with the float64 reference${stored}; the worst, ${worst.name}, uses ${share} % of the tolerance`;
    },
    get loss() {
      if (!quantization) return undefined;
      const { dtypes, tensors, relMax, cosine } = quantization;
      return `${tensors} tensors as ${dtypes.join(", ")}, which moves the embedding by ${(relMax ?? Infinity).toExponential(1)} of max, cosine ${formatCosine(cosine)}`;
    },
    async explain(paint) {
      const { renderText } = await import("../../verify/reports/text.js");
      return renderText(report, { paint });
    },
  };
}

const OUTPUTS: readonly OutputSelection[] = ["features", "logits", "both", "probabilities"];

/** What every lowering takes, given and valid. */
interface CommonOptions extends ResultOptions {
  readonly fold?: boolean;
  readonly batch?: "dynamic" | number;
  readonly size?: "dynamic" | ImageSize;
  readonly inputName?: string;
}

/** @throws InputError (`argument`) if `--output` is no result */
export function loweringOptions(options: LoweringOptions): CommonOptions {
  const { fold, batch, size, output, gates, inputName, outputName, preprocess } = options;
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
    ...(fold === undefined ? {} : { fold }),
    ...(batch === undefined ? {} : { batch }),
    ...(size === undefined ? {} : { size }),
    ...(selection === undefined ? {} : { output: selection }),
    ...(gates === undefined ? {} : { gates }),
    ...(inputName === undefined ? {} : { inputName }),
    ...(outputName === undefined ? {} : { outputName }),
    ...(preprocess === undefined ? {} : { preprocess: preprocess === true ? "rgb" : preprocess }),
  };
}

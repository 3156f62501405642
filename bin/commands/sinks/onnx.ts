import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import {
  lowerToOnnx,
  type OnnxOptions,
  type OnnxOutputSelection,
} from "../../../src/convert/lower/onnx/index.js";
import { InputError } from "../../../src/errors.js";
import type { ParityReport } from "../../../src/verify/report.js";
import { parseTolerance } from "../inputs.js";
import type { Size } from "../options.js";
import { progress } from "../terminal.js";
import type { Sink, Verdict } from "./sink.js";

/** The options of ONNX files, as commander hands them over. */
export interface OnnxSinkOptions {
  readonly opset?: number;
  readonly batch?: number | "dynamic";
  readonly size?: Size | "dynamic";
  readonly output?: string;
  readonly gates?: boolean;
  readonly fold?: boolean;
  readonly inputName?: string;
  readonly outputName?: string;
  readonly tolerance?: string;
}

/** ONNX files, verified layer by layer in onnxruntime against the float64 reference. */
export function onnxSink(options: OnnxSinkOptions): Sink {
  const tolerance = parseTolerance(options.tolerance);
  const lowering = onnxOptions(options);
  return {
    encode({ checkpoint: { graph, stateDict } }) {
      return { bytes: encodeOnnx(lowerToOnnx(graph, stateDict, lowering)), notes: [] };
    },
    async verify(written, source, output) {
      const { openVerification } = await import("../../../src/verify/open.js");
      const { verify } = await import("../../../src/verify/verify.js");
      const bar = progress("verifying layer");
      const verification = await openVerification({ name: output, bytes: written }, source);
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
  const { layers, gates } = report;
  return {
    passed: report.passed,
    report,
    get sentence() {
      const worst = layers.reduce((a, b) => ((b.margin ?? Infinity) > (a.margin ?? Infinity) ? b : a));
      const share = ((worst.margin ?? 0) * 100).toPrecision(2);
      return `${layers.length} layers and ${gates.length} gates agree with the float64 reference; the worst, ${worst.name}, uses ${share} % of the tolerance`;
    },
    async explain(paint) {
      const { renderText } = await import("../../../src/verify/reports/text.js");
      return renderText(report, { paint });
    },
  };
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
}: OnnxSinkOptions): OnnxOptions {
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
    ...(opset === undefined ? {} : { opset }),
    ...(batch === undefined ? {} : { batch }),
    ...(size === undefined ? {} : { size }),
    ...(selection === undefined ? {} : { output: selection }),
    ...(gates === undefined ? {} : { gates }),
    ...(inputName === undefined ? {} : { inputName }),
    ...(outputName === undefined ? {} : { outputName }),
  };
}

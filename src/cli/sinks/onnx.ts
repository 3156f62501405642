import { lowerToOnnx, type OnnxOptions } from "../../convert/export/onnx/index.js";
import { ONNX_DTYPES, type OnnxDType } from "../../convert/export/onnx/options.js";
import { kindsOf } from "../../convert/export/results.js";
import { encodeOnnx, encodeOnnxFiles } from "../../convert/formats/onnx/encode.js";
import type { OnnxInterface } from "../../convert/import/onnx-interface.js";
import { InputError } from "../../core/errors.js";
import { type LoweringOptions, loweringOptions, paritySink } from "./parity.js";
import type { Sink } from "./sink.js";

/** The options of ONNX files, as commander hands them over. */
export interface OnnxSinkOptions extends LoweringOptions {
  readonly like?: string;
  readonly opset?: number;
  readonly dtype?: string;
  readonly ioDtype?: OnnxDType;
  readonly externalData?: boolean;
}

/** ONNX files, verified layer by layer in onnxruntime against the float64 reference. */
export async function onnxSink(options: OnnxSinkOptions): Promise<Sink> {
  const { opset, ioDtype } = options;
  const dtype = parseDType(options.dtype);
  const given = loweringOptions(options);
  const like = options.like === undefined ? undefined : await readInterface(options.like);
  const output = outputOf(given.output, like);
  const lowering: OnnxOptions = {
    ...like?.options,
    ...given,
    ...(output ? { output } : {}),
    ...(opset === undefined ? {} : { opset }),
    ...(dtype === undefined ? {} : { dtype }),
    ...(ioDtype === undefined ? {} : { ioDtype }),
  };
  const hasSidecar = options.externalData ?? like?.externalData ?? false;
  const notes = (like?.notes ?? []).map((note) => `like ${options.like}: ${note}`);
  return {
    ...paritySink(options, ({ checkpoint: { graph, stateDict } }, name) => {
      const model = lowerToOnnx(graph, stateDict, lowering);
      if (!hasSidecar) return { bytes: encodeOnnx(model), notes };
      const [sidecar] = sidecarsOf(name);
      const { bytes, data } = encodeOnnxFiles(model, sidecar);
      return { bytes, beside: new Map([[sidecar, data]]), notes };
    }),
    ...(hasSidecar ? { beside: sidecarsOf } : {}),
  };
}

/** As torch's exporter calls it. */
function sidecarsOf(name: string): readonly [string] {
  return [`${name}.data`];
}

/** What of another file's interface the user has not said otherwise: of its outputs, the names. */
function outputOf(
  given: ReturnType<typeof loweringOptions>["output"],
  like: OnnxInterface | undefined,
): OnnxOptions["output"] | undefined {
  const theirs = like?.options.output;
  if (given === undefined || typeof given !== "string" || theirs === undefined || typeof theirs === "string")
    return given ?? theirs;
  return kindsOf(given).map((kind) => theirs.find((output) => output.kind === kind) ?? { kind, name: kind });
}

async function readInterface(path: string): Promise<OnnxInterface> {
  const { readModel } = await import("../models.js");
  const { openOnnxInterface } = await import("../../convert/import/onnx-interface.js");
  const { name, bytes, sidecar } = await readModel(path);
  return openOnnxInterface(bytes, { subject: name, ...(sidecar ? { sidecar } : {}) });
}

function parseDType(text: string | undefined): OnnxDType | undefined {
  const dtype = ONNX_DTYPES.find((name) => name === text);
  if (text === undefined || dtype !== undefined) return dtype;
  throw new InputError({
    code: "argument",
    subject: "--dtype",
    found: JSON.stringify(text),
    expected: ONNX_DTYPES.join(" or "),
    remedy: "choose one of them",
  });
}

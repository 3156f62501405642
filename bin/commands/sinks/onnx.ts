import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/lower/onnx/index.js";
import { type LoweringOptions, loweringOptions, paritySink } from "./parity.js";
import type { Sink } from "./sink.js";

/** The options of ONNX files, as commander hands them over. */
export interface OnnxSinkOptions extends LoweringOptions {
  readonly opset?: number;
}

/** ONNX files, verified layer by layer in onnxruntime against the float64 reference. */
export function onnxSink(options: OnnxSinkOptions): Sink {
  const { opset } = options;
  const lowering: OnnxOptions = { ...loweringOptions(options), ...(opset === undefined ? {} : { opset }) };
  return paritySink(options, ({ checkpoint: { graph, stateDict } }) => ({
    bytes: encodeOnnx(lowerToOnnx(graph, stateDict, lowering)),
    notes: [],
  }));
}

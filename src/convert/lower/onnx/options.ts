import type { LayerGraph } from "../../../arch/graph.js";
import { type ModelOptions, type ResolvedModelOptions, resolveModelOptions } from "../options.js";
import type { ResultOptions } from "../results.js";
import { DEFAULT_OPSET, irVersionFor } from "./opsets.js";

/** Which results the file returns; `both` is the embedding and the logits. */
export type OnnxOutputSelection = NonNullable<ResultOptions["output"]>;

/** How an ONNX file is written; every field has a default. Images of any size cost 5–8 % in onnxruntime. */
export interface OnnxOptions extends ModelOptions {
  /** Version of the operators, 11 to 26. Default 17. */
  readonly opset?: number;
  /** What weights are stored and layers computed in. Default float32. */
  readonly dtype?: OnnxDType;
  /** Element type of the input and of the results, whatever is between them. Default float32. */
  readonly ioDtype?: OnnxDType;
}

/** The element types that networks are written in. */
export const ONNX_DTYPES = ["float32", "float16"] as const;

export type OnnxDType = (typeof ONNX_DTYPES)[number];

/** Options with all defaults filled in, for one network. */
export interface ResolvedOptions extends ResolvedModelOptions {
  readonly opset: number;
  readonly irVersion: number;
  readonly dtype: OnnxDType;
  readonly ioDtype: OnnxDType;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output.
 */
export function resolveOptions(graph: LayerGraph, options: OnnxOptions): ResolvedOptions {
  const { opset = DEFAULT_OPSET, dtype = "float32", ioDtype = "float32" } = options;
  const resolved = resolveModelOptions(graph, options);
  return { ...resolved, opset, irVersion: irVersionFor(opset), dtype, ioDtype };
}

import type { LayerGraph } from "../../../arch/graph.js";
import { InputError } from "../../../core/errors.js";
import { type ModelOptions, type ResolvedModelOptions, resolveModelOptions } from "../options.js";
import type { ResultOptions } from "../results.js";

/** The operator set of files written by default: the oldest with `LayerNormalization`, taken by every runtime of today. */
export const DEFAULT_OPSET = 17;

/**
 * The lowest IR version that may carry each operator set, so that the oldest readers accept the file
 * (https://github.com/onnx/onnx/blob/main/docs/Versioning.md, "Released Versions"). 11 is the oldest set in which
 * every operator that we emit has its present meaning; 26 the newest that onnxruntime 1.30 loads.
 */
const IR_VERSIONS: ReadonlyMap<number, number> = new Map([
  [11, 6],
  [12, 7],
  [13, 7],
  [14, 7],
  [15, 8],
  [16, 8],
  [17, 8],
  [18, 8],
  [19, 9],
  [20, 9],
  [21, 10],
  [22, 10],
  [23, 11],
  [24, 12],
  [25, 13],
  [26, 13],
]);

/** The operator sets that files can be written for, oldest and newest. */
export const OPSET_RANGE: readonly [oldest: number, newest: number] = [
  Math.min(...IR_VERSIONS.keys()),
  Math.max(...IR_VERSIONS.keys()),
];

/**
 * The lowest IR version for an operator set.
 *
 * @throws InputError (`argument`) if the operator set is outside `OPSET_RANGE`.
 */
function irVersionFor(opset: number): number {
  const irVersion = IR_VERSIONS.get(opset);
  if (irVersion === undefined)
    throw new InputError({
      code: "argument",
      subject: "opset",
      found: String(opset),
      expected: `a whole number from ${OPSET_RANGE[0]} to ${OPSET_RANGE[1]}`,
      remedy: `leave it out for opset ${DEFAULT_OPSET}`,
    });
  return irVersion;
}

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

import type { LayerGraph } from "../../../arch/graph.js";
import type { PixelOrder } from "../preprocess.js";
import {
  DEFAULT_SIZE,
  expectInputShape,
  type ImageSize,
  type Result,
  type ResultOptions,
  selectResults,
} from "../results.js";
import { DEFAULT_OPSET, irVersionFor } from "./opsets.js";

/** Which results the file returns; `both` is the embedding and the logits. */
export type OnnxOutputSelection = NonNullable<ResultOptions["output"]>;

/** How an ONNX file is written; every field has a default. */
export interface OnnxOptions {
  /** Whether batch norms are folded into the layers before them. Default true. */
  readonly fold?: boolean;
  /** Version of the operators, 11 to 26. Default 17. */
  readonly opset?: number;
  /** Images per run: a number, or `dynamic` for any. Default dynamic. */
  readonly batch?: "dynamic" | number;
  /** Size of the images, or `dynamic` for any that the network can take, 5–8 % slower in onnxruntime. Default 256×128. */
  readonly size?: "dynamic" | ImageSize;
  /** Results, or each by itself with its name. Default: what torchreid returns in evaluation mode. */
  readonly output?: OnnxOutputSelection;
  /** Whether every stream's gate vector [N, C, 1, 1] is an output too, named as its layer. Default false. */
  readonly gates?: boolean;
  /** Name of the input. Default `images`. */
  readonly inputName?: string;
  /** Name of the first output. Default `features`, `logits` or `probabilities`, as it is one. */
  readonly outputName?: string;
  /** Raw pixels [N, 3, H, W] of 0 to 255 in this order of channels as the input. Default: normalised images. */
  readonly preprocess?: PixelOrder;
  /** What weights are stored and layers computed in. Default float32. */
  readonly dtype?: OnnxDType;
  /** Element type of the input and of the results, whatever is between them. Default float32. */
  readonly ioDtype?: OnnxDType;
}

/** The element types that networks are written in. */
export const ONNX_DTYPES = ["float32", "float16"] as const;

export type OnnxDType = (typeof ONNX_DTYPES)[number];

/** Options with all defaults filled in, for one network. */
export interface ResolvedOptions {
  readonly fold: boolean;
  readonly opset: number;
  readonly irVersion: number;
  readonly batch: "dynamic" | number;
  readonly size: "dynamic" | ImageSize;
  readonly inputName: string;
  readonly results: readonly Result[];
  readonly preprocess: PixelOrder | undefined;
  readonly dtype: OnnxDType;
  readonly ioDtype: OnnxDType;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output.
 */
export function resolveOptions(graph: LayerGraph, options: OnnxOptions): ResolvedOptions {
  const { fold = true, opset = DEFAULT_OPSET, batch = "dynamic", size = DEFAULT_SIZE } = options;
  expectInputShape(batch, size);
  const { inputName = "images", preprocess, dtype = "float32", ioDtype = "float32" } = options;
  const results = selectResults(graph, options);
  const irVersion = irVersionFor(opset);
  return { fold, opset, irVersion, batch, size, inputName, results, preprocess, dtype, ioDtype };
}

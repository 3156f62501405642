import type { ParameterRole } from "../../../../arch/ops.js";
import type { Shape, Tensor } from "../../../../tensor.js";
import type { TfjsAttribute, TfjsNode } from "../../../formats/tfjs/index.js";

/** What one layer becomes: nodes, one of which is named after the layer, and constants that are no weights. */
export interface TfjsFragment {
  readonly nodes: readonly TfjsNode[];
  readonly constants?: ReadonlyMap<string, Tensor<"float32" | "int32">>;
}

/** Where a layer's nodes go: the node they must end in, and the nodes they read. */
export interface TfjsSite {
  /** The layer's node; of a layer with a merged ReLU, the ReLU's. */
  readonly name: string;
  /** Nodes of the activations that the layer reads. */
  readonly inputs: readonly string[];
  /** Nodes of the layer's weights. */
  readonly weights: Readonly<Partial<Record<ParameterRole, string>>>;
  /** The output's shape as PyTorch has it, NCHW or NC, for one image. */
  readonly shape: Shape;
  /** The shape of the first input likewise, if images have one size only. */
  readonly inputShape: Shape | undefined;
  /** Whether the layer may use tfjs's fused operations. */
  readonly fuse: boolean;
  /** Whether the layer's ReLU is part of it. */
  readonly relu: boolean;
}

/** Attributes as they are written in lowerings. */
export type AttributeRecord = Readonly<Record<string, TfjsAttribute>>;

export const int = (value: number): TfjsAttribute => ({ type: "int", value });
export const ints = (...value: readonly number[]): TfjsAttribute => ({ type: "ints", value });
export const float = (value: number): TfjsAttribute => ({ type: "float", value });
export const bool = (value: boolean): TfjsAttribute => ({ type: "bool", value });
export const text = (value: string): TfjsAttribute => ({ type: "string", value });
export const texts = (...value: readonly string[]): TfjsAttribute => ({ type: "strings", value });
export const dtype = (value: "DT_FLOAT" | "DT_INT32"): TfjsAttribute => ({ type: "dtype", value });

/** A node with its attributes; all of ours compute in float32. */
export function tfNode(
  name: string,
  op: string,
  inputs: readonly string[],
  attributes: AttributeRecord = {},
): TfjsNode {
  return { name, op, inputs, attributes: new Map(Object.entries({ T: dtype("DT_FLOAT"), ...attributes })) };
}

/** A vector of whole numbers: axes, paddings, shapes. */
export function wholeNumbers(...values: readonly number[]): Tensor<"int32"> {
  return { dtype: "int32", shape: [values.length], data: Int32Array.from(values) };
}

export function scalar(value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

/** `Mean`, `Max`: a reduction over constant axes that keeps its dimensions as ones. */
export function reduction(name: string, op: string, input: string, axes: string): TfjsNode {
  return tfNode(name, op, [input, axes], { Tidx: dtype("DT_INT32"), keep_dims: bool(true) });
}

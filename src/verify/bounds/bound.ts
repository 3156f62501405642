import type { LayerNode } from "../../arch/graph.js";
import type { Op, OpKind } from "../../arch/ops.js";
import type { RealTensor, Tensor } from "../../tensor.js";
import type { ParameterSource, Workspace } from "../reference/index.js";
import type { Arithmetic } from "./rounding.js";

/** How far each element may be off, absolutely: one number for all, or one to an element. */
export type ErrorBound = number | Float64Array;

/** A layer recomputed in float64 on what a candidate fed to it, whose rounding is to be bounded. */
export interface BoundCall<K extends OpKind = OpKind> {
  readonly node: Omit<LayerNode, "op"> & { readonly op: Op<K> };
  /** NCHW or NC, in the order of the node's inputs. */
  readonly inputs: readonly RealTensor[];
  /** How far each input may be from what the candidate had: 0 unless the candidate fused the layer before. */
  readonly inputErrors: readonly ErrorBound[];
  /** What the layer gives on these inputs in exact arithmetic, to float64's precision. */
  readonly output: Tensor<"float64">;
  readonly parameters: ParameterSource;
  readonly arithmetic: Arithmetic;
  /** Where the bound is computed; used again by the next. */
  readonly workspace: Workspace;
}

/** What rounding can account for in one layer's output. */
export interface RoundingBound {
  /** Worst case, for each element: an error above it is no rounding. */
  readonly elements: ErrorBound;
  /**
   * How many roundings of about the bound's size each element sums up, where they are many: as if independent, they
   * then add up to far less than the worst case, which is what the spread of all errors is held against.
   */
  readonly roundings?: number;
  /** Of normalisations: what rounding does to a plane once its common shift, an error of the mean, is taken out. */
  readonly planes?: PlaneBound;
}

/** Root-mean-square errors about their mean, one for each plane of `size` consecutive elements. */
export interface PlaneBound {
  readonly size: number;
  readonly spread: Float64Array;
}

/** Bounds the rounding of one kind of operation. */
export type Bound<K extends OpKind> = (call: BoundCall<K>) => RoundingBound;

/** The bound of one element. */
export function errorAt(bound: ErrorBound, index: number): number {
  return typeof bound === "number" ? bound : (bound[index] as number);
}

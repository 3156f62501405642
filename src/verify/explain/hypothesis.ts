import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { filled } from "../../core/functions.js";
import type { RealTensor, Shape, Tensor } from "../../core/tensor.js";
import type { LayerGroup, Recomputed } from "../bounds/recompute.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";

/** The kinds of explanations for wrong values. */
export type Cause =
  | "batch-norm-missing"
  | "batch-norm-twice"
  | "bgr"
  | "bias"
  | "bytes-shifted"
  | "epsilon"
  | "gate-missing"
  | "gate-other"
  | "gates-crossed"
  | "hard-sigmoid"
  | "instance-norm-misplaced"
  | "kernel-transposed"
  | "layer-bypassed"
  | "layout"
  | "not-normalised"
  | "overflow"
  | "pooling"
  | "precision"
  | "relu-extra"
  | "relu-missing"
  | "relu-other"
  | "same-padding"
  | "scaled"
  | "sigmoid-missing"
  | "sigmoid-temperature"
  | "streams-exchanged"
  | "term-missing"
  | "terms-weighted"
  | "training-mode"
  | "unbiased-variance"
  | "weights-rounded"
  | "weights-elsewhere"
  | "weights-other"
  | "zero-padding";

/** A failing layer, and the data that hypotheses about it are tested with. */
export interface Evidence {
  readonly graph: LayerGraph;
  readonly group: LayerGroup;
  /** The candidate's values. */
  readonly actual: RealTensor;
  /** The correct values for the candidate's own inputs, with their rounding bound. */
  readonly recomputed: Recomputed;
  /** The candidate's values that the group reads, by name. */
  readonly source: (name: string) => RealTensor;
  /** Other values of the same block that the candidate shows, by name. */
  readonly nearby: ReadonlyMap<string, RealTensor>;
  /** Every layer's output shape. */
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly parameters: ParameterSource;
  /** Shapes of all parameters, by path, to find a tensor that was mistaken for another. */
  readonly parameterShapes: ReadonlyMap<string, Shape>;
  /** The remaining effort for hypotheses. */
  readonly effort: Effort;
}

/**
 * Remaining work in multiply-adds. It is counted and not timed, so that a report is the same on every machine.
 */
export interface Effort {
  left: number;
}

/** One step of a failing group, which a hypothesis replaces. */
export interface Step {
  readonly node: LayerNode;
  readonly inputs: readonly RealTensor[];
  /** The output's shape. */
  readonly shape: Shape;
  /** Computes the step in float64, with the given changes. */
  readonly compute: (change?: Change) => Tensor<"float64">;
}

/** What to change in a step. */
interface Change {
  readonly node?: LayerNode;
  readonly inputs?: readonly RealTensor[];
  readonly parameters?: ParameterSource;
  /** The output's shape, if it changes. */
  readonly shape?: Shape;
}

/** A hypothesis about what a candidate computes instead of a step; tested by computing it. */
export interface Hypothesis {
  readonly cause: Cause;
  /** The explanation if it is confirmed, such as `ε is 1e-3, not 1e-5`. */
  readonly says: string;
  readonly output: () => Tensor<"float64"> | undefined;
  /** A quick check at a few places, to avoid computing the whole. */
  readonly plausible?: () => boolean;
  /**
   * Additional rounding of this computation beyond the layer's own bound, per element: for a function evaluated in
   * float32 instead of one that does not round.
   */
  readonly rounding?: (index: number) => number;
  /** Cost of computing it, relative to that of the step; default 1. */
  readonly work?: number;
}

/** Hypotheses about one step of a failing group. */
export type Guess = (step: Step, evidence: Evidence) => readonly Hypothesis[];

/** A tensor with other values. */
export function withData(shape: Shape, data: Float64Array): Tensor<"float64"> {
  return { dtype: "float64", shape, data };
}

/** A tensor of the same shape, element by element. */
export function mapped(
  { shape, data }: RealTensor,
  change: (value: number, index: number) => number,
): Tensor<"float64"> {
  return withData(
    shape,
    filled(new Float64Array(data.length), (index) => change(data[index] as number, index)),
  );
}

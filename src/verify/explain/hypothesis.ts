import { foldedBias, scaleRows } from "../../arch/batch-norm.js";
import type { LayerGraph, LayerNode, Op, Size2d } from "../../arch/index.js";
import { filled } from "../../core/functions.js";
import type { RealTensor, Shape, Tensor } from "../../core/tensor.js";
import { errorAt, type Place, windowAt } from "../bounds/bound.js";
import { affineOf } from "../bounds/norms.js";
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

/** A convolution or linear layer as a runtime computes it: a batch norm folded in, and a bias. */
export interface Product {
  readonly node: LayerNode;
  /** OIHW, or [out, in]. */
  readonly shape: Shape;
  readonly weight: Float64Array;
  readonly bias: Float64Array;
}

export function productOf(
  node: LayerNode,
  op: Op<"conv"> | Op<"linear">,
  parameters: ParameterSource,
): Product {
  const own = parameters(node.parameters.weight ?? "");
  const bias = node.parameters.bias === undefined ? undefined : parameters(node.parameters.bias);
  const outputs = op.kind === "conv" ? op.outChannels : op.outFeatures;
  const shape =
    op.kind === "conv" ? [outputs, op.inChannels / op.groups, ...op.kernel] : [outputs, op.inFeatures];
  const { foldedBatchNorm, ...plain } = node;
  const bare: LayerNode = {
    ...plain,
    op: op.kind === "conv" ? { ...op, bias: true } : op,
    parameters: { weight: "weight", bias: "bias" },
  };
  if (!foldedBatchNorm) return { node: bare, shape, weight: own, bias: bias ?? new Float64Array(outputs) };
  const norm = affineOf(foldedBatchNorm.parameters, foldedBatchNorm.epsilon, parameters);
  return {
    node: bare,
    shape,
    weight: scaleRows(own, norm.scale, new Float64Array(own.length)),
    bias: foldedBias(norm, bias),
  };
}

/** Number of output elements that a hypothesis is tried on before all are computed. */
const PLACES = 64;

/** Tolerance at these elements, in bounds: values larger than the layer's own have a larger bound. */
const SLACK = 8;

/** The share of samples that must be close: a hypothesis may be right except for a few weights. */
const SHARE = 0.75;

/** Changes to a convolution or linear layer. */
interface Otherwise {
  readonly node?: LayerNode;
  readonly parameters?: ParameterSource;
  /** The weight with a batch norm folded in; the bias is unchanged. */
  readonly weight?: Float64Array;
  readonly input?: RealTensor;
  /** Shift of all windows, in pixels. */
  readonly shift?: Size2d;
}

/** Whether a convolution or linear layer computed otherwise gives the candidate's values at a few places. */
type Trial = (otherwise: Otherwise) => boolean;

/**
 * For other layers, and if the candidate does not show the step's own values, every hypothesis is possible.
 */
export function trialOf(step: Step, { actual, recomputed, group, parameters }: Evidence): Trial {
  const { node } = step;
  const { op } = node;
  const [own] = step.inputs;
  if (!own || group.nodes.length !== 1 || (op.kind !== "conv" && op.kind !== "linear")) return () => true;
  const outputs = op.kind === "conv" ? op.outChannels : op.outFeatures;
  const [, , height = 1, width = 1] = step.shape;
  const plane = height * width;
  const count = Math.min(PLACES, actual.data.length);
  const places = Array.from({ length: count }, (_, i) => {
    // Spread over all elements, at odd distances, so that all channels and columns occur.
    const index = Math.min(
      actual.data.length - 1,
      Math.floor((i * actual.data.length) / count) + ((7 * i) % 11),
    );
    const channel = Math.floor(index / plane) % outputs;
    const image = Math.floor(index / plane / outputs);
    return { index, image, channel, row: Math.floor((index % plane) / width), column: index % width };
  });
  const readAt = (place: Place, input: RealTensor, shift: Size2d): ArrayLike<number> =>
    op.kind === "linear"
      ? input.data.subarray(place.image * op.inFeatures, (place.image + 1) * op.inFeatures)
      : windowAt(op, input, place, shift);
  const readAll = (input: RealTensor, shift: Size2d): readonly ArrayLike<number>[] =>
    places.map((place) => readAt(place, input, shift));
  const usual = readAll(own, [0, 0]);
  const { output, bound: bounds } = recomputed;
  const largest = places.reduce(
    (most, { index }) => Math.max(most, Math.abs(output.data[index] as number)),
    0,
  );
  const mean = places.reduce((sum, { index }) => sum + errorAt(bounds.elements, index) / count, 0);
  return ({ node: other, parameters: source, weight, input, shift }) => {
    const product = productOf(other ?? node, op, source ?? parameters);
    const weights = weight ?? product.weight;
    const row = weights.length / outputs;
    const reads = input || shift ? readAll(input ?? own, shift ?? [0, 0]) : usual;
    const near = places.filter(({ index, channel }, i) => {
      const read = reads[i] ?? [];
      let sum = product.bias[channel] ?? 0;
      for (let k = 0; k < row; k++) sum += (weights[channel * row + k] as number) * (read[k] as number);
      const growth = Math.max(1, Math.abs(sum) / largest);
      const bound = Math.max(errorAt(recomputed.bound.elements, index), mean);
      return Math.abs(sum - (actual.data[index] as number)) <= SLACK * growth * bound;
    });
    return near.length >= SHARE * places.length;
  };
}

import { foldedBias, scaleRows } from "../../arch/batch-norm.js";
import type { LayerNode, Op, Size2d } from "../../arch/index.js";
import type { RealTensor, Shape } from "../../core/tensor.js";
import { errorAt, type Place, windowAt } from "../bounds/bound.js";
import { affineOf } from "../bounds/norms.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";
import type { Evidence, Step } from "./hypothesis.js";

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
export type Trial = (otherwise: Otherwise) => boolean;

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

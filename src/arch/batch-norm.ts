import type { LayerNode, ParameterRole } from "./graph.js";

/** A batch norm in evaluation mode as (x − mean) · scale + bias, one number per channel: scale = γ/√(σ² + ε). */
export interface BatchNormAffine {
  readonly mean: ArrayLike<number>;
  readonly scale: Float64Array;
  readonly bias: ArrayLike<number>;
}

type Numbers = Float32Array | Float64Array;

/** @param parameters one number per channel by role, in the precision of the state dict */
export function batchNormAffine(
  { weight, bias, runningMean, runningVar }: Readonly<Record<ParameterRole, ArrayLike<number>>>,
  epsilon: number,
): BatchNormAffine {
  const scale = Float64Array.from(
    weight,
    (gamma, channel) => gamma / Math.sqrt((runningVar[channel] ?? 0) + epsilon),
  );
  return { mean: runningMean, scale, bias };
}

/**
 * The ε of a norm γ/√(σ² + ε), inferred from the ratio of each channel to the same norm with another ε: the median over all
 * channels, to two digits; undefined if no channel determines it.
 */
export function epsilonShown(
  variances: ArrayLike<number>,
  epsilon: number,
  ratios: readonly number[],
): number | undefined {
  const shown = ratios
    .map((ratio, channel) => ((variances[channel] ?? 0) + epsilon) / ratio ** 2 - (variances[channel] ?? 0))
    .filter((each) => each > 0 && each < Infinity)
    .sort((a, b) => a - b);
  const median = shown[Math.floor(shown.length / 2)];
  return median === undefined ? undefined : Number(median.toPrecision(2));
}

/**
 * A convolution or linear layer and the batch norm after it as one node, which has the norm's name, the layer's inputs and
 * parameters, and a bias.
 */
export function foldedNode(layer: LayerNode, norm: LayerNode, epsilon: number): LayerNode {
  return {
    ...norm,
    op: layer.op.kind === "conv" ? { ...layer.op, bias: true } : layer.op,
    inputs: layer.inputs,
    parameters: layer.parameters,
    foldedBatchNorm: {
      from: layer.name,
      epsilon,
      // A batch norm's node always has all four roles.
      parameters: norm.parameters as Record<ParameterRole, string>,
    },
  };
}

/** The layer of such a node alone: the only bias of a folded convolution may be that of the batch norm. */
export function unfoldedNode({ foldedBatchNorm, ...node }: LayerNode): LayerNode {
  return foldedBatchNorm && node.op.kind === "conv"
    ? { ...node, op: { ...node.op, bias: node.parameters.bias !== undefined } }
    : node;
}

/** The bias of a layer with the batch norm after it folded in: (b − mean) · scale + β, in float64. */
export function foldedBias(
  { mean, scale, bias }: BatchNormAffine,
  own: ArrayLike<number> | undefined,
): Float64Array {
  return scale.map(
    (factor, channel) => ((own?.[channel] ?? 0) - (mean[channel] ?? 0)) * factor + (bias[channel] ?? 0),
  );
}

/**
 * The weight of a layer with the batch norm after it folded in, rounded once to the target's type: each output
 * channel's row times its scale. A function of its own, so that its loop is compiled once for all layers.
 *
 * @param weight OIHW, or [out, in]
 * @param target as long as the weight
 */
export function scaleRows<T extends Numbers>(weight: Numbers, scale: ArrayLike<number>, target: T): T {
  const row = weight.length / Math.max(1, scale.length);
  for (let channel = 0; channel < scale.length; channel++)
    scaleRange(weight, scale[channel] ?? 0, channel * row, (channel + 1) * row, target);
  return target;
}

function scaleRange(source: Numbers, scale: number, start: number, end: number, target: Numbers): void {
  for (let index = start; index < end; index++) target[index] = (source[index] ?? 0) * scale;
}

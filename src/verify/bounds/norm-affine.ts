import type { LayerNode } from "../../arch/index.js";
import type { ParameterSource } from "../reference/index.js";

/** A batch norm in evaluation mode as (x − mean) · scale + bias, one number to a channel. */
export interface NormAffine {
  readonly mean: Float64Array;
  readonly scale: Float64Array;
  readonly bias: Float64Array;
}

export function batchNormAffine(
  paths: LayerNode["parameters"],
  epsilon: number,
  parameters: ParameterSource,
): NormAffine {
  const read = (path: string | undefined): Float64Array =>
    path === undefined ? new Float64Array() : parameters(path);
  const variance = read(paths.runningVar);
  return {
    mean: read(paths.runningMean),
    scale: read(paths.weight).map((gamma, channel) => gamma / Math.sqrt((variance[channel] ?? 0) + epsilon)),
    bias: read(paths.bias),
  };
}

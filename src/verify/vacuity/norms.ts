import type { LayerNode, Op } from "../../arch/index.js";
import type { RealTensor } from "../../tensor.js";
import type { Resolution, Watch } from "./watch.js";

/** Normalisations by the image's own statistics. */
export type NormOp = Op<"instanceNorm" | "layerNorm">;

/**
 * Whether the ε of an instance norm (per image and channel) or layer norm (per image) shows anywhere.
 *
 * The rule, for a group of mean μ and biased variance σ²: without ε the result would be √(1 + ε/σ²) times as large. That
 * does not show if √(1 + ε/σ²) − 1 ≤ u, the variance being too large; nor if σ ≤ u·|μ|, where the variance itself is nothing
 * but rounding, nor if σ = 0.
 */
export function watchNorm(node: LayerNode, op: NormOp, { unitRoundoff }: Resolution): Watch {
  const [source = ""] = node.inputs;
  let [seen, shows] = [false, false];
  return {
    layers: [source],
    look(_, tensor) {
      seen = true;
      shows ||= someGroupShows(op, tensor, unitRoundoff);
    },
    untested() {
      if (!seen || shows) return [];
      const stream = node.stream === undefined ? {} : { stream: node.stream };
      const reason = `no variance is such that ε = ${op.epsilon} shows`;
      return [{ layer: node.name, ...stream, reason }];
    },
  };
}

function someGroupShows({ kind, epsilon }: NormOp, { shape, data }: RealTensor, u: number): boolean {
  const [, channels = 1, height = 1, width = 1] = shape;
  const size = height * width * (kind === "layerNorm" ? channels : 1);
  for (let start = 0; start < data.length; start += size) {
    const { mean, variance } = moments(data, start, size);
    const effect = Math.expm1(Math.log1p(epsilon / variance) / 2);
    if (variance > 0 && effect > u && Math.sqrt(variance) > u * Math.abs(mean)) return true;
  }
  return false;
}

/** Mean and biased variance, in two passes. */
function moments(data: RealTensor["data"], start: number, size: number): { mean: number; variance: number } {
  let sum = 0;
  for (let index = start; index < start + size; index++) sum += data[index] as number;
  const mean = sum / size;
  let squares = 0;
  for (let index = start; index < start + size; index++) squares += ((data[index] as number) - mean) ** 2;
  return { mean, variance: squares / size };
}

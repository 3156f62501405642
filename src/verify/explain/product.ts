import type { LayerNode, Op } from "../../arch/index.js";
import type { Shape } from "../../core/tensor.js";
import { batchNormAffine } from "../bounds/norms.js";
import type { ParameterSource } from "../reference/index.js";

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
  const norm = batchNormAffine(foldedBatchNorm.parameters, foldedBatchNorm.epsilon, parameters);
  const row = own.length / outputs;
  return {
    node: bare,
    shape,
    weight: own.map((value, i) => value * (norm.scale[Math.floor(i / row)] as number)),
    bias: norm.bias.map(
      (beta, o) => beta + ((bias?.[o] ?? 0) - (norm.mean[o] as number)) * (norm.scale[o] as number),
    ),
  };
}

import type { LayerNode } from "../../arch/graph.js";
import type { Op } from "../../arch/ops.js";
import type { Shape } from "../../tensor.js";
import type { Engine } from "./engine.js";
import { convScratch } from "./kernels/conv.js";
import { KERNELS } from "./kernels/index.js";
import type { Call, Operand } from "./kernels/kernel.js";
import { layerParameters, type ParameterSource } from "./parameters.js";

/** Where a layer is computed. */
export interface Place {
  readonly engine: Engine;
  /** Start of the scratch memory, `scratchSize` elements long. */
  readonly scratch: number;
  readonly output: Operand;
}

/** Elements of scratch memory that a layer's kernel needs. */
export function scratchSize({ op }: LayerNode, inputs: readonly Shape[], output: Shape): number {
  return op.kind === "conv" ? convScratch(op, inputs[0] ?? [], output) : 0;
}

/** Computes one layer into its place; one that absorbed a batch norm is followed by it, unfolded. */
export function runLayer(
  node: LayerNode,
  inputs: readonly Operand[],
  parameters: ParameterSource,
  place: Place,
): void {
  const { foldedBatchNorm } = node;
  const op = withoutFold(node);
  call(op, inputs, layerParameters(op, node.parameters, parameters), place);
  if (!foldedBatchNorm || (op.kind !== "conv" && op.kind !== "linear")) return;
  const channels = op.kind === "conv" ? op.outChannels : op.outFeatures;
  const norm: Op = { kind: "batchNorm", channels, epsilon: foldedBatchNorm.epsilon };
  const values = layerParameters(norm, foldedBatchNorm.parameters, parameters);
  call(norm, [place.output], values, place);
}

/** The operation before a batch norm was folded into it: then, a convolution's only bias may be the batch norm's. */
function withoutFold({ op, parameters, foldedBatchNorm }: LayerNode): Op {
  return op.kind === "conv" && foldedBatchNorm ? { ...op, bias: parameters.bias !== undefined } : op;
}

function call(op: Op, inputs: readonly Operand[], parameters: object, place: Place): void {
  // The graph says that the inputs and parameters are the kind's own: the table of kernels pairs each kind with its.
  const kernel = KERNELS[op.kind] as (call: Call) => void;
  kernel({ op, inputs, parameters, ...place } as Call);
}

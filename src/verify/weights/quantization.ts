import { ancestors, type LayerNode, type ParameterRole } from "../../arch/index.js";
import type { TfjsModel } from "../../convert/formats/tfjs/model.js";
import type { RealTensor, StateDict, Tensor } from "../../core/tensor.js";
import type { Backend } from "../backends/backend.js";
import { measure, normalizeRows } from "../outcome/metrics.js";
import type { QuantizationResult } from "../outcome/report.js";
import type { Located } from "./located.js";

/** What of a model is stored in fewer bits; undefined if nothing is. */
export function quantizedWeights({
  weights,
}: TfjsModel): Pick<QuantizationResult, "dtypes" | "tensors"> | undefined {
  const stored = [...weights.values()].flatMap((weight) => weight.stored ?? []);
  const dtypes = [...new Set(stored.map(({ dtype }) => dtype))];
  return stored.length > 0 ? { dtypes, tensors: stored.length } : undefined;
}

/**
 * A checkpoint with the values stored in a model's file instead of its own. A layer with a folded batch norm keeps the
 * product of both, and the batch norm only adds the bias: γ = 1, μ = 0, σ² = 1 − ε. Values that the model lacks are
 * unchanged, and reported as faults of the weights.
 *
 * @param results layers of the model's outputs
 */
export function storedStateDict(
  { graph, by, constants: find, absorbed, match }: Located,
  stateDict: StateDict,
  results: readonly string[],
): StateDict {
  const needed = ancestors(graph, ...results);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const stored = new Map(stateDict);
  const set = (path: string | undefined, tensor: Tensor | undefined): void => {
    if (path !== undefined && tensor) stored.set(path, tensor);
  };
  for (const node of graph.nodes) {
    if (!needed.has(node.name) || absorbed.has(node.name)) continue;
    const source = nodes.get(node.inputs[0] ?? "");
    if (node.op.kind === "batchNorm" && source && absorbed.has(source.name)) {
      const found = find(node, ["weight", "bias"]);
      set(source.parameters.weight, found.get("weight"));
      for (const [path, tensor] of neutralNorm(source, node, found.get("bias"), node.op.epsilon))
        set(path, tensor);
      continue;
    }
    if (node.op.kind === "batchNorm" && by === "structure" && match?.affine.has(node.name)) {
      const found = find(node, ["weight", "bias"]);
      for (const [path, tensor] of neutralNorm(undefined, node, found.get("bias"), node.op.epsilon))
        set(path, tensor);
      set(node.parameters.weight, found.get("weight"));
      continue;
    }
    const roles = Object.keys(node.parameters) as ParameterRole[];
    for (const [role, tensor] of find(node, roles)) set(node.parameters[role], tensor);
  }
  return stored;
}

/** What makes a batch norm add a bias, and its layer none. */
function neutralNorm(
  layer: LayerNode | undefined,
  { parameters }: LayerNode,
  bias: Tensor | undefined,
  epsilon: number,
): readonly (readonly [path: string | undefined, tensor: Tensor | undefined])[] {
  const length = bias?.data.length ?? 0;
  const filled = (value: number): Tensor | undefined =>
    bias && { dtype: "float64", shape: [length], data: new Float64Array(length).fill(value) };
  return [
    [layer?.parameters.bias, filled(0)],
    [parameters.weight, filled(1)],
    [parameters.bias, bias],
    [parameters.runningMean, filled(0)],
    [parameters.runningVar, filled(1 - epsilon)],
  ];
}

/** How far a model's embedding is from that of the weights before they were stored in fewer bits. */
export async function quantizationLoss(
  original: Backend,
  images: Tensor<"float32">,
  layer: string,
  embedding: RealTensor,
): Promise<Pick<QuantizationResult, "maxAbs" | "relMax" | "cosine" | "normalizedMaxAbs"> | undefined> {
  for await (const { name, tensor } of original.run(images)) {
    if (name !== layer) continue;
    const { maxAbs, relMax, cosine } = measure(tensor, embedding);
    return {
      maxAbs,
      relMax: Number.isFinite(relMax) ? relMax : null,
      cosine,
      normalizedMaxAbs: measure(normalizeRows(tensor), normalizeRows(embedding)).maxAbs,
    };
  }
  return undefined;
}

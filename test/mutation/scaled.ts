import type { LayerNode } from "../../src/arch/index.js";
import { encodeSafetensors } from "../../src/convert/formats/safetensors.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import type { StateDict } from "../../src/core/tensor.js";
import { isDType } from "../../src/core/tensor-cast.js";

/**
 * A checkpoint whose convolutions give so many times as much, and whose batch norms take it back: another size of
 * numbers within, for which ε and rounding are larger or smaller beside them.
 */
export function scaled(checkpoint: Checkpoint, factor: number): Checkpoint {
  const { graph } = checkpoint;
  const norms = graph.nodes.filter(({ op }) => op.kind === "batchNorm" || op.kind === "instanceNorm");
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  let stateDict: StateDict = checkpoint.stateDict;
  const multiply = (path: string | undefined, by: number): void => {
    const tensor = stateDict.get(path ?? "");
    if (path === undefined || !tensor || !isDType(tensor, "float32")) return;
    const data = tensor.data.map((value) => value * by);
    stateDict = new Map(stateDict).set(path, { ...tensor, data });
  };
  for (const { inputs, parameters } of norms) {
    const product: LayerNode | undefined = layers.get(inputs[0] ?? "");
    if (product?.op.kind !== "conv" && product?.op.kind !== "linear") continue;
    multiply(product.parameters.weight, factor);
    multiply(product.parameters.bias, factor);
    multiply(parameters.runningMean, factor);
    multiply(parameters.runningVar, factor ** 2);
  }
  return reopened(checkpoint, stateDict);
}

function reopened({ spec }: Checkpoint, stateDict: StateDict): Checkpoint {
  const subject = "scaled.safetensors";
  return openCheckpoint(encodeSafetensors(stateDict, { subject }), { subject, arch: spec });
}

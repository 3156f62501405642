import { ancestors, type LayerGraph, type LayerNode } from "../../arch/index.js";
import { foldBatchNorm } from "../../convert/export/fold.js";
import { type Negligible, writtenWeights } from "../../convert/export/negligible.js";
import type { StateDict } from "../../core/tensor.js";
import { toFloat64 } from "../../core/tensor-cast.js";
import type { WeightsResult } from "../report.js";

/** The weights of a checkpoint that a file may hold as zeros, and how many of one it does. */
export interface AllowedZeros {
  /**
   * A layer's expected values with zeros where the file has them and may; the same values if that is nowhere.
   *
   * @param isFolded whether the file has the product of a layer and the batch norm behind it, which `node` then is
   */
  readonly taken: (
    node: LayerNode,
    isFolded: boolean,
    expected: Float32Array,
    found: ArrayLike<number>,
  ) => Float32Array;
  /** The checkpoint with all that was taken. */
  readonly stateDict: () => StateDict;
  /** Of all that was taken; undefined if nothing was. */
  readonly result: () => WeightsResult["zeroed"];
}

/**
 * The rule of docs/denormals.md, found again from the checkpoint: what a file says of its zeros is not believed. It is put to use for
 * the first zero that differs.
 *
 * @param results names of the layers that are the file's results
 */
export function allowedZeros(
  graph: LayerGraph,
  stateDict: StateDict,
  results: readonly string[],
): AllowedZeros {
  const rule = (network: LayerGraph): Rule => {
    const needed = ancestors(network, ...results);
    const nodes = network.nodes.filter(({ name }) => needed.has(name));
    const { of, zeroed } = writtenWeights({ ...network, nodes }, stateDict);
    const names = new Map(nodes.map((node) => [node.name, zeroed ? (of(node).weight?.name ?? "") : ""]));
    return { zeroed, at: (layer) => zeroed?.positions.get(names.get(layer) ?? "") ?? [] };
  };
  let rules: { readonly folded: Rule; readonly plain: Rule } | undefined;
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const seen = new Map<string, ReadonlySet<number>>();
  let bound = 0;
  return {
    taken(node, isFolded, expected, found) {
      if (!expected.some((value, index) => value !== 0 && found[index] === 0)) return expected;
      rules ??= { folded: rule(foldBatchNorm(graph)), plain: rule(graph) };
      // A convolution without bias is the same layer whether a batch norm far behind it is folded or not.
      const [values, taken] = [expected.slice(), new Set<number>()];
      for (const { zeroed, at } of isFolded ? [rules.folded] : [rules.folded, rules.plain])
        for (const position of at(node.name)) {
          if (found[position] !== 0 || values[position] === 0) continue;
          values[position] = found[position];
          taken.add(position);
          bound = Math.max(bound, zeroed?.bound ?? 0);
        }
      // Of a product the layer's own weight is the factor that is zero; streams share their gate's weights.
      const owner = isFolded ? nodes.get(node.inputs[0] ?? "") : node;
      if (taken.size > 0) seen.set(owner?.parameters.weight ?? "", taken);
      return values;
    },
    stateDict() {
      const zeroed = new Map(stateDict);
      for (const [path, positions] of seen) {
        const tensor = stateDict.get(path);
        if (!tensor) continue;
        const { shape, data } = toFloat64(tensor, path);
        const copy = data.slice();
        for (const position of positions) copy[position] = 0;
        zeroed.set(path, { dtype: "float64", shape, data: copy });
      }
      return zeroed;
    },
    result() {
      const count = [...seen.values()].reduce((sum, { size }) => sum + size, 0);
      return count > 0 ? { count, bound } : undefined;
    },
  };
}

interface Rule {
  readonly zeroed: Negligible | undefined;
  readonly at: (layer: string) => readonly number[];
}

import type { LayerGraph, LayerNode, ParameterRole } from "../../arch/index.js";
import { elementCount, type StateDict, sameShape, type Tensor } from "../../core/tensor.js";
import { isDType, toFloat32 } from "../../core/tensor-cast.js";
import type { WeightsResult } from "../outcome/report.js";
import { type AllowedZeros, refold } from "../weights/expected.js";

/** Compares a document's constants with a checkpoint's. */
export interface Constants {
  /**
   * The difference between a constant and a layer's parameter; undefined if it has the same shape and bits. A missing
   * constant, such as an optional bias, must be zeros in the checkpoint.
   */
  readonly differs: (layer: LayerNode, role: ParameterRole, found: Tensor | undefined) => string | undefined;
  /**
   * As `differs`, for the product of a layer and the batch norm after it: to within the rounding of folding
   * (expected.ts).
   */
  readonly differsFolded: (
    layer: LayerNode | undefined,
    norm: LayerNode,
    role: "weight" | "bias",
    found: Tensor | undefined,
  ) => string | undefined;
  /** Constants that were found equal, each counted once. */
  readonly compared: () => { readonly exact: number; readonly folded: number };
  /** Weights that the document has as zeros because they have no effect. */
  readonly zeroed: () => WeightsResult["zeroed"];
}

/**
 * @param stateDict the checkpoint's, which has every parameter of the graph with its shape
 * @param zeros weights that may be zeros instead
 */
export function constantsOf(graph: LayerGraph, stateDict: StateDict, zeros: AllowedZeros): Constants {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const results = new Map<Tensor | undefined, Map<string, string | undefined>>();
  // The weight and the bias of a layer are compared in sequence. All products together take 30 MiB.
  let last: { readonly key: string; readonly product: ReturnType<typeof refold> } | undefined;
  const counted = { exact: new Set<string>(), folded: new Set<string>() };

  const once = (
    found: Tensor | undefined,
    key: string,
    compare: () => string | undefined,
  ): string | undefined => {
    const own = results.get(found) ?? new Map<string, string | undefined>();
    results.set(found, own);
    if (!own.has(key)) own.set(key, compare());
    return own.get(key);
  };

  return {
    differs(layer, role, found) {
      const path = layer.parameters[role] ?? "";
      return once(found, path, () => {
        const tensor = stateDict.get(path);
        if (!tensor) return `the checkpoint has no ${path}`;
        const expected = toFloat32(tensor, path);
        const taken = (data: Float32Array): Float32Array =>
          role === "weight" && found ? zeros.taken(layer, false, data, realOf(found)) : data;
        const problem = compare({ ...expected, data: taken(expected.data) }, found, 0);
        if (problem === undefined) counted.exact.add(path);
        return problem && `${problem} ${path}`;
      });
    },
    differsFolded(layer, norm, role, found) {
      const own = layer ?? norm;
      const key = `${layer?.name ?? ""} × ${norm.name}`;
      return once(found, `${key} ${role}`, () => {
        if (last?.key !== key)
          last = { key, product: refold(layer && layers.get(layer.name), norm, stateDict) };
        const expected = last.product.get(role);
        if (!expected) return `the checkpoint has no ${norm.name}`;
        const { values, bounds } = expected;
        const data =
          role === "weight" && found ? zeros.taken(norm, layer !== undefined, values, realOf(found)) : values;
        const shape =
          role === "weight" ? (stateDict.get(own.parameters.weight ?? "")?.shape ?? []) : [data.length];
        const problem = compare({ dtype: "float32", shape, data }, found, bounds());
        if (problem === undefined) counted.folded.add(`${key} ${role}`);
        return problem && `${problem} the ${role} of ${own.name} with ${norm.name}`;
      });
    },
    zeroed: () => zeros.result(),
    compared: () => ({ exact: counted.exact.size, folded: counted.folded.size }),
  };
}

/** A constant's numbers; empty if it is not float32, which `compare` refuses. */
function realOf(found: Tensor): Float32Array {
  return isDType(found, "float32") ? found.data : new Float32Array();
}

/** Compares bits if no bound is given, so −0 differs from 0; non-finite values are never equal. */
function compare(
  expected: Tensor<"float32">,
  found: Tensor | undefined,
  bounds: Float64Array | 0,
): string | undefined {
  if (found && !isDType(found, "float32")) return `a ${found.dtype} constant as`;
  if (found && !sameShape(found.shape, expected.shape))
    return `a constant of shape [${found.shape}] instead of [${expected.shape}] as`;
  const data = found?.data ?? new Float32Array(elementCount(expected.shape));
  for (let index = 0; index < expected.data.length; index++) {
    const wanted = expected.data[index] as number;
    const value = data[index] as number;
    if (!(Math.abs(value) < Infinity)) return "a constant that is not finite as";
    const isNear = bounds ? Math.abs(value - wanted) <= (bounds[index] as number) : Object.is(value, wanted);
    // An operator without its optional bias adds nothing, as if it added zeros of either sign.
    if (!isNear && !(found === undefined && wanted === 0)) return "a constant that differs from";
  }
  return undefined;
}

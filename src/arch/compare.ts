import { formatShape, sameShape, type Tensor } from "../tensor.js";
import type { LayerGraph } from "./graph.js";
import { parametersOf } from "./parameters.js";

/** What identification reads of a tensor. */
export type TensorHeader = Pick<Tensor, "shape" | "dtype">;

/** Every way in which a state dict departs from a spec. */
export interface StateDictProblems {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshaped: readonly string[];
  readonly wrongDtype: readonly string[];
}

/** Compares a state dict with what a network needs; the result lists everything, in the network's order. */
export function compareStateDict(
  stateDict: ReadonlyMap<string, TensorHeader>,
  graph: LayerGraph,
): StateDictProblems {
  const expected = new Map(parametersOf(graph).map((parameter) => [parameter.path, parameter]));
  const missing: string[] = [];
  const misshaped: string[] = [];
  const wrongDtype: string[] = [];
  for (const { path, shape, dtype, optional } of expected.values()) {
    const found = stateDict.get(path);
    if (!found) {
      if (!optional) missing.push(`${path} ${formatShape(shape)}`);
    } else if (!sameShape(found.shape, shape) && !optional)
      misshaped.push(`${path}: found ${formatShape(found.shape)}, expected ${formatShape(shape)}`);
    else if (dtype === "float32" && !isFloat(found.dtype))
      wrongDtype.push(`${path}: found ${found.dtype}, expected a floating-point type`);
  }
  const unexpected = [...stateDict]
    .filter(([path]) => !expected.has(path))
    .map(([path, { shape }]) => `${path} ${formatShape(shape)}`);
  return { missing, unexpected, misshaped, wrongDtype };
}

/** How many problems there are in all. */
export function countProblems(problems: StateDictProblems): number {
  const { missing, unexpected, misshaped, wrongDtype } = problems;
  return missing.length + unexpected.length + misshaped.length + wrongDtype.length;
}

function isFloat(dtype: TensorHeader["dtype"]): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "float16" || dtype === "bfloat16";
}

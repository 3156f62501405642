import type { LayerNode, Op, ParameterRole } from "../../arch/graph.js";
import { PARAMETER_SHAPES } from "../../arch/parameters.js";
import { InputError } from "../../core/errors.js";
import type { StateDict } from "../../core/tensor.js";
import { elementCount, formatShape, type Shape } from "../../core/tensor.js";
import { toFloat64 } from "../../core/tensor-cast.js";
import type { LayerParameters } from "./kernels/kernel.js";

/** Looks up a parameter by its state-dict path, in float64. */
export type ParameterSource = (path: string) => Float64Array;

/** One source to a state dict: the reference network and the layers that are recomputed share the numbers. */
const sources = new WeakMap<StateDict, ParameterSource>();

/**
 * The parameters of a state dict in float64, each converted when it is asked for and kept for a while: the gate's are
 * asked for by every stream.
 *
 * The source throws InputError (`state-dict`) for a path that the state dict does not hold, and InputError (`tensor`)
 * for one that is not floating point.
 */
export function float64Parameters(stateDict: StateDict): ParameterSource {
  const known = sources.get(stateDict);
  if (known) return known;
  const source = convertedParameters(stateDict);
  sources.set(stateDict, source);
  return source;
}

/** Elements that are kept in float64: a layer's and its neighbours', while several ask for them. */
const KEPT_ELEMENTS = 2 ** 18;

function convertedParameters(stateDict: StateDict): ParameterSource {
  const converted = new Map<string, Float64Array>();
  let kept = 0;
  return (path) => {
    const known = converted.get(path);
    if (known) return known;
    const tensor = stateDict.get(path);
    if (!tensor)
      throw new InputError({
        code: "state-dict",
        subject: path,
        found: "no such parameter",
        expected: "one that the network reads",
        remedy: "use a complete state dict of this architecture",
      });
    const values = toFloat64(tensor, path).data;
    converted.set(path, values);
    kept += values.length;
    for (const [oldest, { length }] of converted) {
      if (kept <= KEPT_ELEMENTS || oldest === path) break;
      converted.delete(oldest);
      kept -= length;
    }
    return values;
  };
}

/**
 * The parameters that an operation reads, by role.
 *
 * @throws InputError (`state-dict`) if one is missing or has another size than the operation says.
 */
export function layerParameters(
  op: Op,
  paths: LayerNode["parameters"],
  source: ParameterSource,
): LayerParameters {
  // One lookup over a union of operations: the table's type pairs each kind with its own function.
  const shapes = (PARAMETER_SHAPES[op.kind] as (op: Op) => Partial<Record<ParameterRole, Shape>>)(op);
  const entries = (Object.entries(shapes) as [ParameterRole, Shape][]).map(([role, shape]) => {
    const path = paths[role] ?? `${role} of a ${op.kind}`;
    const values = source(path);
    if (values.length !== elementCount(shape))
      throw new InputError({
        code: "state-dict",
        subject: path,
        found: `${values.length} elements`,
        expected: formatShape(shape),
        remedy: "use a state dict of this architecture",
      });
    return [role, values] as const;
  });
  return Object.fromEntries(entries);
}

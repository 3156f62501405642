import { evaluateLayer } from "../reference/index.js";
import type { BoundCall, RoundingBound } from "./bound.js";
import { inputMagnitudes } from "./magnitudes.js";
import { gamma } from "./rounding.js";

/** A mean of n elements: γₙ · E|x|, of a sum in any order and a division; inputs' errors are averaged. */
export function averageBound(call: BoundCall<"avgPool"> | BoundCall<"globalAvgPool">): RoundingBound {
  const { node, inputs, inputErrors, output, parameters, arithmetic, workspace } = call;
  const { unit, storage, underflow } = arithmetic;
  const [input] = inputs;
  const [inputError = 0] = inputErrors;
  if (!input) return { elements: underflow };
  const { op } = node;
  const terms = op.kind === "avgPool" ? op.kernel[0] * op.kernel[1] : input.data.length / output.data.length;
  const growth = gamma(terms + 1, unit) + 2 * storage;
  const magnitudes = inputMagnitudes(input, call, node, growth);
  const means = evaluateLayer(node, [magnitudes], parameters, output.shape, workspace);
  return {
    elements: means.data,
    ...(storage === 0 && inputError === 0 ? { roundings: terms + 1 } : {}),
  };
}

/** A maximum is exact; it is off by no more than the most that any element of its window is. */
export function maximumBound(call: BoundCall<"maxPool"> | BoundCall<"globalMaxPool">): RoundingBound {
  const { node, inputs, inputErrors, output, parameters, arithmetic, workspace } = call;
  const [inputError = 0] = inputErrors;
  const rounded = arithmetic.underflow;
  if (typeof inputError === "number") return { elements: inputError + rounded };
  const { data } = evaluateLayer(
    node,
    [{ dtype: "float64", shape: inputs[0]?.shape ?? [], data: inputError }],
    parameters,
    output.shape,
    workspace,
  );
  return { elements: data.map((error) => error + rounded) };
}

import type { Op } from "../../arch/index.js";
import { filled } from "../../core/functions.js";
import type { RealTensor, Shape } from "../../core/tensor.js";
import { wholeOf } from "../reference/elements.js";
import { evaluateLayer } from "../reference/evaluate-layer.js";
import {
  type BoundCall,
  type ErrorBound,
  errorAt,
  gamma,
  independentTerms,
  inputMagnitudes,
  placeOf,
  type RoundingBound,
} from "./bound.js";

/**
 * Operations that only pass values on (the images, a flatten, a maximum with 0) add no error, but may flush. In half precision they
 * may read what the file rounds before them, as where casts around an operator in float32 cancel.
 */
export function exactBound({ inputErrors: [inputError = 0], output, arithmetic }: BoundCall): RoundingBound {
  const { underflow, storage } = arithmetic;
  if (typeof inputError === "number" && storage === 0) return { elements: inputError + underflow };
  return {
    elements: output.data.map((value, i) => errorAt(inputError, i) + underflow + storage * Math.abs(value)),
  };
}

/** A sigmoid: its approximation's error, and a quarter of its input's (its slope is at most 1/4). */
export function sigmoidBound({
  inputErrors: [inputError = 0],
  output,
  arithmetic,
}: BoundCall<"sigmoid">): RoundingBound {
  const { unit, sigmoid, storage } = arithmetic;
  // |x|·σ′(x) is at most 0.224: the effect of the input's own rounding.
  const own = sigmoid * unit + 1.25 * storage;
  if (typeof inputError === "number") return { elements: own + inputError / 4 };
  return { elements: output.data.map((_, i) => own + errorAt(inputError, i) / 4) };
}

/**
 * A stream times its gate: one rounding, plus the errors of the factors. In a half-precision network the result is
 * rounded when stored, and so were both factors, which may have been read before: a gate below float16's normal range
 * (6e-5) is stored as a multiple of 6e-8, or as 0.
 */
export function scaleBound({
  inputs: [stream, gate],
  inputErrors: [streamError = 0, gateError = 0],
  output,
  arithmetic,
  workspace,
}: BoundCall<"scale">): RoundingBound {
  const { unit, storage, underflow } = arithmetic;
  const growth = unit + 3 * storage;
  const stored = storage > 0 ? underflow : 0;
  const elements = workspace.room(output.data.length);
  const factors = gate?.data ?? new Float64Array();
  const plane = elements.length / factors.length;
  const fused = streamError !== 0 || gateError !== 0;
  for (let row = 0; row < factors.length; row++) {
    const factor = Math.abs(factors[row] as number);
    // A subnormal gate may be flushed to 0, whatever it multiplies.
    const lost = factor < underflow ? factor : 0;
    if (stored === 0 && lost === 0 && !fused) {
      workspace.loops.magnitudes(
        output.data,
        elements,
        { start: row * plane, count: plane },
        growth,
        underflow,
      );
      continue;
    }
    for (let i = row * plane; i < (row + 1) * plane; i++) {
      const flushed = stored > 0 ? stored * (factor + Math.abs(stream?.data[i] as number)) : 0;
      elements[i] = growth * Math.abs(output.data[i] as number) + flushed + underflow;
      if (lost > 0) elements[i] = (elements[i] as number) + lost * Math.abs(stream?.data[i] as number);
      if (fused) {
        const own = errorAt(streamError, i);
        const gated = errorAt(gateError, row);
        elements[i] =
          (elements[i] as number) +
          (1 + growth) * (factor * own + Math.abs(stream?.data[i] as number) * gated + own * gated);
      }
    }
  }
  return { elements };
}

/** A sum of m tensors: γₘ₋₁ · Σ|xᵢ|, in any order. */
export function addBound({
  inputs,
  inputErrors,
  accumulated = 0,
  output,
  arithmetic,
  workspace,
}: BoundCall<"add">): RoundingBound {
  const { unit, storage, underflow } = arithmetic;
  const growth = gamma(inputs.length - 1 + accumulated, unit) + 2 * storage;
  // Terms that are subnormal when stored are each rounded absolutely.
  const elements = workspace
    .room(output.data.length)
    .fill(storage > 0 ? (inputs.length + 1) * underflow : underflow);
  for (const [which, { data }] of inputs.entries()) {
    const inputError: ErrorBound = inputErrors[which] ?? 0;
    if (inputError === 0) {
      workspace.loops.addMagnitudes(data, elements, wholeOf(elements), growth);
      continue;
    }
    for (let i = 0; i < elements.length; i++)
      elements[i] =
        (elements[i] as number) +
        growth * Math.abs(data[i] as number) +
        (1 + growth) * errorAt(inputError, i);
  }
  return { elements, magnitude: (index) => (elements[index] as number) / growth };
}

/** A mean of n elements: γₙ · E|x|, of a sum in any order and a division; inputs' errors are averaged. */
export function averageBound(call: BoundCall<"avgPool"> | BoundCall<"globalAvgPool">): RoundingBound {
  const { node, inputs, inputErrors, output, parameters, arithmetic, workspace } = call;
  const { unit, quotients, storage, underflow } = arithmetic;
  const [input] = inputs;
  const [inputError = 0] = inputErrors;
  if (!input) return { elements: underflow };
  const { op } = node;
  const terms = op.kind === "avgPool" ? op.kernel[0] * op.kernel[1] : input.data.length / output.data.length;
  const growth = gamma(terms + 1 + quotients, unit) + 2 * storage;
  const magnitudes = inputMagnitudes(input, call, node, growth);
  const means = evaluateLayer(node, [magnitudes], parameters, output.shape, workspace);
  return {
    elements: means.data,
    magnitude: (index) => (terms * (means.data[index] as number)) / growth,
    ...(storage === 0 && inputError === 0
      ? {
          sum: {
            roundings: terms + 1,
            least: 4 * (terms + 1) ** 1.5 * underflow,
            independent: (index) => independentTerms(averagedBy(op, input, index, output.shape), unit),
          },
        }
      : {}),
  };
}

/** The elements whose mean one output element is. */
function averagedBy(
  op: Op<"avgPool"> | Op<"globalAvgPool">,
  input: RealTensor,
  index: number,
  shape: Shape,
): ArrayLike<number> & Iterable<number> {
  const [, , height = 1, width = 1] = input.shape;
  const plane = height * width;
  if (op.kind === "globalAvgPool") return input.data.subarray(index * plane, (index + 1) * plane);
  const { image, channel, row, column } = placeOf(index, shape);
  const [, channels = 1] = shape;
  const from = (image * channels + channel) * plane;
  return filled(new Float64Array(op.kernel[0] * op.kernel[1]), (k) => {
    const y = row * op.stride[0] + Math.floor(k / op.kernel[1]);
    return input.data[from + y * width + column * op.stride[1] + (k % op.kernel[1])] ?? 0;
  });
}

/**
 * A maximum is exact; it is off by no more than the most that any element of its window is. Rounding keeps the order of values, so
 * the maximum of values that were not rounded yet, in half precision, is off by its own rounding.
 */
export function maximumBound(call: BoundCall<"maxPool"> | BoundCall<"globalMaxPool">): RoundingBound {
  const { node, inputs, inputErrors, output, parameters, arithmetic, workspace } = call;
  const [inputError = 0] = inputErrors;
  if (typeof inputError === "number") return exactBound(call);
  const { data } = evaluateLayer(
    node,
    [{ dtype: "float64", shape: inputs[0]?.shape ?? [], data: inputError }],
    parameters,
    output.shape,
    workspace,
  );
  const { underflow, storage } = arithmetic;
  return {
    elements: data.map((error, i) => error + underflow + storage * Math.abs(output.data[i] as number)),
  };
}

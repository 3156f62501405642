import { unfoldedNode } from "../../arch/batch-norm.js";
import type { LayerNode, Op } from "../../arch/index.js";
import { largestMagnitude } from "../../core/functions.js";
import { MIN_NORMAL } from "../../core/tensor-cast.js";
import { type Numbers, wholeOf } from "../reference/elements.js";
import {
  evaluateLayer,
  type ParameterSource,
  storedParameter,
  sumMagnitudes,
} from "../reference/evaluate-layer.js";
import {
  type BoundCall,
  gamma,
  independentTerms,
  inputMagnitudes,
  placeOf,
  type RoundingBound,
  type SumSpread,
  windowAt,
} from "./bound.js";
import { affineOf, STORED_ERROR } from "./norms.js";

/**
 * Roundings of a weight with a batch norm folded into it in float32, and of the bias: σ² + ε, its root, the quotient,
 * the product, with room for an inverse root computed in two steps. Folding in float64 rounds once.
 */
const FOLD_ROUNDINGS = 8;

/**
 * A convolution or linear layer, a batch norm folded into it or not: |error| ≤ γₙ₊₁ · (|W|·|x| + |b|) for sums of n
 * products and a bias in any order (Higham, eq. 3.7), with the roundings of folded constants and of stored values
 * added, and |W| times the inputs' own errors.
 */
export function dotProductBound(call: BoundCall<"conv"> | BoundCall<"linear">): RoundingBound {
  const { node, inputs, inputErrors, output, parameters, arithmetic, workspace } = call;
  const { unit, storage, underflow, folding = unit } = arithmetic;
  const terms = termsOf(node.op);
  const constants = (node.foldedBatchNorm ? FOLD_ROUNDINGS * folding : 0) + storage;
  // A half-precision network's values were rounded when they were stored, but may be read unrounded.
  const growth = gamma(terms + 1, unit) + constants + storage;
  const [input] = inputs;
  const [inputError = 0] = inputErrors;
  if (!input) return { elements: underflow };

  const plain = unfoldedNode(node);
  const { scale, bias } = constantsOf(node, parameters);
  const weights = absoluteWeights(node, parameters, {
    least: ((storage > 0 ? STORED_ERROR : 1) * underflow) / growth,
    scale,
  });
  const singles = singleSums(call, plain, growth, scale, weights);
  const sums =
    singles ??
    evaluateLayer(plain, [inputMagnitudes(input, call, plain, growth)], weights, output.shape, workspace)
      .data;
  const elements = sums instanceof Float64Array ? sums : workspace.room(sums.length);
  const slack = singles ? (1 + gamma(terms + SINGLE_ROUNDINGS, 2 ** -24)) / SINGLE_SCALE : 1;
  const lost = singles ? terms * LEAST_SINGLE : 0;

  const channels = output.shape[1] ?? 1;
  const plane = output.data.length / (output.shape[0] ?? 1) / channels;
  for (let start = 0, row = 0; start < elements.length; start += plane, row++) {
    const factor = slack * Math.abs(scale?.[row % channels] ?? 1);
    const constant = factor * lost + growth * (bias[row % channels] ?? 0) + (terms + 1) * underflow;
    workspace.loops.linear(sums, elements, { start, count: plane }, factor, constant);
  }
  if (storage > 0) workspace.loops.addMagnitudes(output.data, elements, wholeOf(elements), storage);
  return {
    elements,
    magnitude: (index) => (elements[index] as number) / growth,
    ...(storage === 0 && inputError === 0 ? { sum: spreadOfProducts(call, terms, scale) } : {}),
  };
}

/** The smallest positive float32: a product that is closer to 0 loses half of it. */
const LEAST_SINGLE = 2 ** -149;

/**
 * What magnitudes are multiplied by in float32: products with those of values that are 0 would else be subnormal numbers, which take a hundred
 * times as long on Intel's processors.
 */
const SINGLE_SCALE = 2 ** 100;

/** Roundings of a product in float32: of the weight, the factor, the input's product with it and its sum; and of the product. Further ones are float64's. */
const SINGLE_ROUNDINGS = 6;

/**
 * The same sums in float32, in half the time: with n terms they are off by no more than γ of n + 6 roundings, and what products lose near 0,
 * which is added to the bound. All magnitudes are float32 of full precision, because of what is added to them for values that are flushed.
 */
function singleSums(
  { inputs: [input], inputErrors: [inputError = 0], output, arithmetic, workspace }: BoundCall,
  { op, parameters }: LayerNode,
  growth: number,
  scale: Float64Array | undefined,
  weights: ParameterSource,
): Float32Array | undefined {
  const { underflow } = arithmetic;
  const least = underflow / growth / (scale ? largestMagnitude(scale) : 1);
  if (op.kind !== "conv" || !input || inputError !== 0 || underflow < MIN_NORMAL || !(least >= MIN_NORMAL))
    return undefined;
  const [factor, constant] = [SINGLE_SCALE * growth, SINGLE_SCALE * underflow];
  return sumMagnitudes(
    op,
    input,
    [factor, constant],
    weights(parameters.weight ?? ""),
    output.shape,
    workspace,
  );
}

/** The number of products in one output element. */
export function termsOf(op: Op<"conv"> | Op<"linear">): number {
  return op.kind === "linear" ? op.inFeatures : (op.inChannels / op.groups) * op.kernel[0] * op.kernel[1];
}

/** The number of products in each element, and the smallest bound for which flushed products do not matter. */
function spreadOfProducts(
  {
    node,
    inputs,
    output,
    parameters,
    arithmetic: { unit, underflow },
  }: Parameters<typeof dotProductBound>[0],
  terms: number,
  scale: Float64Array | undefined,
): SumSpread {
  const { op } = node;
  const weights = storedParameter(parameters, node.parameters.weight ?? "");
  const largest = Math.max(1, largestMagnitude(weights));
  const factor = scale ? Math.max(1, largestMagnitude(scale)) : 1;
  const flushed = (terms + 1) * (1 + largest * factor) * underflow;
  return {
    roundings: terms + 1,
    least: MIN_BOUND * Math.sqrt(terms + 1) * flushed,
    independent: (index) => {
      const [input] = inputs;
      if (!input) return 1;
      const place = placeOf(index, output.shape);
      const read =
        op.kind === "conv"
          ? windowAt(op, input, place)
          : input.data.subarray(place.image * op.inFeatures, (place.image + 1) * op.inFeatures);
      const own = weights.subarray(place.channel * terms, (place.channel + 1) * terms);
      return independentTerms(
        Float64Array.from(own, (weight, k) => weight * (read[k] as number)),
        unit,
      );
    },
  };
}

/**
 * How many times the possible loss by flushing, over √n, a bound must be for the spread of its errors to be meaningful.
 */
const MIN_BOUND = 4;

/**
 * Added to weights for their possible loss near 0, before the factors of a folded batch norm: subnormal ones may be
 * read as 0.
 */
interface StoredWeights {
  readonly least: number;
  readonly scale: Float64Array | undefined;
}

/** Reused for the next layer, whose weights would be megabytes of garbage. */
let room = new Float64Array();

function roomFor(length: number): Float64Array {
  if (room.length < length) room = new Float64Array(length);
  return room.subarray(0, length);
}

/** |W|, and no bias; valid until the next call. */
function absoluteWeights(
  node: LayerNode,
  parameters: ParameterSource,
  { least, scale }: StoredWeights,
): ParameterSource {
  return (path) => {
    const values = storedParameter(parameters, path);
    if (path === node.parameters.bias) return new Float64Array(values.length);
    const absolute = roomFor(values.length);
    const rows = scale?.length ?? 1;
    const length = values.length / rows;
    for (let row = 0; row < rows; row++) {
      const factor = scale ? Math.abs(scale[row] as number) : 1;
      takeAbsolute(values, row * length, (row + 1) * length, factor > 0 ? least / factor : 0, absolute);
    }
    return absolute;
  };
}

/** The loop over all weights of a network, by itself, so that it is compiled after the first of them. */
function takeAbsolute(values: Numbers, start: number, end: number, lost: number, target: Float64Array): void {
  for (let i = start; i < end; i++) target[i] = Math.abs(values[i] as number) + lost;
}

/** The factor of a folded batch norm for each output channel, and the magnitude of the constant that it adds. */
function constantsOf(
  node: LayerNode,
  parameters: ParameterSource,
): { readonly scale?: Float64Array; readonly bias: Float64Array } {
  const own = node.parameters.bias === undefined ? undefined : parameters(node.parameters.bias);
  if (!node.foldedBatchNorm) return { bias: (own ?? new Float64Array()).map(Math.abs) };
  const { epsilon, parameters: norm } = node.foldedBatchNorm;
  const { scale, mean, bias } = affineOf(norm, epsilon, parameters);
  return {
    scale,
    bias: scale.map(
      (factor, channel) =>
        (Math.abs(own?.[channel] ?? 0) + Math.abs(mean[channel] ?? 0)) * Math.abs(factor) +
        Math.abs(bias[channel] ?? 0),
    ),
  };
}

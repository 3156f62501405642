import { type BatchNormAffine, batchNormAffine } from "../../arch/batch-norm.js";
import type { LayerNode } from "../../arch/index.js";
import { filled } from "../../core/functions.js";
import type { RealTensor } from "../../core/tensor.js";
import type { ParameterSource } from "../reference/evaluate-layer.js";
import {
  type Arithmetic,
  type BoundCall,
  errorAt,
  gamma,
  independentTerms,
  type RoundingBound,
} from "./bound.js";

/** A batch norm with its parameters from a source. */
export function affineOf(
  paths: LayerNode["parameters"],
  epsilon: number,
  parameters: ParameterSource,
): BatchNormAffine {
  const read = (path: string | undefined): Float64Array =>
    path === undefined ? new Float64Array() : parameters(path);
  const { weight, bias, runningMean, runningVar } = paths;
  return batchNormAffine(
    {
      weight: read(weight),
      bias: read(bias),
      runningMean: read(runningMean),
      runningVar: read(runningVar),
    },
    epsilon,
  );
}

/**
 * Roundings on the path from an input to an output once mean and scale are known: of the scale (a sum, a root, a
 * quotient, a product) and of (x − μ)·s + β or x·s + (β − μ·s), in either order.
 */
const AFFINE_ROUNDINGS = 8;

/**
 * How many standard deviations the spread of many errors may differ from that of independent roundings: rounding errors
 * are not quite independent, and a plane has one mean and one variance.
 */
export const SPREAD_FACTOR = 2;

/**
 * What half precision rounds along that path: the input (which a runtime may have read unrounded), γ, and the output.
 */
const NORM_STORAGE = 3;

/** Other exporters may write a batch norm as a product and a sum, each of which is rounded. */
const PRODUCT_STORAGE = 1;

/**
 * Maximum error of a stored constant, in units of the smallest number: onnxconverter-common raises values closer to 0
 * than 1e-7 to 1e-7.
 */
export const STORED_ERROR = 2;

/**
 * BatchNorm in evaluation mode: γ₈ · (|x·s| + |μ·s| + |β|). Both orders of its two constants are valid. In half
 * precision the variance is rounded too, whose root halves its error; a small one is subnormal there.
 */
export function batchNormBound({
  node,
  inputs: [input],
  inputErrors: [inputError = 0],
  output,
  parameters,
  arithmetic,
  workspace,
}: BoundCall<"batchNorm">): RoundingBound {
  const { mean, scale, bias } = affineOf(node.parameters, node.op.epsilon, parameters);
  const { unit, quotients, storage, folding, underflow } = arithmetic;
  const stored = NORM_STORAGE + (folding === undefined ? 0 : PRODUCT_STORAGE);
  const common = gamma(AFFINE_ROUNDINGS + quotients, unit) + stored * storage;
  const least = storage > 0 ? STORED_ERROR * underflow : 0;
  const variances = storage > 0 && node.parameters.runningVar ? parameters(node.parameters.runningVar) : [];
  const elements = workspace.room(output.data.length);
  const channels = output.shape[1] ?? 1;
  const plane = elements.length / (output.shape[0] ?? 1) / channels;
  for (let start = 0, row = 0; start < elements.length; start += plane, row++) {
    const channel = row % channels;
    const factor = Math.abs(scale[channel] ?? 0);
    const variance = variances[channel] ?? 0;
    const growth =
      storage > 0 ? common + (storage * variance + least) / (2 * (variance + node.op.epsilon)) : common;
    const constant =
      (growth * Math.abs(mean[channel] ?? 0) + least) * factor +
      growth * Math.abs(bias[channel] ?? 0) +
      least +
      underflow;
    if (inputError === 0 && input) {
      const run = { start, count: plane };
      workspace.loops.magnitudes(input.data, elements, run, growth, underflow);
      workspace.loops.linear(elements, elements, run, factor, constant);
    } else
      for (let i = start; i < start + plane; i++)
        elements[i] =
          factor * (growth * Math.abs(input?.data[i] as number) + errorAt(inputError, i) + underflow) +
          constant;
  }
  return { elements, magnitude: (index) => (elements[index] as number) / common };
}

export function instanceNormBound(call: BoundCall<"instanceNorm">): RoundingBound {
  const { shape, data } = call.output;
  const channels = shape[1] ?? 1;
  return momentsNormBound(call, data.length / (shape[0] ?? 1) / channels, call.arithmetic.variance);
}

/** A gate's layer norm: over all channels of an image. Runtimes may compute its variance in one pass, as E[x²] − μ². */
export function layerNormBound(call: BoundCall<"layerNorm">): RoundingBound {
  const { shape, data } = call.output;
  return momentsNormBound(call, data.length / (shape[0] ?? 1), "one pass");
}

/**
 * (x − μ)·s + β, with s = γ/√(σ² + ε) and moments over runs of `size` elements, which are computed too.
 *
 * The mean is off by at most e = γₙ·E|x|. Shifted by e, the mean square of the deviations grows by e² only (Σ(x − μ) =
 * 0), and their sum adds γₙ₊₄ of itself; so σ² + ε is off by a fraction r, and s by 1/√(1 − r) − 1. Higham, section 1.9
 * and problem 1.10, discusses both ways to compute a variance.
 */
function momentsNormBound(
  call: BoundCall<"instanceNorm"> | BoundCall<"layerNorm">,
  size: number,
  variance: "one pass" | "two passes",
): RoundingBound {
  const { node, inputs, inputErrors, output, parameters, arithmetic } = call;
  const { unit, quotients, storage, underflow } = arithmetic;
  const source = inputs[0]?.data ?? new Float64Array();
  const [inputError = 0] = inputErrors;
  const [weight, bias] = readAffine(node.parameters, parameters);
  const channels = output.shape[1] ?? 1;
  const plane = output.data.length / (output.shape[0] ?? 1) / channels;
  const elements = call.workspace.room(output.data.length);
  const affine = gamma(AFFINE_ROUNDINGS + quotients, unit) + NORM_STORAGE * storage;
  const spread = new Float64Array(output.data.length / size);
  for (let start = 0, run = 0; start < elements.length; start += size, run++) {
    const moments = errorOfMoments(source, start, size, inputError, arithmetic, variance);
    const deviation = Math.sqrt(moments.variance + node.op.epsilon);
    const relative = moments.varianceError / (moments.variance + node.op.epsilon);
    const scaleError = relative < 1 ? 1 / Math.sqrt(1 - relative) - 1 : Infinity;
    for (let i = start; i < start + size; i++) {
      const channel = Math.floor(i / plane) % channels;
      const factor = Math.abs((weight[channel] as number) / deviation);
      const x = source[i] as number;
      const centred = Math.abs(x - moments.mean);
      const terms = (Math.abs(x) + Math.abs(moments.mean)) * factor + Math.abs(bias[channel] as number);
      elements[i] =
        factor * (moments.meanError + centred * scaleError + errorAt(inputError, i)) +
        affine * terms +
        underflow;
    }
    const channel = Math.floor(start / plane) % channels;
    spread[run] = spreadOf(
      moments,
      deviation,
      size,
      size,
      weight[channel] ?? 0,
      bias[channel] ?? 0,
      arithmetic,
    );
  }
  const momentsOf = (run: number): MomentErrors =>
    errorOfMoments(source, run * size, size, inputError, arithmetic, variance);
  const dependent = (run: number): number => {
    const moments = momentsOf(run);
    const values = source.subarray(run * size, (run + 1) * size);
    const squares = filled(new Float64Array(size), (i) => ((values[i] as number) - moments.mean) ** 2);
    const independent = Math.min(size, independentTerms(values, unit), independentTerms(squares, unit));
    const channel = Math.floor((run * size) / plane) % channels;
    return spreadOf(
      moments,
      Math.sqrt(moments.variance + node.op.epsilon),
      size,
      independent,
      weight[channel] ?? 0,
      bias[channel] ?? 0,
      arithmetic,
    );
  };
  const planes = variance === "two passes" && inputError === 0 && storage === 0;
  return {
    elements,
    // The sum of squares is the largest intermediate value.
    magnitude: (index) => {
      const { variance: own, mean } = momentsOf(Math.floor(index / size));
      return size * (variance === "two passes" ? own : own + mean * mean);
    },
    ...(planes ? { planes: { size, spread, dependent } } : {}),
  };
}

interface MomentErrors {
  readonly mean: number;
  readonly variance: number;
  readonly meanError: number;
  readonly varianceError: number;
  /** √E[x²] */
  readonly rootMeanSquare: number;
}

function errorOfMoments(
  values: RealTensor["data"],
  start: number,
  size: number,
  inputError: BoundCall["inputErrors"][number],
  { unit, storage, underflow }: Arithmetic,
  method: "one pass" | "two passes",
): MomentErrors {
  let [sum, absolute, error, squaredError] = [0, 0, 0, 0];
  for (let i = start; i < start + size; i++) {
    const x = values[i] as number;
    sum += x;
    absolute += Math.abs(x);
    if (inputError !== 0) {
      const e = errorAt(inputError, i);
      error += e;
      squaredError += e * e;
    }
  }
  const mean = sum / size;
  let squares = 0;
  for (let i = start; i < start + size; i++) squares += ((values[i] as number) - mean) ** 2;
  const variance = squares / size;
  const growth = gamma(size + 4, unit) + storage;
  const meanError = growth * (absolute / size) + error / size + underflow;
  const meanSquare = variance + mean * mean;
  const fed = 2 * Math.sqrt((variance * squaredError) / size) + squaredError / size;
  const summed =
    method === "two passes" ? growth * variance : growth * meanSquare + 2 * Math.abs(mean) * meanError;
  return {
    mean,
    variance,
    meanError,
    varianceError: summed + (1 + growth) * meanError ** 2 + fed + underflow,
    rootMeanSquare: Math.sqrt(meanSquare),
  };
}

/**
 * What so many independent roundings of `size` leave of a plane's errors: those of the scale, common to all, and each
 * element's own.
 */
function spreadOf(
  { variance, mean, meanError, rootMeanSquare }: MomentErrors,
  deviation: number,
  size: number,
  independent: number,
  weight: number,
  bias: number,
  { unit, quotients, underflow }: Arithmetic,
): number {
  const factor = Math.abs(weight) / deviation;
  const likely = Math.min(1, SPREAD_FACTOR / Math.sqrt(independent));
  const relative = (likely * (size + 4) * unit * variance + (likely * meanError) ** 2) / deviation ** 2;
  const own =
    gamma(AFFINE_ROUNDINGS + quotients, unit) * ((rootMeanSquare + Math.abs(mean)) * factor + Math.abs(bias));
  return factor * Math.sqrt(variance) * relative + own + (1 + factor) * underflow;
}

function readAffine(
  paths: BoundCall["node"]["parameters"],
  parameters: ParameterSource,
): readonly [weight: Float64Array, bias: Float64Array] {
  const read = (path: string | undefined): Float64Array =>
    path === undefined ? new Float64Array() : parameters(path);
  return [read(paths.weight), read(paths.bias)];
}

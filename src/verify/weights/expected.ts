import { batchNormAffine, epsilonShown, foldedBias, scaleRows } from "../../arch/batch-norm.js";
import { ancestors, type LayerGraph, type LayerNode, type Op, type ParameterRole } from "../../arch/index.js";
import { type Negligible, writtenWeights } from "../../convert/export/negligible.js";
import { foldBatchNorm } from "../../convert/export/weights.js";
import type { StoredTensor, TfjsQuantization } from "../../convert/formats/tfjs/model.js";
import { once } from "../../core/functions.js";
import type { DType, RealTensor, StateDict } from "../../core/tensor.js";
import {
  castFloat,
  MIN_NORMAL,
  toFloat32,
  toFloat64,
  toReal,
  UNIT_ROUNDOFF,
} from "../../core/tensor-cast.js";
import type { WeightsResult } from "../outcome/report.js";

type Numbers = RealTensor["data"];

/** The expected value of a folded constant, and how far another exporter's may differ from it. */
export interface FoldedConstant {
  readonly values: Float32Array;
  /** Absolute, for each value. Computed on demand, as is `smallest`: few comparisons need either. */
  readonly bounds: () => Float64Array;
  /**
   * Additional error in units of the smallest number, for products folded in half precision: subnormal values are
   * rounded to multiples of it.
   */
  readonly smallest: () => Float64Array;
}

/**
 * Exporters fold in float32, and round after every step: σ² + ε, its root, the quotient, the product with a weight; for
 * a bias also a difference and a sum, whose terms may cancel. At most six roundings of half a unit each; eight leave
 * room for an inverse root computed in two steps.
 */
const ROUNDINGS = 8 * UNIT_ROUNDOFF;

/**
 * The product of a layer and the batch norm after it, in float64: W·γ/√(σ² + ε) and (b − μ)·γ/√(σ² + ε) + β per output
 * channel. Without a layer, the batch norm itself as a weight and a bias by channel.
 */
export function refold(
  layer: LayerNode | undefined,
  norm: LayerNode,
  stateDict: StateDict,
): ReadonlyMap<ParameterRole, FoldedConstant> {
  const read = (path: string | undefined): Numbers | undefined => {
    const tensor = path === undefined ? undefined : stateDict.get(path);
    return tensor && toReal(tensor, path ?? "").data;
  };
  const none = new Float64Array();
  const { weight: gammaPath, bias: betaPath, runningMean, runningVar } = norm.parameters;
  const [gamma = none, beta = none] = [read(gammaPath), read(betaPath)];
  const [mean = none, variance = none] = [read(runningMean), read(runningVar)];
  const weight = layer ? (read(layer.parameters.weight) ?? none) : new Float64Array(gamma.length).fill(1);
  const bias = read(layer?.parameters.bias);
  const epsilon = norm.op.kind === "batchNorm" ? norm.op.epsilon : 0;
  const affine = batchNormAffine(
    { weight: gamma, bias: beta, runningMean: mean, runningVar: variance },
    epsilon,
  );
  const { scale } = affine;
  const difference = (channel: number): number => Math.abs((bias?.[channel] ?? 0) - (mean[channel] ?? 0));
  // Half a smallest number each for γ, σ², ε and their sum, whose root halves it.
  const scaleOff = (channel: number): number => {
    const total = (variance[channel] ?? 0) + epsilon;
    return 0.5 / Math.sqrt(total) + (Math.abs(scale[channel] ?? 0) * 1.5) / (2 * total);
  };
  return new Map([
    [
      "weight",
      {
        values: scaleRows(weight, scale, new Float32Array(weight.length)),
        bounds: once(() =>
          byRow(weight, scale.length, (channel, row, target) => boundRow(row, scale[channel] ?? 0, target)),
        ),
        smallest: once(() =>
          byRow(weight, scale.length, (channel, row, target) =>
            smallestRow(row, scaleOff(channel), 0.5 * Math.abs(scale[channel] ?? 0), target),
          ),
        ),
      },
    ],
    [
      "bias",
      {
        values: Float32Array.from(foldedBias(affine, bias)),
        bounds: once(() =>
          scale.map((factor, channel) =>
            foldingBound(Math.abs(difference(channel) * factor) + Math.abs(beta[channel] ?? 0)),
          ),
        ),
        // The same for a weight and the product; and for b, μ and their difference, the product, β and the sum.
        smallest: once(() =>
          scale.map(
            (factor, channel) => difference(channel) * scaleOff(channel) + 1.5 * Math.abs(factor) + 1.5,
          ),
        ),
      },
    ],
  ]);
}

/** The ε that products of weights and a batch norm show, by their ratio to the right ones in each channel. */
export function epsilonOfProducts(
  { parameters: { runningVar = "" }, name }: LayerNode,
  { epsilon }: Op<"batchNorm">,
  stateDict: StateDict,
  wanted: Float32Array,
  found: Float32Array,
): number | undefined {
  const tensor = stateDict.get(runningVar);
  if (!tensor) return undefined;
  const variance = toReal(tensor, name).data;
  const size = wanted.length / variance.length;
  const ratios = Array.from({ length: variance.length }, (_, channel) => {
    let [dot, squares] = [0, 0];
    for (let index = channel * size; index < (channel + 1) * size; index++) {
      dot += (wanted[index] as number) * (found[index] as number);
      squares += (wanted[index] as number) ** 2;
    }
    return dot / squares;
  });
  return epsilonShown(variance, epsilon, ratios);
}

/**
 * The same for products that were imported from a model: of a bias (b − μ)s + β only the sum is left, whose terms may
 * be as large as any of the layer's, and were rounded twice.
 */
export function withLostTerms(
  products: ReadonlyMap<ParameterRole, FoldedConstant>,
): ReadonlyMap<ParameterRole, FoldedConstant> {
  return new Map(
    [...products].map(([role, product]) => {
      const bounds = once(() => {
        const own = product.bounds();
        const largest = role === "bias" ? own.reduce((most, bound) => Math.max(most, bound), 0) : 0;
        return own.map((bound) => 2 * Math.max(bound, largest));
      });
      return [role, { ...product, bounds }];
    }),
  );
}

/** The error that folding may have in a product, or in a sum of terms whose magnitudes have this sum. */
export function foldingBound(magnitude: number): number {
  return ROUNDINGS * magnitude + MIN_NORMAL;
}

/** A number for each weight, computed row by row, one row per output channel. */
function byRow(
  weight: Numbers,
  rows: number,
  fill: (channel: number, row: Numbers, target: Float64Array) => void,
): Float64Array {
  const result = new Float64Array(weight.length);
  const size = weight.length / rows;
  for (let channel = 0; channel < rows; channel++) {
    const [start, end] = [channel * size, (channel + 1) * size];
    fill(channel, weight.subarray(start, end), result.subarray(start, end));
  }
  return result;
}

/** Functions of their own, so that each loop is compiled once for all layers. */
function boundRow(row: Numbers, scale: number, target: Float64Array): void {
  for (let index = 0; index < row.length; index++)
    target[index] = foldingBound(Math.abs((row[index] as number) * scale));
}

function smallestRow(row: Numbers, scaleOff: number, least: number, target: Float64Array): void {
  for (let index = 0; index < row.length; index++)
    target[index] = Math.abs(row[index] as number) * scaleOff + least + 0.5;
}

/**
 * One unit in the last place relative to a value: the largest difference between two roundings to a 16-bit type.
 */
export const HALF_PRECISION: Readonly<Partial<Record<DType, number>>> = {
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
};

/** Whether a constant has fewer bits than these values need. */
export function isRounded(constant: StoredTensor, values: Float32Array, layer: string): boolean {
  if (!constant.stored && HALF_PRECISION[constant.dtype] === undefined) return false;
  const { data } = toFloat32(constant, layer);
  return values.some((value, index) => value !== data[index]);
}

/** A file in half precision has the checkpoint's values rounded once; in other files they are unchanged. */
export function inPrecisionOf(
  { dtype, shape, stored }: StoredTensor,
  values: Float32Array,
  layer: string,
): Float32Array {
  const type = stored?.dtype === "float16" ? stored.dtype : dtype;
  if (type !== "float16" && type !== "bfloat16") return values;
  const rounded = castFloat({ dtype: "float32", shape, data: values }, type, layer);
  return toFloat32(rounded, layer).data;
}

/** Tolerance for steps relative to those that the range of values requires: writers round them to float32. */
const STEP_SLACK = 2 ** -20;

/** Narrower steps by this, over all levels, and another start, in steps: what folding changes in the range of values. */
const OFF_START = 1 / 32;

/** Writers take the step and the quotient in float32: four roundings of numbers as large as the range or its end. */
const STEP_ROUNDINGS = 4 * UNIT_ROUNDOFF;

/**
 * The largest rounding error of stored values that are the nearest of evenly spaced numbers: half a step. If these are not
 * the numbers that writers choose, a sentence says so instead: they divide the range of values, and start at its least, or less than half a
 * step from it, so that one is 0. Others could be chosen for the errors that they make.
 */
export function storedWithin(
  values: Float32Array,
  { min, scale, dtype }: Exclude<TfjsQuantization, { readonly dtype: "float16" }>,
): number | string {
  const levels = dtype === "uint8" ? 255 : 65535;
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const step = Math.abs(scale);
  const largest = Math.max(Math.abs(least), Math.abs(most));
  // If all values are equal, the first number is used, whatever the step.
  if (least === most) return STEP_ROUNDINGS * largest;
  if (!(step * levels <= (most - least) * (1 + STEP_SLACK)))
    return "stored in steps that are larger than its range requires";
  const within = step / 2 + STEP_ROUNDINGS * (Math.abs(min) + largest);
  const end = min + scale * levels;
  const start = Math.min(min, end);
  const off = (start - least) / step;
  const isExact = Math.abs(off) <= OFF_START;
  const hasZero = Math.abs(start / step - Math.round(start / step)) <= OFF_START;
  const isChosen = isExact || (hasZero && least <= 0 && most >= 0 && Math.abs(off) <= 0.5 + OFF_START);
  if (!isChosen || (most - least) / step - levels > OFF_START)
    return `stored from ${min.toPrecision(3)} to ${end.toPrecision(3)}, expected ${least.toPrecision(3)} to ${most.toPrecision(3)}`;
  return within;
}

/** The weights of a checkpoint that a file may have as zeros, and how many it has; or that it may have where the checkpoint has zeros. */
export interface AllowedZeros {
  /**
   * A layer's expected values with the file's where one side has zeros and may; the same values if there are none.
   *
   * @param isFolded whether the file has the product of a layer and the batch norm after it, which is then `node`
   */
  readonly taken: (
    node: LayerNode,
    isFolded: boolean,
    expected: Float32Array,
    found: Float32Array,
  ) => Float32Array;
  /** The checkpoint with all of these values; undefined if there are none. */
  readonly stateDict: () => StateDict | undefined;
  /** The count of the file's zeros, and their effect; undefined if there are none. */
  readonly result: () => WeightsResult["zeroed"];
}

/**
 * The rule of docs/denormals.md, applied to the weights that are not zero, since a file's own statement is not trusted. Computed when
 * the first zero differs.
 *
 * @param results names of the layers that are the file's results
 * @param own the file's own weights, if it may also have some where the checkpoint has zeros
 */
export function allowedZeros(
  graph: LayerGraph,
  stateDict: StateDict,
  results: readonly string[],
  own?: () => StateDict,
): AllowedZeros {
  const rule = (network: LayerGraph, weights: StateDict): Rule => {
    const needed = ancestors(network, ...results);
    const nodes = network.nodes.filter(({ name }) => needed.has(name));
    const { of, zeroed } = writtenWeights({ ...network, nodes }, weights);
    const names = new Map(nodes.map((node) => [node.name, zeroed ? (of(node).weight?.name ?? "") : ""]));
    return { zeroed, at: (layer) => zeroed?.positions.get(names.get(layer) ?? "") ?? [] };
  };
  const rulesOf = (weights: StateDict): Rules => ({
    folded: rule(foldBatchNorm(graph), weights),
    plain: rule(graph, weights),
  });
  const [rules, ownRules] = [once(() => rulesOf(stateDict)), own && once(() => rulesOf(own()))];
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const seen = new Map<string, ReadonlyMap<number, number>>();
  const zeros = new Map<string, number>();
  let bound = 0;
  return {
    taken(node, isFolded, expected, found) {
      const [isZero, wasZero] = [
        hasZeroInstead(expected, found),
        ownRules !== undefined && hasZeroInstead(found, expected),
      ];
      if (!isZero && !wasZero) return expected;
      const [values, taken] = [expected.slice(), new Map<number, number>()];
      // A convolution without bias is the same layer whether or not a later batch norm is folded.
      const take = ({ folded, plain }: Rules, from: ArrayLike<number>, to: ArrayLike<number>): void => {
        for (const { zeroed, at } of isFolded ? [folded] : [folded, plain])
          for (const position of at(node.name)) {
            if (to[position] !== 0 || from[position] === 0) continue;
            values[position] = found[position] as number;
            taken.set(position, values[position]);
            if (to === found) bound = Math.max(bound, zeroed?.bound ?? 0);
          }
      };
      if (isZero) take(rules(), expected, found);
      const count = taken.size;
      if (wasZero && ownRules) take(ownRules(), found, expected);
      // In a product, the zero is in the layer's own weight; streams share the weights of their gate.
      const owner = isFolded ? nodes.get(node.inputs[0] ?? "") : node;
      const path = owner?.parameters.weight ?? "";
      if (count > 0) zeros.set(path, count);
      // Of a product that is zero in the checkpoint, the file's factor is not known.
      if (taken.size > 0) seen.set(path, isFolded ? new Map([...taken].slice(0, count)) : taken);
      return values;
    },
    stateDict() {
      if (seen.size === 0) return undefined;
      const zeroed = new Map(stateDict);
      for (const [path, positions] of seen) {
        const tensor = stateDict.get(path);
        if (!tensor) continue;
        const { shape, data } = toFloat64(tensor, path);
        const copy = data.slice();
        for (const [position, value] of positions) copy[position] = value;
        zeroed.set(path, { dtype: "float64", shape, data: copy });
      }
      return zeroed;
    },
    result() {
      const count = [...zeros.values()].reduce((sum, each) => sum + each, 0);
      return count > 0 ? { count, bound } : undefined;
    },
  };
}

interface Rules {
  readonly folded: Rule;
  readonly plain: Rule;
}

interface Rule {
  readonly zeroed: Negligible | undefined;
  readonly at: (layer: string) => readonly number[];
}

/** Whether a number that is not zero is zero in the file. */
function hasZeroInstead(expected: ArrayLike<number>, found: ArrayLike<number>): boolean {
  for (let index = 0; index < expected.length; index++)
    if (found[index] === 0 && expected[index] !== 0) return true;
  return false;
}

import type { LayerNode, ParameterRole } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import { filled, largestMagnitude, once } from "../../core/functions.js";
import type { StateDict } from "../../core/tensor.js";
import { MIN_NORMAL, toFloat32 } from "../../core/tensor-cast.js";
import { HALF_PRECISION, inPrecisionOf, storedWithin } from "./expected.js";
import { MIN_HALF, NARROW_FOLDING } from "./roundings.js";

/** Tolerance for rounding of a step itself, and of the float32 that is computed from it. */
const STEP_SLACK = 1 + 2 ** -10;
const STEP_ROUNDING = 2 ** -21;

/** The range of values after quantisation: half a step to either side, with steps per output channel or per tensor. */
export function withinSteps({ values, bounds }: Expected, halves: Float32Array): Expected {
  const rowLength = values.length / Math.max(1, halves.length);
  return {
    values,
    bounds: once(() =>
      filled(
        new Float64Array(values.length),
        (index) =>
          (bounds?.()[index] ?? 0) +
          STEP_SLACK * (halves[Math.floor(index / rowLength)] ?? 0) +
          STEP_ROUNDING * Math.abs(values[index] as number),
      ),
    ),
  };
}

/** Minimum number of levels on either side of 0: seven bits of eight, less one level. */
const MIN_LEVELS = 62.5;

/** Rows smaller than this, relative to the others, may have any step. */
const NOTHING = 1e-6;

/**
 * Whether steps are wider than eight bits require, so that a value within half a step proves little. The steps of a
 * bias follow from those of the weights and the activations.
 */
export function hasWideSteps(
  values: Float32Array,
  halves: Float32Array,
  weights: Expected | undefined,
): boolean {
  const largest = (all: Float32Array): number =>
    all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const [all, beside] = [largest(values), weights ? largest(weights.values) : 0];
  const size = values.length / Math.max(1, halves.length);
  return halves.some((half, row) => {
    const own = halves.length === 1 ? all : largest(values.subarray(row * size, (row + 1) * size));
    const most = Math.max(own, beside);
    return own > NOTHING * all && 2 * half * MIN_LEVELS > most;
  });
}

/** What a constant should be. */
export interface Expected {
  readonly values: Float32Array;
  /** The tolerance for each value, if it is not exact. */
  readonly bounds?: () => Float64Array;
  /** Additional tolerance in units of float16's smallest number, if it was folded in float16. */
  readonly smallest?: () => Float64Array;
}

/** Larger than what a file may have as zeros (negligible.ts), by as much as other parameters may change it. */
const NEGLIGIBLE_ELSEWHERE = 2 ** -48;

/**
 * The same with zeros where a constant has them for tiny values: which ones are negligible follows from all of a network's constants,
 * and is another question if any of these differ.
 */
export function withTinyZeros(expected: Expected, found: StoredTensor | undefined): Expected {
  const { values } = expected;
  const isZeroed = (value: number, index: number): boolean =>
    found?.data[index] === 0 && Math.abs(value) < NEGLIGIBLE_ELSEWHERE;
  return found?.data.length === values.length && values.some(isZeroed)
    ? { ...expected, values: values.map((value, index) => (isZeroed(value, index) ? 0 : value)) }
    : expected;
}

/**
 * Values with a file's where one of the two is denormal and the other zero: processors may read such numbers as zeros, which rounding
 * bounds allow for, and beside an ε a variance of that size has none. Weights multiply values of any size (docs/denormals.md).
 */
export function flushed(values: Float32Array, found: Float32Array): Float32Array {
  const isFlushed = (value: number, index: number): boolean => {
    const own = found[index] as number;
    return value !== own && value * own === 0 && Math.abs(value + own) < MIN_NORMAL;
  };
  return values.some(isFlushed)
    ? values.map((value, index) => (isFlushed(value, index) ? (found[index] as number) : value))
    : values;
}

/** Smaller numbers are not seen beside a constant's largest, and smaller ones than that not anywhere: what is said of the others is said of them. */
const INVISIBLE = 2 ** -24;
const INVISIBLE_ANYWHERE = 2 ** -64;

/** Which values of two constants nobody sees. Explanations ignore them, comparisons do not. */
export function invisibleIn(values: Float32Array, found: Float32Array): (index: number) => boolean {
  const least = Math.max(
    INVISIBLE_ANYWHERE,
    INVISIBLE * Math.min(largestMagnitude(values), largestMagnitude(found)),
  );
  return (index) => Math.abs(values[index] as number) < least && Math.abs(found[index] as number) < least;
}

/** The same with a file's values where neither these nor its own are visible. */
export function withInvisible(expected: Expected, found: StoredTensor | undefined, layer: string): Expected {
  const { values } = expected;
  if (!found || found.stored || found.data.length !== values.length) return expected;
  const own = toFloat32(found, layer).data;
  const isSmall = invisibleIn(values, own);
  return values.some((value, at) => value !== own[at] && isSmall(at))
    ? { ...expected, values: values.map((value, at) => (isSmall(at) ? (own[at] as number) : value)) }
    : expected;
}

/** In the order in which ONNX operators take them. */
const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/** The constants of a layer as they were trained. */
export function trained(node: LayerNode, stateDict: StateDict): ReadonlyMap<ParameterRole, Expected> {
  return new Map(
    ROLES.flatMap((role) => {
      const path = node.parameters[role];
      const tensor = path === undefined ? undefined : stateDict.get(path);
      return tensor && path !== undefined ? [[role, { values: toFloat32(tensor, path).data }] as const] : [];
    }),
  );
}

/**
 * The difference, in words; undefined if nothing differs by more than the bounds and the rounding of what is stored.
 *
 * @param isOwnFold whether osnet-convert folded the values, which it then rounds once to the stored type; others fold in that type
 */
export function differences(
  { values: wanted, bounds, smallest }: Expected,
  tensor: StoredTensor | undefined,
  isOwnFold: boolean,
  layer: string,
): string | undefined {
  if (!tensor) return "not in the candidate";
  if (tensor.data.length !== wanted.length) return `${tensor.data.length} values, expected ${wanted.length}`;
  const found = toFloat32(tensor, layer).data;
  const { stored } = tensor;
  const steps = stored && stored.dtype !== "float16" ? storedWithin(wanted, stored) : undefined;
  if (typeof steps === "string") return steps;
  const expected = inPrecisionOf(tensor, wanted, layer);
  const isStoredHalf = stored?.dtype === "float16";
  const [a, b] = [bitsOf(expected), bitsOf(found)];
  const precision = HALF_PRECISION[isStoredHalf ? stored.dtype : tensor.dtype] ?? 0;
  const isRoundedOnce = isStoredHalf || (isOwnFold && precision > 0);
  const narrow = NARROW_FOLDING[tensor.dtype] ?? 1;
  const least = tensor.dtype === "float16" ? MIN_HALF : 0;
  const isWithin = (index: number, error: number): boolean => {
    if (isRoundedOnce && bounds) {
      // Another order of folding may put the product on the other side of a midpoint.
      const off = Math.abs((wanted[index] as number) - (found[index] as number));
      if (off <= halfStep(found[index] as number, precision) + (bounds()[index] as number)) return true;
    }
    if (error <= least && Math.abs(expected[index] as number) <= least) return true;
    const half = precision * Math.abs(expected[index] as number) + (steps ?? 0);
    const subnormal = least > 0 ? ((smallest?.()[index] ?? 0) * least) / 2 : 0;
    const folding = bounds ? narrow * (bounds()[index] as number) + least + subnormal : 0;
    return (bounds !== undefined || steps !== undefined) && !isRoundedOnce && error <= folding + half;
  };
  let count = 0;
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    if (a[index] === b[index]) continue;
    const error = Math.abs((expected[index] as number) - (found[index] as number));
    // What is not finite is within no tolerance, which may be infinite too.
    if (Number.isFinite(error) && isWithin(index, error)) continue;
    count++;
    largest = Math.max(largest, error);
  }
  return count === 0
    ? undefined
    : `${count} of ${a.length} values differ from the checkpoint's, by up to ${largest.toPrecision(3)}`;
}

function bitsOf({ buffer, byteOffset, length }: Float32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length);
}

/** Half of the distance between numbers of a 16-bit type around a value. `precision` is the distance at 1. */
function halfStep(value: number, precision: number): number {
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const least = precision === HALF_PRECISION.float16 ? -14 : -126;
  return (2 ** Math.max(exponent, least) * precision) / 2;
}

/** Constants with the sum of several biases in place of a layer's own; without a bias if there are none. */
export function withSum(
  own: ReadonlyMap<ParameterRole, Expected>,
  biases: readonly (Expected | undefined)[],
): ReadonlyMap<ParameterRole, Expected> {
  const terms = biases.flatMap((bias) => bias ?? []);
  const total = (of: (term: Expected) => number): number => terms.reduce((sum, term) => sum + of(term), 0);
  const { length = 0 } = terms[0]?.values ?? {};
  const sum: Expected = {
    values: filled(new Float32Array(length), (index) => total(({ values }) => values[index] ?? 0)),
    bounds: once(() =>
      filled(new Float64Array(length), (index) =>
        total(
          ({ values, bounds }) => (bounds?.()[index] ?? 0) + 2 ** -23 * Math.abs(values[index] as number),
        ),
      ),
    ),
  };
  const others = [...own].filter(([role]) => role !== "bias");
  return new Map(length > 0 ? [...others, ["bias", sum]] : others);
}

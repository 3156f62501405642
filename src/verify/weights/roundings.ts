import type { LayerNode, ParameterRole } from "../../arch/index.js";
import { chooseQuantization, roundToStored } from "../../convert/formats/tfjs/manifest.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import type { DType, StateDict, Tensor } from "../../core/tensor.js";
import { castFloat, type HalfDType, toFloat32 } from "../../core/tensor-cast.js";
import { type Fault, layerFault } from "../outcome/report.js";
import { type FoldedConstant, HALF_PRECISION } from "./expected.js";

/**
 * Constants that were folded in half precision. Each may be off by several roundings, but rounding errors have no common sign,
 * and few are as large as the largest possible: all of them together must look like rounding.
 */

/** The errors of a layer's weight or bias, in units: half a step of the type at the value's magnitude. */
export interface HalfFolding {
  readonly layer: LayerNode;
  readonly unit: number;
  /** Of a weight, the scale of each channel without subnormal values, relative to the product's, minus 1. */
  readonly scales: readonly number[];
  /** The sum of the squares of the errors of all values that are not subnormal, and their number. */
  readonly squares: number;
  readonly count: number;
  /** The number of channels, whose values have the error of their scale in common. */
  readonly channels: number;
}

/** @returns undefined if the constant is not in half precision */
export function halfFolding(
  layer: LayerNode,
  role: ParameterRole,
  wanted: Pick<FoldedConstant, "values"> & Partial<FoldedConstant>,
  tensor: StoredTensor,
): HalfFolding | undefined {
  const unit = (HALF_PRECISION[tensor.dtype] ?? 0) / 2;
  const allowed = (NARROW_FOLDING[tensor.dtype] ?? 0) / 8;
  if (unit === 0 || !wanted.bounds || tensor.data.length !== wanted.values.length) return undefined;
  const found = toFloat32(tensor, layer.name).data;
  const [bounds, smallest] = [wanted.bounds(), wanted.smallest?.()];
  const channels = tensor.shape[0] ?? 1;
  const size = found.length / channels;
  const scales: number[] = [];
  let [squares, count] = [0, 0];
  for (let channel = 0; channel < channels; channel++) {
    let [dot, norm, isNormal] = [0, 0, true];
    for (let index = channel * size; index < (channel + 1) * size; index++) {
      const [value, actual] = [wanted.values[index] as number, found[index] as number];
      const step = allowed * (bounds[index] as number);
      dot += value * actual;
      norm += value * value;
      if ((smallest?.[index] ?? 0) * MIN_HALF >= step) {
        isNormal = false;
        continue;
      }
      squares += ((actual - value) / step) ** 2;
      count++;
    }
    if (role === "weight" && norm > 0 && isNormal) scales.push(dot / norm - 1);
  }
  return { layer, unit, scales, squares, count, channels };
}

/**
 * Tolerances in units, by the number of channels, for the mean of their scales and the root mean square of their values' errors.
 * Files that torch folded in half precision have a root mean square of 0.94 to 1.00 in all layers and up to 1.4 in one, and files
 * that were rounded after folding of 0.42 and up to 0.5.
 */
const MAX_MEAN = (channels: number): number => 0.25 + 6 / Math.sqrt(channels);
const MAX_RMS = (channels: number): number => 1.15 + 2 / Math.sqrt(channels);
const MAX_RMS_OF_LAYER = (channels: number): number => 1.25 + 2 / Math.sqrt(channels);

/** Reports constants whose errors rounding does not explain. */
export function unlikelyRounding(all: readonly HalfFolding[]): readonly Fault[] {
  const [first] = all;
  if (!first) return [];
  const report = (layer: LayerNode, difference: string): readonly Fault[] => [
    layerFault(layer, "weights", null, `the folded weights ${difference}, which rounding does not explain`),
  ];
  const scales = all.flatMap((folding) => folding.scales);
  const mean = scales.reduce((sum, scale) => sum + scale, 0) / scales.length;
  if (Math.abs(mean) > first.unit * MAX_MEAN(scales.length))
    return report(first.layer, `are on average ${(1 + mean).toPrecision(6)} times the checkpoint's products`);
  const rms = ({ squares, count }: Pick<HalfFolding, "squares" | "count">): number =>
    Math.sqrt(squares / count);
  const whole = {
    ...first,
    squares: all.reduce((sum, { squares }) => sum + squares, 0),
    count: all.reduce((sum, { count }) => sum + count, 0),
    channels: all.reduce((sum, { channels }) => sum + channels, 0),
  };
  const wide =
    all.find((folding) => rms(folding) > MAX_RMS_OF_LAYER(folding.channels)) ??
    (rms(whole) > MAX_RMS(whole.channels) ? whole : undefined);
  return wide
    ? report(
        wide.layer,
        `differ from the checkpoint's products by ${rms(wide).toPrecision(2)} roundings on average`,
      )
    : [];
}

/**
 * How much larger the rounding errors of folding in half precision are than in float32, since exporters of
 * half-precision modules fold in it. Of the eight that bounds allow (expected.ts), six are of parameters and steps to
 * a weight, and eight to a bias.
 */
export const NARROW_FOLDING: Readonly<Partial<Record<DType, number>>> = {
  float16: 2 ** 13,
  bfloat16: 2 ** 16,
};

/**
 * onnxconverter-common raises values closer to 0 than 1e-7 to 1e-7, in float16 twice the smallest number; so may two
 * roundings.
 */
export const MIN_HALF: number = 2 ** -23;

export const NARROW: readonly HalfDType[] = ["float16", "bfloat16"];

/** What was rounded before folding: everything, what is trained and not statistics, or weights alone. */
export const ROUNDED_BEFORE: readonly ((path: string, tensor: Tensor) => boolean)[] = [
  () => true,
  (path) => !/\.running_(?:mean|var)$/.test(path),
  (_, { shape }) => shape.length > 1,
];

/** No power of two: numbers that half precision has are rounded, too, if they are multiplied by it. */
const UNLIKE = 4 / 3;

/** A checkpoint with its weights, but no vectors, as far off as rounding them to half precision would be: also if they already are in it. */
export function roundedWeights(stateDict: StateDict, dtype: HalfDType): StateDict {
  const scaled = (tensor: Tensor, factor: number): Tensor => {
    const { shape, data } = toFloat32(tensor, "constant");
    return { dtype: "float32", shape, data: data.map((value) => value * factor) };
  };
  const round = rounding(dtype);
  return withRounded(
    stateDict,
    (tensor) => scaled(round(scaled(tensor, UNLIKE)), 1 / UNLIKE),
    (_, { shape }) => shape.length > 1,
  );
}

/** Rounds a tensor to a narrower type, and back. */
export function rounding(dtype: HalfDType): (tensor: Tensor) => Tensor {
  return (tensor) => toFloat32(castFloat(tensor, dtype, "constant"), "constant");
}

/** Drops the last bits of float32, as processors do for products in TF32. */
export function truncated(bits: number): (tensor: Tensor) => Tensor {
  return withWords((word) => (word >> bits) << bits);
}

/** Rounds to float32 numbers without the last bits, and those between two away from 0, as conversions to TF32 do. */
export function nearest(bits: number): (tensor: Tensor) => Tensor {
  return withWords((word) => ((word + (1 << (bits - 1))) >> bits) << bits);
}

function withWords(change: (word: number) => number): (tensor: Tensor) => Tensor {
  return (tensor) => {
    const { shape, data } = toFloat32(tensor, "constant");
    const words = new Int32Array(data.slice().buffer).map(change);
    return { dtype: "float32", shape, data: new Float32Array(words.buffer) };
  };
}

/** A checkpoint with some of its tensors rounded. */
export function withRounded(
  stateDict: StateDict,
  round: (tensor: Tensor) => Tensor,
  isRounded: (path: string, tensor: Tensor) => boolean,
): StateDict {
  return new Map(
    [...stateDict].map(([path, tensor]) => [
      path,
      tensor.dtype.includes("float") && isRounded(path, tensor) ? round(tensor) : tensor,
    ]),
  );
}

/** A constant in a narrower type, if that has all of its values. */
export function inType(tensor: StoredTensor, dtype: HalfDType): StoredTensor | undefined {
  if (tensor.dtype !== "float32" || tensor.stored) return tensor.dtype === dtype ? tensor : undefined;
  const narrow = castFloat(tensor, dtype, "constant");
  const { data } = toFloat32(narrow, "constant");
  return data.every((value, index) => value === tensor.data[index]) ? narrow : undefined;
}

/** Types that tfjs stores weights in as multiples of a step, from the least to the largest value. */
export const STEPPED = ["uint8", "uint16"] as const;

/** How far from a stored number a float32 may be, in steps: 2¹⁶ of them have roundings of 2⁻²⁴ of their range. */
const OFF_STORED = 2 ** -5;

/** Whether these values, rounded as tfjs stores them, are those. */
export function isInSteps(
  dtype: (typeof STEPPED)[number],
  values: Float32Array,
  rounded: Float32Array,
): boolean {
  const tensor = { dtype: "float32", shape: [values.length], data: values } as const;
  const stored = chooseQuantization(tensor, dtype);
  // The step of a single number is arbitrary.
  const areEqual = values.every((value) => value === values[0]);
  if (stored.dtype === "float16" || areEqual || rounded.length !== values.length) return false;
  const { scale } = stored;
  const nearest = roundToStored(tensor, stored).data;
  return values.every((value, index) => {
    const own = rounded[index] as number;
    const steps = (own - (nearest[index] as number)) / scale;
    // Of a value half way between two steps, either is the nearest.
    return (
      Math.abs(steps - Math.round(steps)) <= OFF_STORED &&
      Math.abs(own - value) <= (0.5 + OFF_STORED) * Math.abs(scale)
    );
  });
}

/** Evenly spaced numbers, to which weights of a few bits are rounded. */

/** How far from a multiple of the step a float32 may be, in steps. */
const OFF_STEP = 1e-3;

/** More numbers than this need more than a few bits. */
const MOST_LEVELS = 255;

/** Fewer values are multiples of some step by chance: of one step, and of one to each row. */
const FEWEST = 3;
const FEWEST_IN_ROWS = 16;

/** A row that differs by less, as a share of its values, has been multiplied and divided by its step. */
const SAME = 2 ** -20;

/**
 * The number of bits, up to 8, of the multiples of a step that values are the nearest of: one step for all, or for each
 * row. Undefined if they are not.
 */
export function bitsOfSteps(
  found: Float32Array,
  wanted: ArrayLike<number>,
  rows: number,
): number | undefined {
  const all = found.length < FEWEST ? undefined : levels(found, wanted, 0, found.length);
  if (all !== undefined) return bitsOf(all);
  const size = found.length / rows;
  if (found.length < FEWEST_IN_ROWS) return undefined;
  let most = 0;
  for (let start = 0; start < found.length; start += size) {
    if (isSame(found, wanted, start, start + size)) continue;
    const own = levels(found, wanted, start, start + size);
    if (own === undefined) return undefined;
    most = Math.max(most, own);
  }
  // A value that is alone in its row is a step of its own.
  return most > 0 || size === 1 ? bitsOf(Math.max(1, most)) : undefined;
}

function bitsOf(range: number): number {
  return Math.ceil(Math.log2(range + 1));
}

function isSame(found: Float32Array, wanted: ArrayLike<number>, start: number, end: number): boolean {
  for (let index = start; index < end; index++) {
    const value = found[index] as number;
    if (Math.abs(value - (wanted[index] as number)) > SAME * Math.abs(value)) return false;
  }
  return true;
}

/** The distance between the least and the largest multiple, 0 included; undefined if values are not the nearest ones. */
function levels(
  found: Float32Array,
  wanted: ArrayLike<number>,
  start: number,
  end: number,
): number | undefined {
  if (end - start < 2) return undefined;
  let largest = 0;
  for (let at = start; at < end; at++) largest = Math.max(largest, Math.abs(found[at] as number));
  // The largest value shows the step most exactly.
  for (let multiple = 1; largest > 0 && multiple <= MOST_LEVELS; multiple++) {
    const range = levelsOf(largest / multiple, found, wanted, start, end);
    if (range !== undefined) return range <= MOST_LEVELS ? range : undefined;
  }
  return undefined;
}

function levelsOf(
  step: number,
  found: Float32Array,
  wanted: ArrayLike<number>,
  start: number,
  end: number,
): number | undefined {
  let [least, most] = [0, 0];
  for (let at = start; at < end; at++) {
    const value = found[at] as number;
    const steps = Math.round(value / step);
    const off = Math.abs(value - (wanted[at] as number));
    if (Math.abs(value / step - steps) > OFF_STEP || off > step * (0.5 + OFF_STEP)) return undefined;
    least = Math.min(least, steps);
    most = Math.max(most, steps);
  }
  return most - least;
}

import { filled, largestMagnitude } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { toFloat32 } from "../../core/tensor-cast.js";
import { misreadings } from "../explain/weights.js";
import type { Expected } from "./constants.js";
import { type ComparedConstants, type Deviation, isOfProducts, isUniform, valuesOf } from "./deviation.js";
import { HALF_PRECISION } from "./expected.js";
import { MIN_HALF } from "./roundings.js";

/**
 * Constants that differ without a pattern: other statistics, another epoch or another training run. A constant with a
 * mistake of its own stands out only by its distance.
 */

/** Constants that differ for one reason. */
interface Others {
  /** Whether a constant is one that it may change. */
  readonly mayBe: (deviation: Deviation) => boolean;
  /** As a clause. */
  readonly says: string;
  readonly of: readonly Deviation[];
}

/** Minimum number of layers for a conclusion about all. */
const FEWEST = 8;

/** The constants of batch norms that differ only in their running statistics, or in a product in their scales; or in all parameters. */
export function otherStatistics(
  deviations: readonly Deviation[],
  { norms, folded, stateDict }: ComparedConstants,
): Others | undefined {
  const ofNorms = deviations.filter(({ node, found }) => node.op.kind === "batchNorm" && found !== undefined);
  const scaled = new Set(ofNorms.flatMap((each) => (isScaledByRow(each) ? [each.node] : [])));
  const nodesOf = (some: readonly Deviation[]): number => new Set(some.map(({ node }) => node)).size;
  const isStatistic = ({ role }: Deviation): boolean => role === "runningMean" || role === "runningVar";
  const trained = ofNorms.filter((each) => !each.isProduct && !isStatistic(each) && areOthers(each));
  const areTrained = 2 * nodesOf(trained) >= norms && nodesOf(trained) >= FEWEST;
  const isOther = (each: Deviation): boolean =>
    each.isProduct ? scaled.has(each.node) : isStatistic(each) || areTrained;
  // Any bias follows from a mean and the scale that the weights show.
  const of = alike(ofNorms.filter(isOther), stateDict, {
    isAnywhere: ({ node, role }) => role === "bias" && scaled.has(node),
  });
  const count = nodesOf(of);
  if (count < FEWEST || 2 * count < norms) return undefined;
  const which = count === norms ? "all batch norms" : `${count} of ${norms} batch norms`;
  return {
    says: areTrained
      ? `the parameters of ${which} are not the checkpoint's`
      : `the running statistics of ${which}${folded > 0 ? ", or their scales," : ""} are not the checkpoint's`,
    mayBe: ({ node }) => node.op.kind === "batchNorm",
    of,
  };
}

/** Minimum share of a constant's values that differ. */
const MOST = 0.5;

/** A difference of this share of a constant's largest value is in the last digits of float32, however many values have it. */
const LAST_DIGITS = 2 ** -17;

/** Values in another order are the same when sorted, as a share of their size, to within the rounding of folding. */
const SAME_VALUES = 1e-5;

/** How much further apart they are before. */
const MOVED = 100;

/** Weights of two trainings are independent. */
const RELATED = 0.5;

/** All constants, if they are those of another training or of a later epoch, or differ in their last digits. */
export function otherTraining(
  deviations: readonly Deviation[],
  { weights, stateDict }: ComparedConstants,
): Others | undefined {
  const others = deviations.filter(
    (deviation) => (areOthers(deviation) || inLastDigits(deviation)) && !isUniform(deviation),
  );
  const products = others.filter(isOfProducts);
  const compared = products.map(({ expected, found }) => compare(expected.values, valuesOf(found)));
  const usual = median(compared.map((each) => each.change));
  const isLast = usual < LAST_DIGITS;
  if (products.length < FEWEST || (!isLast && 2 * products.length < weights)) return undefined;
  // Of independent values, no mistake shows.
  if (median(compared.map(({ cosine }) => cosine)) < RELATED)
    return {
      says: "the weights are from another training run",
      mayBe: () => true,
      of: deviations.filter((deviation) => areOthers(deviation) || isUniform(deviation)),
    };
  const change = 100 * usual;
  const by = `by a median of ${change.toPrecision(2)} %`;
  const slightly = change < SLIGHT ? "slightly " : "";
  return {
    says: isLast
      ? `the weights differ in their last digits, ${by}`
      : `the weights differ ${slightly}throughout, as after further training (another epoch, or fine-tuning), ${by}`,
    mayBe: () => true,
    of: alike(others, stateDict),
  };
}

function inLastDigits({ expected: { values }, found }: Deviation): boolean {
  const own = valuesOf(found);
  const most = LAST_DIGITS * largestMagnitude(values);
  return (
    own.length === values.length && values.every((value, at) => Math.abs(value - (own[at] as number)) <= most)
  );
}

/** More percent than this are not slight. */
const SLIGHT = 10;

/** Whether most values differ, and are not the same values in another order or rounded to a few. */
export function areOthers(deviation: Deviation): boolean {
  const {
    expected: { values },
    found,
  } = deviation;
  if (isScaledByRow(deviation)) return false;
  const own = found && valuesOf(found);
  if (own?.length !== values.length || !own.every(Number.isFinite)) return false;
  const off = values.filter((value, index) => value !== own[index]);
  if (off.length < MOST * values.length) return false;
  const sorted = rms(differenceOf(values.toSorted(), own.toSorted()));
  if (sorted <= SAME_VALUES * rms(values) && rms(differenceOf(values, own)) > MOVED * sorted) return false;
  return found?.stored !== undefined || 2 * new Set(own).size >= new Set(values).size;
}

/** How far products of float32 may be from one factor, as a share of the largest. */
const SCALE_ROUNDING = 2 ** -18;

/** Rows of fewer values have one factor by chance. */
const FEWEST_IN_ROW = 3;

/** Factors explain a difference if they leave less than this share. */
const SCALED = 0.25;

/** Whether rows of a weight are those expected, times one positive factor each. */
function isScaledByRow({ role, expected: { values }, found }: Deviation): boolean {
  if (role !== "weight" || !found || found.data.length !== values.length) return false;
  const own = valuesOf(found);
  const size = own.length / (found.shape[0] ?? 1);
  if (size < FEWEST_IN_ROW) return false;
  const scaled = values.slice();
  const dtype = found.stored?.dtype === "float16" ? "float16" : found.dtype;
  const [precision, least] = [HALF_PRECISION[dtype] ?? 0, dtype === "float16" ? MIN_HALF : 0];
  for (let row = 0; row < own.length; row += size) {
    let [dot, square, largest] = [0, 0, 0];
    for (let index = row; index < row + size; index++) {
      const value = values[index] as number;
      dot += value * (own[index] as number);
      square += value * value;
      largest = Math.max(largest, Math.abs(value));
    }
    const factor = square === 0 ? 1 : dot / square;
    const most = (SCALE_ROUNDING + precision) * factor * largest + least;
    if (!(factor >= 0)) return false;
    for (let index = row; index < row + size; index++) {
      scaled[index] = factor * (values[index] as number);
      if (Math.abs((scaled[index] as number) - (own[index] as number)) > most) return false;
    }
  }
  return rms(differenceOf(scaled, own)) <= SCALED * rms(differenceOf(values, own));
}

/**
 * A constant this many times as far off as most of its kind has another mistake, if it is also this far off, as a share of its size: most
 * are only slightly off if that is this many times as much.
 */
const FAR = 8;
const LEAST_FAR = 0.5;
const FAR_OFF = 32;

/** Of values that are as far off as each other, few have no more than this share of all squared differences. */
const FEW = 1 / 64;
const MOST_OF_FEW = 0.75;

/** Fewer values have no few. */
const FEWEST_VALUES = 64;

/** A share of a constant's size: smaller values may be as far off. */
const SMALL = 0.01;

/** Whether most of a difference is that of a few values, which are not only larger than the others. */
function isOfFew({ expected: { values }, found }: Deviation): boolean {
  if (values.length < FEWEST_VALUES) return false;
  const off = differenceOf(values, valuesOf(found));
  const least = SMALL * rms(values);
  const sum = (all: Float32Array): number => all.reduce((total, each) => total + each, 0);
  return [off, off.map((each, at) => each / Math.max(Math.abs(values[at] as number), least))].every((all) => {
    const squares = all.map((each) => each * each);
    const few = squares.toSorted((a, b) => b - a).subarray(0, Math.floor(FEW * values.length));
    return sum(few) > MOST_OF_FEW * sum(squares);
  });
}

/** Which constants count as alike. */
interface Alike {
  /** Those that have the usual distance. Default: the same. */
  readonly these?: readonly Deviation[];
  /** Those that may be any distance off. Default: none. */
  readonly isAnywhere?: (deviation: Deviation) => boolean;
  /** Whether they must have about the usual distance. Default: only no mistake of their own. */
  readonly isUsual?: boolean;
}

/** Constants that are about as far off as others of their kind, and no closer to the result of a known mistake. */
export function alike(
  some: readonly Deviation[],
  stateDict: StateDict,
  { these = some, isAnywhere = () => false, isUsual = false }: Alike = {},
): readonly Deviation[] {
  const known = byKind(these);
  return [...byKind(some)].flatMap(([kind, own]) => {
    const changes = changesOf([...own, ...(known.get(kind) ?? [])]);
    const usual = median(changes.slice(own.length));
    const far = isUsual ? 0 : Math.max(FAR * usual, Math.min(LEAST_FAR, FAR_OFF * usual));
    return own.filter((deviation, index) => {
      const change = changes[index] as number;
      // Less is no evidence of a mistake.
      if (change <= 2 * usual) return true;
      const isFree = isAnywhere(deviation);
      if (change > far && !isFree) return false;
      return !(isOfFew(deviation) || isNearerOtherwise(deviation, stateDict, isFree));
    });
  });
}

/** Weights, and each other role: of layers and of norms. */
function byKind(deviations: readonly Deviation[]): ReadonlyMap<string, readonly Deviation[]> {
  const kinds = new Map<string, Deviation[]>();
  for (const each of deviations) {
    const kind = isOfProducts(each) ? "weights" : `${each.role} ${each.isProduct}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), each]);
  }
  return kinds;
}

/** How far constants are off, as a share of their size. A constant smaller than most of its kind counts as being of their size, except for weights. */
function changesOf(all: readonly Deviation[]): readonly number[] {
  const sizes = all.map(({ expected }) => rms(expected.values));
  const least = median(sizes);
  return all.map(({ expected: { values }, found }, index) => {
    const own = valuesOf(found);
    const size = Math.max(
      sizes[index] as number,
      isOfProducts(all[index] as Deviation) ? SMALL * least : least,
    );
    return own.length === values.length ? rms(differenceOf(values, own)) / size : Infinity;
  });
}

/** A mistake explains most of a difference if it leaves less than this share. */
const NEARER = 0.5;

/**
 * Whether a constant is nearer to what it would be with one parameter negated or in another order.
 *
 * @param isFree whether other parameters than its own may be any: what it would be with these is no evidence
 */
function isNearerOtherwise(deviation: Deviation, stateDict: StateDict, isFree: boolean): boolean {
  const { node, merged, role, isProduct, expected, found } = deviation;
  const own = valuesOf(found);
  const distance = (values: Float32Array): number =>
    rms(values.map((value, at) => value - (own[at] as number)));
  const most = NEARER * distance(expected.values);
  const paths =
    isProduct && !isFree
      ? [...Object.values(node.parameters), ...Object.values(merged?.parameters ?? {})]
      : [node.parameters[role] ?? ""];
  return paths.some((path) => {
    const tensor = stateDict.get(path);
    return (
      tensor !== undefined &&
      mistaken(toFloat32(tensor, path)).some((change) => {
        const other = deviation.with({ stateDict: new Map(stateDict).set(path, change()) });
        return other !== undefined && distance(other.values) < most;
      })
    );
  });
}

function mistaken(tensor: Tensor<"float32">): readonly (() => Tensor)[] {
  const { shape, data } = tensor;
  const rows = data.length / (shape[0] ?? 1);
  const [, inputs = 1] = shape;
  const taps = rows / inputs;
  const orders = [
    ...(inputs > 1
      ? [(index: number) => index + (inputs - 1 - 2 * (Math.floor(index / taps) % inputs)) * taps]
      : []),
    (index: number) => data.length - rows * (Math.floor(index / rows) + 1) + (index % rows),
    ...misreadings(shape).map(({ from }) => from),
  ];
  return [
    () => ({ ...tensor, data: data.map((value) => -value) }),
    ...orders.map(
      (from) => (): Tensor => ({
        ...tensor,
        data: filled(new Float32Array(data.length), (index) => data[from(index)] as number),
      }),
    ),
  ];
}

/** The most that rounding changes of a constant, as a share of its size: to a few bits, in steps of its largest value. */
const ROUNDED = 2 ** -4;

/**
 * Whether the constants of a layer are other ones in fewer bits: nearer to these than to the right ones, and one of them far from the
 * right one, as independent constants are, unless they have a single value.
 */
export function areRoundedFrom(
  deviations: readonly Deviation[],
  other: (deviation: Deviation) => Expected | undefined,
): boolean {
  const shares = deviations.map((deviation) => {
    const own = valuesOf(deviation.found);
    const { values } = other(deviation) ?? {};
    if (values?.length !== own.length) return undefined;
    const shareOf = (wanted: Float32Array): number => rms(differenceOf(wanted, own)) / rms(values);
    return [shareOf(values), shareOf(deviation.expected.values)] as const;
  });
  return (
    shares.every((share) => share && share[0] <= ROUNDED && share[0] < share[1]) &&
    shares.some((share) => share && share[1] > RELATED)
  );
}

function differenceOf(values: Float32Array, others: Float32Array): Float32Array {
  return values.map((value, at) => value - (others[at] as number));
}

function rms(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0;
}

/** How much values differ, as a share of their size, and the cosine of the angle between them. */
function compare(
  wanted: Float32Array,
  found: Float32Array,
): { readonly change: number; readonly cosine: number } {
  let [dot, a, b] = [0, 0, 0];
  for (let index = 0; index < wanted.length; index++) {
    const [x, y] = [wanted[index] as number, found[index] as number];
    dot += x * y;
    a += x * x;
    b += y * y;
  }
  return { change: rms(differenceOf(wanted, found)) / rms(wanted), cosine: dot / Math.sqrt(a * b) };
}

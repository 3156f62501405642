import { filled } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { toFloat32 } from "../../core/tensor-cast.js";
import { misreadings } from "../explain/weights.js";
import type { Expected } from "./constants.js";
import { type ComparedConstants, type Deviation, isUniform, valuesOf } from "./relations.js";

/**
 * Constants that differ without a pattern: other statistics, another epoch or another training run. A constant with a
 * mistake of its own stands out only by its distance.
 */

/** Constants that differ for one reason. */
interface Others {
  /** As a clause. */
  readonly says: string;
  readonly of: readonly Deviation[];
}

/** Minimum number of layers for a conclusion about all. */
const FEWEST = 8;

/** The constants of batch norms that differ only in their running statistics, or in a product in their scales. */
export function otherStatistics(
  deviations: readonly Deviation[],
  { norms, folded, stateDict }: ComparedConstants,
): Others | undefined {
  const ofNorms = deviations.filter(({ node, found }) => node.op.kind === "batchNorm" && found !== undefined);
  const scaled = new Set(ofNorms.flatMap((each) => (isScaledByRow(each) ? [each.node] : [])));
  const isOther = ({ node, isProduct, role }: Deviation): boolean =>
    isProduct ? scaled.has(node) : role === "runningMean" || role === "runningVar";
  const of = alike(ofNorms.filter(isOther), stateDict);
  const count = new Set(of.map(({ node }) => node)).size;
  if (count < FEWEST || 2 * count < norms) return undefined;
  const which = count === norms ? "all batch norms" : `${count} of ${norms} batch norms`;
  return {
    says: `the running statistics of ${which}${folded > 0 ? ", or their scales," : ""} are not the checkpoint's`,
    of,
  };
}

/** Minimum share of a constant's values that differ. */
const MOST = 0.5;

/** Values in another order are the same when sorted, as a share of their size, to within the rounding of folding. */
const SAME_VALUES = 1e-5;

/** How much further apart they are before. */
const MOVED = 100;

/** Weights of two trainings are independent. */
const RELATED = 0.5;

/** All constants, if they are those of another training or of a later epoch. */
export function otherTraining(
  deviations: readonly Deviation[],
  { weights, stateDict }: ComparedConstants,
): Others | undefined {
  const others = deviations.filter((deviation) => areOthers(deviation) && !isUniform(deviation));
  const products = others.filter(isOfProducts);
  if (products.length < FEWEST || 2 * products.length < weights) return undefined;
  const compared = products.map(({ expected, found }) => compare(expected.values, valuesOf(found)));
  // Of independent values, no mistake shows.
  if (median(compared.map(({ cosine }) => cosine)) < RELATED)
    return {
      says: "the weights are from another training run",
      of: deviations.filter((deviation) => areOthers(deviation) || isUniform(deviation)),
    };
  const change = 100 * median(compared.map((each) => each.change));
  const slightly = change < SLIGHT ? "slightly " : "";
  return {
    says: `the weights differ ${slightly}throughout, as after further training (another epoch, or fine-tuning), by a median of ${change.toPrecision(2)} %`,
    of: alike(others, stateDict),
  };
}

/** More percent than this are not slight. */
const SLIGHT = 10;

/** Whether a constant is the weight of a convolution or linear layer, also in a product. */
export function isOfProducts({
  node: { op },
  merged,
  role,
}: Pick<Deviation, "node" | "merged" | "role">): boolean {
  return role === "weight" && (merged !== undefined || op.kind === "conv" || op.kind === "linear");
}

/** Whether most values differ, and are not the same values in another order or rounded to a few. */
function areOthers(deviation: Deviation): boolean {
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

/** How far products may be from one factor, as a share of the largest: float32 rounds less, and types of 16 bits more. */
const SCALE_ROUNDING = 2 ** -18;

/** Rows of fewer values have one factor by chance. */
const FEWEST_IN_ROW = 3;

/** Whether rows of a weight are those expected, times one positive factor each. */
function isScaledByRow({ role, expected: { values }, found }: Deviation): boolean {
  if (role !== "weight" || !found || found.data.length !== values.length) return false;
  const own = valuesOf(found);
  const size = own.length / (found.shape[0] ?? 1);
  if (size < FEWEST_IN_ROW) return false;
  for (let row = 0; row < own.length; row += size) {
    let [dot, square, largest] = [0, 0, 0];
    for (let index = row; index < row + size; index++) {
      const value = values[index] as number;
      dot += value * (own[index] as number);
      square += value * value;
      largest = Math.max(largest, Math.abs(value));
    }
    const factor = square === 0 ? 1 : dot / square;
    const most = SCALE_ROUNDING * factor * largest;
    if (!(factor >= 0)) return false;
    for (let index = row; index < row + size; index++)
      if (Math.abs(factor * (values[index] as number) - (own[index] as number)) > most) return false;
  }
  return true;
}

/** A constant this many times as far off as most of its kind, and at least this far, has another mistake. */
const FAR = 8;
const LEAST_FAR = 0.5;

/** Constants that are about as far off as others of their kind, and no closer to the result of a known mistake. */
function alike(deviations: readonly Deviation[], stateDict: StateDict): readonly Deviation[] {
  const kinds = new Map<string, Deviation[]>();
  for (const deviation of deviations) {
    const kind = `${deviation.role} ${deviation.node.op.kind} ${deviation.isProduct}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), deviation]);
  }
  return [...kinds.values()].flatMap((all) => {
    const sizes = all.map(({ expected }) => rms(expected.values));
    const least = median(sizes);
    const changes = all.map(({ expected: { values }, found }, index) => {
      const own = valuesOf(found);
      return (
        rms(values.map((value, at) => value - (own[at] as number))) / Math.max(sizes[index] as number, least)
      );
    });
    const far = Math.max(LEAST_FAR, FAR * median(changes));
    return all.filter(
      (deviation, index) => (changes[index] as number) <= far && !isNearerOtherwise(deviation, stateDict),
    );
  });
}

/** A mistake explains most of a difference if it leaves less than this share. */
const NEARER = 0.5;

/** Whether a constant is nearer to what it would be with one parameter negated or in another order. */
function isNearerOtherwise(deviation: Deviation, stateDict: StateDict): boolean {
  const { node, merged, role, isProduct, expected, found } = deviation;
  const own = valuesOf(found);
  const distance = (values: Float32Array): number =>
    rms(values.map((value, at) => value - (own[at] as number)));
  const most = NEARER * distance(expected.values);
  const paths = isProduct
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
  const orders = [
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

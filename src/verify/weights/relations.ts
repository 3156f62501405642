import type { LayerGraph, LayerNode, ParameterRole } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import type { Difference } from "../../convert/import/differences.js";
import { filled, once } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { castFloat, toFloat32 } from "../../core/tensor-cast.js";
import { type Misreading, misreadings } from "../explain/weights.js";
import type { Fault } from "../outcome/report.js";
import { differences, type Expected } from "./constants.js";
import { epsilonOfProducts, storedWithin } from "./expected.js";
import {
  bitsOfSteps,
  inType,
  isInSteps,
  NARROW,
  ROUNDED_BEFORE,
  rounding,
  STEPPED,
  truncated,
  withRounded,
} from "./roundings.js";

/** A constant of a candidate that is not the checkpoint's. */
export interface Deviation {
  /** The layer that has it. */
  readonly node: LayerNode;
  /** The layer before it whose weights are in the same products. */
  readonly merged: LayerNode | undefined;
  /** Whether it is a product, of that layer and a batch norm or of a batch norm's own. */
  readonly isProduct: boolean;
  readonly role: ParameterRole;
  /** The number of constants that its layer has. */
  readonly roles: number;
  readonly expected: Expected;
  /** Undefined if the candidate has none. */
  readonly found: StoredTensor | undefined;
  /** As a clause. */
  readonly problem: string;
  /** Whether a constant, by default the candidate's, is this one within what exporters round. */
  readonly is: (expected: Expected | undefined, found?: StoredTensor) => boolean;
  /** What it would be with other parameters, or of other layers. */
  readonly with: (change: Change) => Expected | undefined;
}

interface Change {
  readonly stateDict?: StateDict;
  readonly node?: LayerNode;
  readonly merged?: LayerNode | undefined;
}

/** What constants were compared with. */
export interface ComparedConstants {
  readonly graph: LayerGraph;
  readonly stateDict: StateDict;
  /** How many constants were compared. */
  readonly compared: number;
  /** How many weights of convolutions and linear layers these are, also in products, and of how many batch norms. */
  readonly weights: number;
  readonly norms: number;
  /** The number of batch norms that are folded. */
  readonly folded: number;
  /** Of the structure: a batch norm that a file keeps may have the same ε as the folded ones. */
  readonly differences: readonly Pick<Difference, "layer" | "found">[];
}

/** What a constant may be instead of the checkpoint's, exactly or within rounding. */
export interface Relation {
  readonly cause?: NonNullable<Fault["cause"]>;
  /** As a clause, the same for constants with one cause; undefined if this one is something else. */
  readonly of: (deviation: Deviation) => string | undefined;
}

/** The relations that explain a constant by itself, in the order in which they are named. */
export function relationsOf(deviations: readonly Deviation[], stateDict: StateDict): readonly Relation[] {
  const when =
    (says: string, holds: (deviation: Deviation) => boolean): Relation["of"] =>
    (deviation) =>
      holds(deviation) ? says : undefined;
  const rounded = (says: string, holds: (deviation: Deviation) => boolean): Relation => ({
    cause: "weights-rounded",
    of: when(says, holds),
  });
  const isFound = ({ is, with: of }: Deviation, weights: StateDict): boolean =>
    is(of({ stateDict: weights }));
  const bits = once(() => Math.max(...deviations.map((each) => bitsIn(each, stateDict) ?? 0)));
  const significant = once(() => Math.max(...deviations.map((each) => significantBits(each) ?? 0)));
  const fresh = once(() => newStatistics(stateDict));
  return [
    // One factor may be another operation's, as that of a sigmoid is, which values show.
    { of: whole },
    ...["kernel-transposed", "bytes-shifted"].map(
      (cause): Relation => ({
        cause: cause as Misreading["cause"],
        of: (deviation) => misread(deviation, stateDict).find((each) => each.cause === cause)?.says,
      }),
    ),
    ...NARROW.map((dtype) =>
      rounded(`the weights are rounded to ${dtype}`, ({ expected, found, is }) => {
        const narrow = found && inType(found, dtype);
        return narrow !== undefined && is(expected, narrow);
      }),
    ),
    {
      cause: "weights-rounded",
      of: (deviation) =>
        significantBits(deviation) === undefined
          ? undefined
          : `the weights are rounded to ${significant()} significant bits`,
    },
    ...BEFORE_FOLDING.flatMap(([type, round]) =>
      ROUNDED_BEFORE.map((isRounded) => {
        const weights = once(() => withRounded(stateDict, round, isRounded));
        return rounded(
          `the weights are rounded to ${type}, before batch norms were folded into them`,
          (deviation) => isFound(deviation, weights()),
        );
      }),
    ),
    ...NARROW.map((dtype) =>
      rounded(`the reference's weights are the candidate's, rounded to ${dtype}`, (deviation) =>
        isReferenceIn(dtype, deviation, stateDict),
      ),
    ),
    {
      cause: "weights-rounded",
      of: (deviation) =>
        bits() < 2 || bitsIn(deviation, stateDict) === undefined
          ? undefined
          : `the weights are rounded to ${bits()} bits`,
    },
    ...STEPPED.flatMap((dtype) => [
      rounded(`the weights are rounded to ${dtype}`, ({ expected, found }) =>
        isInSteps(dtype, expected.values, valuesOf(found)),
      ),
      rounded(`the reference's weights are the candidate's, rounded to ${dtype}`, ({ expected, found }) =>
        isInSteps(dtype, valuesOf(found), expected.values),
      ),
    ]),
    rounded(
      "the weights are stored in steps that are too wide, or in ranges that do not cover their values",
      isStoredWide,
    ),
    { cause: "epsilon", of: epsilonIn(deviations, stateDict) },
    {
      cause: "weights-other",
      of: when(
        "the running statistics are those of a new batch norm, mean 0 and variance 1",
        (deviation) => deviation.node.op.kind === "batchNorm" && isFound(deviation, fresh()),
      ),
    },
    { cause: "layout", of: orderOf },
    { cause: "weights-other", of: when("values are 0 that are not in the checkpoint", isPruned) },
    { cause: "weights-other", of: clipped },
  ];
}

/** Whether a constant has the right values, within the rounding of folding, and others are what stands in their place. */
function isRightOr(
  { expected: { values }, found }: Deviation,
  instead: (wanted: number) => number | undefined,
): boolean {
  if (found?.data.length !== values.length) return false;
  const off = [...valuesOf(found).entries()].filter(([index, own]) => {
    const wanted = values[index] as number;
    return !(Math.abs(own - wanted) <= SAME_FACTOR * Math.abs(wanted));
  });
  return off.length > 0 && off.every(([index, own]) => own === instead(values[index] as number));
}

function isPruned(deviation: Deviation): boolean {
  return isRightOr(deviation, () => 0);
}

function clipped(deviation: Deviation): string | undefined {
  const most = valuesOf(deviation.found).reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const atMost = (wanted: number): number | undefined =>
    Math.abs(wanted) > most ? Math.sign(wanted) * most : undefined;
  return most > 0 && isRightOr(deviation, atMost)
    ? `the values are clipped to ±${Number(most.toPrecision(6))}`
    : undefined;
}

/** TF32 has 13 bits less than float32. */
const TF32 = 13;

/** Types that weights may be rounded to before batch norms are folded into them. */
const BEFORE_FOLDING: readonly (readonly [type: string, round: (tensor: Tensor) => Tensor])[] = [
  ...NARROW.map((dtype) => [dtype, rounding(dtype)] as const),
  ["TF32", truncated(TF32)],
];

/** More bits than this are not fewer. */
const MOST_SIGNIFICANT = 16;

/** The significant bits that all values have, if they are the right ones rounded or truncated to these. */
function significantBits({ expected: { values }, found }: Deviation): number | undefined {
  if (found?.dtype !== "float32" || found.stored || found.data.length !== values.length) return undefined;
  const data = found.data as Float32Array;
  let all = 0;
  for (const word of new Int32Array(data.buffer, data.byteOffset, data.length)) all |= word;
  const bits = 24 - (31 - Math.clz32(all & -all));
  if (!(bits <= MOST_SIGNIFICANT)) return undefined;
  const unit = 2 ** (1 - bits);
  return data.every((value, index) => {
    const wanted = values[index] as number;
    return Math.abs(value - wanted) <= unit * Math.abs(wanted);
  })
    ? bits
    : undefined;
}

/** A candidate's constant as numbers; none if it has none. */
export function valuesOf(found: Deviation["found"]): Float32Array {
  return found ? toFloat32(found, "constant").data : new Float32Array();
}

/** Largest deviation from a common factor, relative to each value, as folding in float32 rounds. */
const SAME_FACTOR = 2 ** -20;

/** Whether all values of a candidate's constant, several, are the same. */
export function isUniform({ found }: Deviation): boolean {
  return found !== undefined && found.data.length > 1 && areEqual(valuesOf(found));
}

/** What all values have in common. */
function whole(deviation: Deviation): string | undefined {
  const {
    expected: { values },
    found,
  } = deviation;
  if (found?.data.length !== values.length || values.length < 2) return undefined;
  const data = valuesOf(found);
  const [first = 0] = data;
  if (isUniform(deviation)) return `all are ${Number(first.toPrecision(6))}`;
  let at = 0;
  for (const [index, value] of values.entries())
    if (Math.abs(value) > Math.abs(values[at] as number)) at = index;
  const factor = (data[at] as number) / (values[at] as number);
  const isCommon = values.every((value, index) => {
    const product = factor * value;
    return Math.abs((data[index] as number) - product) <= SAME_FACTOR * Math.abs(product);
  });
  return isCommon && Math.abs(factor - 1) > SAME_FACTOR
    ? `all are ${Number(factor.toPrecision(6))} times the checkpoint's`
    : undefined;
}

/** Values to compare before all are. */
const SAMPLES = 16;

/** How far from the right ones these may be, as a share of the largest: of float32, and of what has fewer bits. */
const ROUGHLY = 2 ** -12;
const ROUGHLY_NARROW = 2 ** -5;

/** Whether it is worth comparing all values with a constant. */
function isRoughly({ found }: Deviation, values: ArrayLike<number>): boolean {
  if (found?.data.length !== values.length) return false;
  const data = valuesOf(found);
  const step = Math.max(1, Math.floor(data.length / SAMPLES));
  const share = found.dtype === "float32" && !found.stored ? ROUGHLY : ROUGHLY_NARROW;
  let most = 0;
  for (let at = 0; at < data.length; at += step) most = Math.max(most, Math.abs(values[at] as number));
  for (let at = 0; at < data.length; at += step) {
    const [wanted, own] = [values[at] as number, data[at] as number];
    if (!(Math.abs(wanted - own) <= share * most)) return false;
  }
  return true;
}

/** Whether a candidate's constant is this one. */
export function isLike(deviation: Deviation, other: Expected | undefined): boolean {
  return other !== undefined && isRoughly(deviation, other.values) && deviation.is(other);
}

/** The orders in which the right values are read. */
function misread(deviation: Deviation, stateDict: StateDict): readonly Misreading[] {
  const { expected, found, merged, role } = deviation;
  if (found?.data.length !== expected.values.length || areEqual(expected.values)) return [];
  return misreadings(found.shape).filter(({ from }) => {
    if (isLike(deviation, inOrder(expected, from))) return true;
    const path = role === "weight" ? merged?.parameters.weight : undefined;
    const own = path === undefined ? undefined : stateDict.get(path);
    if (path === undefined || own?.data.length !== expected.values.length) return false;
    const { data } = toFloat32(own, path);
    const read: Tensor = {
      dtype: "float32",
      shape: own.shape,
      data: filled(new Float32Array(data.length), (index) => data[from(index)] as number),
    };
    return isLike(deviation, deviation.with({ stateDict: new Map(stateDict).set(path, read) }));
  });
}

function areEqual(values: ArrayLike<number>): boolean {
  for (let index = 1; index < values.length; index++) if (values[index] !== values[0]) return false;
  return true;
}

function inOrder({ values, bounds, smallest }: Expected, from: (index: number) => number): Expected {
  const ordered = (all: () => Float64Array): (() => Float64Array) =>
    once(() => {
      const own = all();
      return filled(new Float64Array(own.length), (index) => own[from(index)] as number);
    });
  return {
    values: filled(new Float32Array(values.length), (index) => values[from(index)] as number),
    ...(bounds ? { bounds: ordered(bounds) } : {}),
    ...(smallest ? { smallest: ordered(smallest) } : {}),
  };
}

/** Whether the reference has its values in fewer bits, and the candidate the ones that were rounded to them. */
function isReferenceIn(
  dtype: (typeof NARROW)[number],
  { node, merged, role, isProduct, expected, found }: Deviation,
  stateDict: StateDict,
): boolean {
  if (found?.dtype !== "float32" || found.stored) return false;
  // Of several equal values, such as those of a new layer, all numbers near them are rounded to them.
  if (expected.values.length > 1 && areEqual(expected.values)) return false;
  const paths = isProduct
    ? [...Object.values(node.parameters), ...Object.values(merged?.parameters ?? {})]
    : [node.parameters[role] ?? ""];
  const fits = (tensor: Tensor | undefined): boolean =>
    tensor === undefined || inType(tensor, dtype) !== undefined;
  // A model as the reference has products only.
  const isNarrow =
    paths.every((path) => fits(stateDict.get(path))) || fits({ ...found, data: expected.values });
  // Within the rounding of folding in that type, also where the file's own constants are exact.
  const narrow = castFloat(found, dtype, node.name);
  return isNarrow && differences(expected, narrow, false, node.name) === undefined;
}

/** The bits of weights that are the nearest of evenly spaced numbers, also if that was before folding. */
function bitsIn({ merged, role, expected, found }: Deviation, stateDict: StateDict): number | undefined {
  if (found?.dtype !== "float32" || found.stored || found.data.length !== expected.values.length)
    return undefined;
  const data = found.data as Float32Array;
  const [rows = 1] = found.shape.length > 1 ? found.shape : [];
  const bits = bitsOfSteps(data, expected.values, rows);
  const path = role === "weight" ? merged?.parameters.weight : undefined;
  const own = path === undefined ? undefined : stateDict.get(path);
  if (bits !== undefined || own?.data.length !== data.length) return bits;
  const weight = toFloat32(own, path ?? "").data;
  const size = data.length / rows;
  const unscaled = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += size) {
    let at = start;
    for (let index = start; index < start + size; index++)
      if (Math.abs(weight[index] as number) > Math.abs(weight[at] as number)) at = index;
    const scale = (expected.values[at] as number) / (weight[at] as number);
    for (let index = start; index < start + size; index++)
      unscaled[index] = scale === 0 ? (weight[index] as number) : (data[index] as number) / scale;
  }
  return bitsOfSteps(unscaled, weight, rows);
}

/** How far from the nearest step a value may be, in steps. */
const HALF = 0.5 + 2 ** -10;

/** Whether values are the nearest of those that can be stored, and others could be. */
function isStoredWide({ expected, found, is, problem }: Deviation): boolean {
  const stored = found?.stored;
  if (!found || !stored || stored.dtype === "float16") return problem === WIDE_STEPS && is(expected);
  if (typeof storedWithin(expected.values, stored) !== "string") return false;
  const data = valuesOf(found);
  const end = stored.min + stored.scale * (stored.dtype === "uint8" ? 255 : 65_535);
  const [least, most] = [Math.min(stored.min, end), Math.max(stored.min, end)];
  const within = HALF * Math.abs(stored.scale);
  return expected.values.every((value, index) => {
    const nearest = Math.min(most, Math.max(least, value));
    return Math.abs((data[index] as number) - nearest) <= within;
  });
}

/** The difference of constants whose steps are wider than necessary. */
export const WIDE_STEPS = "stored in steps that are larger than its range requires";

/** The ε that a norm's products have instead: the one that its weights show, or another norm's. */
function epsilonIn(deviations: readonly Deviation[], stateDict: StateDict): Relation["of"] {
  const shown = new Map<LayerNode, number>();
  const byCount = once(() => {
    for (const { node, role, isProduct, expected, found } of deviations) {
      if (role !== "weight" || !isProduct || node.op.kind !== "batchNorm") continue;
      if (found?.data.length !== expected.values.length) continue;
      const data = valuesOf(found);
      const epsilon = epsilonOfProducts(node, node.op, stateDict, expected.values, data);
      if (epsilon !== undefined) shown.set(node, epsilon);
    }
    const counts = new Map<number, number>();
    for (const epsilon of shown.values())
      for (const each of new Set([Number(epsilon.toPrecision(1)), epsilon]))
        counts.set(each, (counts.get(each) ?? 0) + 1);
    return [...counts].toSorted(([, a], [, b]) => b - a).map(([epsilon]) => epsilon);
  });
  return (deviation) => {
    const { node, isProduct } = deviation;
    const { op } = node;
    if (op.kind !== "batchNorm" || !isProduct) return undefined;
    // Within its rounding, a norm's own may be another: that of most others is preferred.
    const epsilon = [...byCount().slice(0, MOST_EPSILONS), shown.get(node)].find(
      (each) =>
        each !== undefined &&
        isLike(deviation, deviation.with({ node: { ...node, op: { ...op, epsilon: each } } })),
    );
    return epsilon === undefined ? undefined : `ε is ${epsilon}, not ${op.epsilon}`;
  };
}

/** How many of the ε that norms show are tried for each of them. */
const MOST_EPSILONS = 4;

function newStatistics(stateDict: StateDict): StateDict {
  const filledWith = (tensor: Tensor, value: number): Tensor => ({
    dtype: "float32",
    shape: tensor.shape,
    data: new Float32Array(tensor.data.length).fill(value),
  });
  return new Map(
    [...stateDict].map(([path, tensor]) => [
      path,
      path.endsWith(".running_mean")
        ? filledWith(tensor, 0)
        : path.endsWith(".running_var")
          ? filledWith(tensor, 1)
          : tensor,
    ]),
  );
}

/** Whether the rows of a constant, or its input channels, are in another order. */
function orderOf(deviation: Deviation): string | undefined {
  const { expected, found } = deviation;
  const { values } = expected;
  if (found?.data.length !== values.length) return undefined;
  const [rows = 1, inputs = 1] = found.shape;
  const size = values.length / rows;
  const taps = size / inputs;
  const reads = (from: (index: number) => number): boolean => isLike(deviation, inOrder(expected, from));
  const [what, input] =
    found.shape.length > 1 ? ["its output channels", "its input channels"] : ["its values", ""];
  if (reads((k) => (rows - 1 - Math.floor(k / size)) * size + (k % size)))
    return `${what} are in reverse order`;
  if (input && inputs > 1 && reads((k) => k + (inputs - 1 - 2 * (Math.floor(k / taps) % inputs)) * taps))
    return `${input} are in reverse order`;
  const order = rowOrder(values, valuesOf(found), rows);
  return order && reads((k) => (order[Math.floor(k / size)] as number) * size + (k % size))
    ? `${what} are in another order`
    : undefined;
}

/** How far values of the same row may be from each other, as a share of them: more than folding rounds. */
const SAME_ROW = 2 ** -16;

/** For each row, that which it has the values of; undefined if there is none. */
function rowOrder(wanted: Float32Array, found: Float32Array, rows: number): readonly number[] | undefined {
  const size = found.length / rows;
  const left = new Set(Array.from({ length: rows }, (_, row) => row));
  const order: number[] = [];
  for (let row = 0; row < rows; row++) {
    const same = (other: number): boolean => {
      for (let at = 0; at < size; at++) {
        const [a, b] = [wanted[other * size + at] as number, found[row * size + at] as number];
        if (Math.abs(a - b) > SAME_ROW * Math.abs(a)) return false;
      }
      return true;
    };
    const own = left.has(row) && same(row) ? row : [...left].find(same);
    if (own === undefined) return undefined;
    left.delete(own);
    order.push(own);
  }
  return order;
}

import type { LayerNode } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import { filled, largestMagnitude, once } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { toFloat32 } from "../../core/tensor-cast.js";
import { type Misreading, misreadings } from "../explain/weights.js";
import { type Expected, invisibleIn } from "./constants.js";
import { areEqual, type Deviation, isOfProducts, isUniform, type Relation, valuesOf } from "./deviation.js";
import { epsilonOfProducts, HALF_PRECISION } from "./expected.js";
import { beforeFolding, roundedRelations } from "./rounded.js";
import { MIN_HALF } from "./roundings.js";

/** The relations that explain a constant by itself, in the order in which they are named. */
export function relationsOf(deviations: readonly Deviation[], stateDict: StateDict): readonly Relation[] {
  return [
    // One factor may be another operation's, as that of a sigmoid is, which values show.
    { of: whole, isByChance: ({ found }) => found?.data.length === 1 },
    ...["kernel-transposed", "bytes-shifted"].map(
      (cause): Relation => ({
        cause: cause as Misreading["cause"],
        of: (deviation) => misread(deviation, stateDict).find((each) => each.cause === cause)?.says,
      }),
    ),
    ...roundedRelations(deviations, stateDict),
    {
      cause: "epsilon",
      of: epsilonIn(deviations, stateDict),
      isByChance: ({ found }) => found?.dtype !== "float32" || found.data.length === 1,
    },
    ...otherNorms(deviations, stateDict),
    { cause: "layout", of: orderOf },
    {
      cause: "weights-other",
      of: (deviation) => (isPruned(deviation) ? "values are 0 that are not in the checkpoint" : undefined),
    },
    {
      cause: "weights-other",
      of: (deviation) => clipped(deviation, stateDict),
      isByChance: (deviation) => atLimit(beforeFolding(deviation, stateDict) ?? deviation) < 2,
    },
  ];
}

/** The same constant with zeros in both, where both are too small to be seen beside its largest value, or anywhere. */
export function visible(deviation: Deviation): Deviation {
  const { expected, found } = deviation;
  if (!found || found.stored || found.data.length !== expected.values.length) return deviation;
  const own = valuesOf(found);
  const isSmall = invisibleIn(expected.values, own);
  const { values } = expected;
  if (!values.some((value, at) => (value !== 0 || own[at] !== 0) && isSmall(at))) return deviation;
  const tensor = { ...found, data: found.data.slice() } as StoredTensor;
  for (let at = 0; at < values.length; at++) if (isSmall(at)) tensor.data[at] = 0;
  return {
    ...deviation,
    expected: { ...expected, values: values.map((value, at) => (isSmall(at) ? 0 : value)) },
    found: tensor,
    is: (other, instead = tensor) => deviation.is(other, instead),
  };
}

/** Whether a constant has the right values, within the rounding of folding, and others are what stands in their place. */
function isRightOr(
  { expected: { values }, found }: Pick<Deviation, "expected" | "found">,
  instead: (wanted: number) => number | undefined,
): boolean {
  if (found?.data.length !== values.length) return false;
  const off = [...valuesOf(found).entries()].filter(([index, own]) => {
    const wanted = values[index] as number;
    return !(Math.abs(own - wanted) <= SAME_FACTOR * Math.abs(wanted));
  });
  return (
    off.length > 0 &&
    off.every(([index, own]) => {
      const other = instead(values[index] as number);
      return other !== undefined && Math.abs(own - other) <= SAME_FACTOR * Math.abs(other);
    })
  );
}

function isPruned(deviation: Deviation): boolean {
  // All statistics or biases of norms are not pruned.
  return (isOfProducts(deviation) || !isUniform(deviation)) && isRightOr(deviation, () => 0);
}

function clipped(deviation: Deviation, stateDict: StateDict): string | undefined {
  const { expected, found } = beforeFolding(deviation, stateDict) ?? deviation;
  const own = valuesOf(found);
  const most = largestMagnitude(own);
  const atMost = (wanted: number): number | undefined =>
    Math.abs(wanted) > most ? Math.sign(wanted) * most : undefined;
  return most > 0 && isRightOr({ expected, found }, atMost)
    ? `the values are clipped to ±${Number(most.toPrecision(5))}`
    : undefined;
}

/** How many values are as large as the largest. */
function atLimit({ found }: Pick<Deviation, "found">): number {
  const own = valuesOf(found);
  const most = largestMagnitude(own);
  return own.filter((value) => Math.abs(Math.abs(value) - most) <= SAME_FACTOR * most).length;
}

/** Largest deviation from a common factor, relative to each value, as folding in float32 rounds. */
const SAME_FACTOR = 2 ** -20;

/** Factors nearer to 1 are told from it by more digits. */
const NEAR_ONE = 1e-5;

/** What all values have in common. */
function whole(deviation: Deviation): string | undefined {
  const {
    expected: { values },
    found,
  } = deviation;
  if (found?.data.length !== values.length) return undefined;
  const data = valuesOf(found);
  const [first = 0] = data;
  if (isUniform(deviation) || (values.length === 1 && first === 0))
    return `all are ${Number(first.toPrecision(6))}`;
  const precision = HALF_PRECISION[found.stored?.dtype === "float16" ? "float16" : found.dtype] ?? 0;
  const [rounding, least] = [SAME_FACTOR + precision, found.dtype === "float16" ? MIN_HALF : 0];
  let [dot, squares] = [0, 0];
  for (const [index, value] of values.entries()) {
    dot += value * (data[index] as number);
    squares += value * value;
  }
  const factor = dot / squares;
  const isCommon = values.every((value, index) => {
    const product = factor * value;
    return Math.abs((data[index] as number) - product) <= rounding * Math.abs(product) + least;
  });
  return isCommon && Math.abs(factor - 1) > SAME_FACTOR + precision / 4
    ? `all are ${Number(factor.toPrecision(precision > 0 ? 3 : Math.abs(factor - 1) < NEAR_ONE ? 7 : 6))} times the checkpoint's`
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
    const { node, isProduct, role } = deviation;
    const { op } = node;
    if (op.kind !== "batchNorm") return undefined;
    if (role === "runningVar") return saidEpsilon(op.epsilon + commonDifference(deviation), op.epsilon);
    if (!isProduct) return undefined;
    // Within its rounding, a norm's own may be another: that of most others is preferred.
    const epsilon = [...byCount().slice(0, MOST_EPSILONS), shown.get(node)].find(
      (each) =>
        each !== undefined &&
        isLike(deviation, deviation.with({ node: { ...node, op: { ...op, epsilon: each } } })),
    );
    return saidEpsilon(epsilon, op.epsilon);
  };
}

/** Rounding alone may show an ε that differs by less, in logarithms. */
const NEAR_EPSILON = 0.3;

function saidEpsilon(epsilon: number | undefined, expected: number): string | undefined {
  const shown = Number(epsilon?.toPrecision(2));
  return Math.abs(Math.log(shown / expected)) > NEAR_EPSILON ? `ε is ${shown}, not ${expected}` : undefined;
}

/** What is added to all variances; 0 if that is not the same number. */
function commonDifference({ expected: { values }, found }: Deviation): number {
  const own = valuesOf(found);
  if (own.length !== values.length || own.length < 2) return 0;
  let at = 0;
  for (const [index, value] of values.entries()) if (value < (values[at] as number)) at = index;
  const difference = (own[at] as number) - (values[at] as number);
  const isCommon = values.every(
    (value, index) =>
      Math.abs((own[index] as number) - value - difference) <= SAME_FACTOR * (value + difference),
  );
  return isCommon ? difference : 0;
}

/** How many of the ε that norms show are tried for each of them. */
const MOST_EPSILONS = 4;

/** What the parameters of all batch norms may be instead. */
const OTHER_NORMS: readonly (readonly [says: string, by: Readonly<Record<string, number | string>>])[] = [
  ["the running means are 0", { running_mean: 0 }],
  ["the running variances are 1", { running_var: 1 }],
  [
    "the running statistics are those of a new batch norm, mean 0 and variance 1",
    { running_mean: 0, running_var: 1 },
  ],
  ["the biases of the batch norms are 0", { bias: 0 }],
  ["the weights of the batch norms are 1", { weight: 1 }],
  ["weights and biases of the batch norms are exchanged", { weight: "bias", bias: "weight" }],
];

function otherNorms(deviations: readonly Deviation[], stateDict: StateDict): readonly Relation[] {
  const norms = new Set(
    [...stateDict.keys()].flatMap((path) =>
      path.endsWith(".running_var") ? [path.slice(0, path.lastIndexOf("."))] : [],
    ),
  );
  const isNew = once(
    () => new Set(deviations.flatMap(({ node, role }) => (role === "runningMean" ? [node] : []))),
  );
  return OTHER_NORMS.map(([says, by]) => {
    const weights = once(() => withNorms(stateDict, norms, by));
    return {
      cause: "weights-other",
      of: (deviation) => {
        const { node, role, isProduct, is, with: of } = deviation;
        if (node.op.kind !== "batchNorm") return undefined;
        // Of norms that are kept, both statistics differ.
        if (!isProduct && role === "runningVar" && "running_mean" in by && !isNew().has(node))
          return undefined;
        if (!isProduct && role === "runningMean" && "running_var" in by && !isUniform(deviation))
          return undefined;
        return is(of({ stateDict: weights() })) ? says : undefined;
      },
    };
  });
}

function withNorms(
  stateDict: StateDict,
  norms: ReadonlySet<string>,
  by: Readonly<Record<string, number | string>>,
): StateDict {
  return new Map(
    [...stateDict].map(([path, tensor]) => {
      const at = path.lastIndexOf(".");
      const [module, other] = [path.slice(0, at), by[path.slice(at + 1)]];
      if (other === undefined || !norms.has(module)) return [path, tensor];
      if (typeof other === "string") return [path, stateDict.get(`${module}.${other}`) ?? tensor];
      const data = new Float32Array(tensor.data.length).fill(other);
      return [path, { dtype: "float32", shape: tensor.shape, data }];
    }),
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

import { once } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { castFloat, toFloat32 } from "../../core/tensor-cast.js";
import { differences } from "./constants.js";
import { areEqual, type Deviation, type Relation, valuesOf } from "./deviation.js";
import { HALF_PRECISION, storedWithin } from "./expected.js";
import {
  bitsOfSteps,
  inType,
  isInSteps,
  MIN_HALF,
  NARROW,
  nearest,
  ROUNDED_BEFORE,
  rounding,
  STEPPED,
  truncated,
  withRounded,
} from "./roundings.js";

/** Constants that are the checkpoint's in fewer bits, or the other way round. */

/** The relations of rounding, in the order in which they are named. */
export function roundedRelations(
  deviations: readonly Deviation[],
  stateDict: StateDict,
): readonly Relation[] {
  const isByChance = ({ found }: Deviation): boolean => (found?.data.length ?? 0) < FEWEST_ROUNDED;
  const rounded = (says: string, holds: (deviation: Deviation) => boolean): Relation => ({
    cause: "weights-rounded",
    isByChance,
    of: (deviation) => (holds(deviation) ? says : undefined),
  });
  /** A constant, and before norms were folded into it. */
  const either =
    <T>(of: (constant: Constant) => T | undefined) =>
    (deviation: Deviation): T | undefined => {
      const before = beforeFolding(deviation, stateDict);
      return of(deviation) ?? (before && of(before));
    };
  const isFound = ({ is, with: of }: Deviation, weights: StateDict): boolean =>
    is(of({ stateDict: weights }));
  /** The same number for all constants that have one: now, and before norms were folded into them. */
  const counted = (
    says: (count: number) => string,
    of: (constant: Constant) => number | undefined,
    { least = 1, round }: { readonly least?: number; readonly round?: (count: number) => Rounding } = {},
  ): readonly [now: Relation, before: Relation] => {
    const most = once(() => Math.max(...deviations.map((each) => either(of)(each) ?? 0)));
    const variants = ROUNDED_BEFORE.flatMap((isRounded) =>
      round ? [once(() => withRounded(stateDict, round(most()), isRounded))] : [],
    );
    const relation = (holds: (deviation: Deviation) => boolean): Relation => ({
      cause: "weights-rounded",
      isByChance,
      of: (deviation) => (most() >= least && holds(deviation) ? says(most()) : undefined),
    });
    return [
      relation((each) => of(each) !== undefined),
      relation(
        (each) =>
          either(of)(each) !== undefined ||
          (each.isProduct && variants.some((weights) => isFound(each, weights()))),
      ),
    ];
  };
  const smallest = once(() =>
    Math.min(...deviations.map((each) => either((constant) => fewBits(constant)?.step)(each) ?? Infinity)),
  );
  const mostOfReference = once(() =>
    Math.max(...deviations.map((each) => bitsOfReference(each, stateDict) ?? 0)),
  );
  const [inBits, inBitsBefore] = counted(
    (count) => `the weights are rounded to ${count} significant bits`,
    (constant) => significantBits(constant, smallest()),
    { round: (count) => nearest(24 - count) },
  );
  return [
    ...NARROW.map((dtype) =>
      rounded(`the weights are rounded to ${dtype}`, ({ expected, found, is }) => {
        const narrow = found?.dtype === "float32" ? inType(found, dtype) : undefined;
        return narrow !== undefined && is(expected, narrow);
      }),
    ),
    inBits,
    ...BEFORE_FOLDING.flatMap(([type, round]) =>
      ROUNDED_BEFORE.map((isRounded) => {
        const weights = once(() => withRounded(stateDict, round, isRounded));
        return rounded(
          `the weights are rounded to ${type}, before batch norms were folded into them`,
          (deviation) => isFound(deviation, weights()),
        );
      }),
    ),
    inBitsBefore,
    ...NARROW.map((dtype) =>
      rounded(`the reference's weights are the candidate's, rounded to ${dtype}`, (deviation) =>
        isReferenceIn(dtype, deviation, stateDict),
      ),
    ),
    {
      cause: "weights-rounded",
      isByChance,
      of: (deviation) => {
        const count = bitsOfReference(deviation, stateDict);
        return count === undefined
          ? undefined
          : `the reference's weights are the candidate's, rounded to ${mostOfReference()} significant bits`;
      },
    },
    counted((count) => `the weights are rounded to ${count} decimals`, decimals, { round: toDecimals })[1],
    counted((count) => `the weights are rounded to ${count} bits`, bitsIn, { least: 2 })[1],
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
  ];
}

type Rounding = (tensor: Tensor) => Tensor;

const toDecimals = (count: number): Rounding => {
  const tens = 10 ** count;
  return (tensor) => {
    const { shape, data } = toFloat32(tensor, "constant");
    return { dtype: "float32", shape, data: data.map((value) => Math.round(value * tens) / tens) };
  };
};

/** Fewer values may be rounded by chance. */
const FEWEST_ROUNDED = 16;

type Constant = Pick<Deviation, "expected" | "found">;

/** The weight of a layer before a batch norm was folded into it, if nothing else differs; undefined for others. */
export function beforeFolding(
  { merged, role, expected, found }: Deviation,
  stateDict: StateDict,
): Constant | undefined {
  const path = role === "weight" ? merged?.parameters.weight : undefined;
  const own = path === undefined ? undefined : stateDict.get(path);
  if (!own || found?.dtype !== "float32" || found.stored || own.data.length !== found.data.length)
    return undefined;
  const { data: weight, shape } = toFloat32(own, path ?? "");
  const size = weight.length / (shape[0] ?? 1);
  const [values, data] = [weight.slice(), new Float32Array(weight.length)];
  for (let start = 0; start < data.length; start += size) {
    let at = start;
    for (let index = start; index < start + size; index++)
      if (Math.abs(weight[index] as number) > Math.abs(weight[at] as number)) at = index;
    const scale = (expected.values[at] as number) / (weight[at] as number);
    for (let index = start; index < start + size; index++) {
      const product = found.data[index] as number;
      // What is not visible in the products is not in the factors.
      if (product === 0 && expected.values[index] === 0) values[index] = 0;
      else data[index] = product / scale;
    }
  }
  return { expected: { values }, found: { dtype: "float32", shape, data } };
}

/** TF32 has 13 bits less than float32. */
const TF32 = 13;

/** Types that weights may be rounded to before batch norms are folded into them. */
const BEFORE_FOLDING: readonly (readonly [type: string, round: Rounding])[] = [
  ...NARROW.map((dtype) => [dtype, rounding(dtype)] as const),
  ["TF32", truncated(TF32)],
  ["TF32", nearest(TF32)],
];

/** More bits than this are not fewer. */
const MOST_SIGNIFICANT = 12;

/** How far from a number of few bits a float32 may be that was multiplied and divided by a factor, as a share of it. */
const OFF_BITS = 2 ** -22;

/** The significant bits that all values have, and the largest number that all are multiples of; undefined if they are many. */
function fewBits({ found }: Constant): { readonly bits: number; readonly step: number } | undefined {
  if (found?.dtype !== "float32" || found.stored) return undefined;
  let [most, step] = [0, Infinity];
  for (const value of found.data as Float32Array) {
    if (value === 0) continue;
    const unit = 2 ** Math.floor(Math.log2(Math.abs(value)));
    const mantissa = Math.abs(value) / unit;
    let bits = 1;
    for (; bits <= MOST_SIGNIFICANT; bits++) {
      const scaled = mantissa * 2 ** (bits - 1);
      if (Math.abs(scaled - Math.round(scaled)) <= OFF_BITS * scaled) break;
    }
    if (bits > MOST_SIGNIFICANT) return undefined;
    most = Math.max(most, bits);
    step = Math.min(step, unit * 2 ** (1 - bits));
  }
  return most > 0 ? { bits: most, step } : undefined;
}

/** The significant bits of all values, if they are the right ones rounded or truncated to these, or to multiples of a step. */
function significantBits(constant: Constant, step: number): number | undefined {
  const few = fewBits(constant);
  const { values } = constant.expected;
  if (!few || constant.found?.data.length !== values.length) return undefined;
  const own = valuesOf(constant.found);
  const share = 2 ** (1 - few.bits);
  return values.every((wanted, index) => {
    const off = Math.abs((own[index] as number) - wanted);
    return off <= share * Math.abs(wanted) || off <= step;
  })
    ? few.bits
    : undefined;
}

/** More decimals than this are those of float32. */
const MOST_DECIMALS = 6;

/** The decimals of all values, if they are the right ones rounded to these. */
function decimals({ expected: { values }, found }: Constant): number | undefined {
  if (found?.dtype !== "float32" || found.stored || found.data.length !== values.length) return undefined;
  const own = found.data as Float32Array;
  for (let count = 1; count <= MOST_DECIMALS; count++) {
    const tens = 10 ** count;
    const areAll = own.every((value, index) => {
      const scaled = value * tens;
      const off = OFF_BITS * Math.abs(scaled);
      return (
        Math.abs(scaled - Math.round(scaled)) <= off &&
        Math.abs(scaled - (values[index] as number) * tens) <= 0.5 + 2 * off
      );
    });
    if (areAll) return count;
  }
  return undefined;
}

/** The checkpoint's parameters that a constant is made of. */
function pathsOf({ node, merged, role, isProduct }: Deviation): readonly string[] {
  return isProduct
    ? [...Object.values(node.parameters), ...Object.values(merged?.parameters ?? {})]
    : [node.parameters[role] ?? ""];
}

/** Whether the reference has its values in fewer bits, and the candidate the ones that were rounded to them. */
function isReferenceIn(dtype: (typeof NARROW)[number], deviation: Deviation, stateDict: StateDict): boolean {
  const { node, expected, found } = deviation;
  if (!found || found.stored || (found.dtype !== "float32" && found.dtype !== dtype)) return false;
  // Of several equal values, such as those of a new layer, all numbers near them are rounded to them.
  if (expected.values.length > 1 && areEqual(expected.values)) return false;
  const paths = pathsOf(deviation);
  const fits = (tensor: Tensor | undefined): boolean =>
    tensor === undefined || inType(tensor, dtype) !== undefined;
  // A model as the reference has products only.
  const isNarrow =
    paths.every((path) => fits(stateDict.get(path))) ||
    fits({ dtype: "float32", shape: found.shape, data: expected.values });
  const before = beforeFolding({ ...deviation, found, expected }, stateDict);
  if (before && !isNarrow) return isWeightIn(dtype, before);
  // Within the rounding of folding in that type, also where the file's own constants are exact.
  const narrow = found.dtype === dtype ? found : castFloat(found, dtype, node.name);
  return isNarrow && differences(expected, narrow, false, node.name) === undefined;
}

/** Whether the reference's weight is in a type, and the candidate's, before norms were folded into it, what was rounded. */
function isWeightIn(dtype: (typeof NARROW)[number], { expected: { values }, found }: Constant): boolean {
  const own = valuesOf(found);
  if (!found || inType({ dtype: "float32", shape: found.shape, data: values }, dtype) === undefined)
    return false;
  const [half, least] = [(HALF_PRECISION[dtype] ?? 0) / 2, dtype === "float16" ? MIN_HALF / 2 : 0];
  return values.every(
    (value, index) =>
      Math.abs((own[index] as number) - value) <= (1 + 2 ** -8) * half * Math.abs(value) + least,
  );
}

/** The significant bits of the reference's values, if the candidate's are what was rounded to them, within what folding makes of that. */
function bitsOfReference(deviation: Deviation, stateDict: StateDict): number | undefined {
  const { expected, found } = deviation;
  if (found?.dtype !== "float32" || found.stored || found.data.length !== expected.values.length)
    return undefined;
  let bits = 0;
  for (const path of pathsOf(deviation)) {
    const tensor = stateDict.get(path);
    const few = tensor?.data.some((value) => value !== 0)
      ? fewBits({ expected, found: tensor })
      : { bits: 0 };
    if (!few) return undefined;
    bits = Math.max(bits, few.bits);
  }
  if (bits === 0 || (expected.values.length > 1 && areEqual(expected.values))) return undefined;
  const bounds = expected.bounds?.();
  const own = found.data as Float32Array;
  const share = 2 ** -bits;
  return expected.values.every((value, index) => {
    const off = Math.abs((own[index] as number) - value);
    return off <= (bounds ? share * 2 ** 24 * (bounds[index] as number) : 2 * share * Math.abs(value));
  })
    ? bits
    : undefined;
}

/** The bits of weights that are the nearest of evenly spaced numbers. */
function bitsIn({ expected, found }: Constant): number | undefined {
  if (found?.dtype !== "float32" || found.stored || found.data.length !== expected.values.length)
    return undefined;
  const [rows = 1] = found.shape.length > 1 ? found.shape : [];
  return bitsOfSteps(found.data as Float32Array, expected.values, rows);
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

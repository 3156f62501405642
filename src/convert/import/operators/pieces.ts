import type { DType } from "../../../core/tensor.js";
import { codeToDType, type OnnxNode } from "../../formats/onnx/model.js";
import { factorOf, isExactFactor, isFloat, isFloatType, perChannel, uniform } from "./constants.js";
import {
  type ClipBounds,
  type ForeignNode,
  type Form,
  isKind,
  type Piece,
  type Pieces,
  type Value,
} from "./foreign.js";
import { asNode, asTensor, float, int, nodeValue, type OperatorSite } from "./site.js";

/**
 * Elementwise operators as piecewise functions of a value x, where it is negative, zero and positive: each piece is a
 * multiple of x, or a number. A ReLU is 0, 0 and x, and x itself is x, 0 and x, whatever the operators: `Where(x > 0,
 * x, 0)`, `x * Cast(x > 0)`, `Max(x, 0)`, `x - Min(x, 0)`, a `LeakyRelu` of slope 0.
 *
 * This arithmetic is exact for floats, in float32 and in float64. Multiples are small powers of two, whose products are
 * not rounded short of overflow and subnormal numbers; a sum is of two multiples whose sum is a power of two as well, or
 * of two numbers; a number is one of float32 that no operation rounds; comparisons and choices do not round. Whole numbers, whose
 * arithmetic wraps around, are only compared, chosen and cast. Any other piece, and a choice that a piece does not decide, is unknown. Zeros have no sign,
 * since no operation of an OSNet on an activation distinguishes them.
 */

/** The three parts of the real line. The outer two exclude zero. */
const PARTS = [
  [Number.NEGATIVE_INFINITY, 0],
  [0, 0],
  [0, Number.POSITIVE_INFINITY],
] as const;

/** The values that a piece covers. */
type Range = readonly [least: number, most: number];

const X: Piece = { slope: 1, constant: 0 };
const ZERO: Piece = { slope: 0, constant: 0 };
const ONE: Piece = { slope: 0, constant: 1 };

/** The piece of an operator's result in one part, from those of its operands. */
type Rule = (operands: readonly Piece[], part: Range, node: OnnxNode) => Piece | undefined;

/**
 * The piecewise function of an operator, if all its operands are computed from the same value; undefined if they are
 * not, or if the operator is not supported.
 */
export function piecesOf(site: OperatorSite): Pieces | undefined {
  const { node, inputs, isHalf = false } = site;
  const rule = node.domain === "" && Object.hasOwn(RULES, node.opType) ? RULES[node.opType] : undefined;
  const known = inputs.filter((value) => value !== undefined);
  const nodes = known.flatMap((value) => asNode(value) ?? []);
  // Quantised integers differ from the numbers they represent, and a cast to fewer bits is another function.
  if (!rule || nodes.length === 0 || known.some(isChanged)) return undefined;
  const operands = nodes.map((operand) => piecesIn(operand, MAX_STEPS, isHalf));
  const [first] = operands;
  if (!first || operands.some(({ of }) => of !== first.of)) return undefined;
  const isWhole = (value: Value | undefined): boolean => {
    const [operand, tensor] = [asNode(value), asTensor(value)];
    return operand
      ? operands[nodes.indexOf(operand)]?.isWhole === true
      : tensor !== undefined && !isFloat(tensor);
  };
  if (inputs.some(isWhole) && !ON_WHOLE_NUMBERS.has(node.opType)) return undefined;
  const range = rangeOf(first.of);
  const form = first.of.form;
  const all = inputs.map((value) => {
    const operand = asNode(value);
    return operand ? operands[nodes.indexOf(operand)]?.parts : constantParts(value, form, node.opType);
  });
  // Omitted inputs are bounds of a Clip, which handles them.
  if (all.some((parts, index) => !parts && inputs[index])) return undefined;
  const bounded = node.opType === "Clip" ? clipBounds(site) : undefined;
  const parts = PARTS.map(([least, most], part) => {
    const here: Range = [Math.max(least, range[0]), Math.min(most, range[1])];
    const pieces = all.flatMap((operand) => (operand ? [operand[part]] : []));
    if (pieces.includes(undefined)) return undefined;
    const taken = pieces as readonly Piece[];
    const piece = bounded ? clipped(taken[0], bounded, here) : rule(taken, here, node);
    return piece && (!isHalf || isExactInHalf(piece)) ? piece : undefined;
  });
  const chosenFrom = node.opType === "Where" ? inputs.slice(1) : inputs;
  const becomesWhole = node.opType === "Cast" ? !isFloatType(castTo(node)) : chosenFrom.some(isWhole);
  return { of: first.of, parts, ...(becomesWhole || TRUTHS.has(node.opType) ? { isWhole: true } : {}) };
}

/** Operators whose results are truth values. */
const TRUTHS: ReadonlySet<string> = new Set([
  ...["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not"],
]);

export const ON_WHOLE_NUMBERS: ReadonlySet<string> = new Set([...TRUTHS, "Cast", "Where"]);

/** Half precision has larger gaps between numbers, and overflows sooner. */
function isExactInHalf({ slope, constant }: Piece): boolean {
  return slope === 0
    ? Number.isInteger(constant) && Math.abs(constant) <= MAX_HALF_INTEGER
    : isExactFactor(slope, true);
}

/** Up to this, float16 has every whole number. */
const MAX_HALF_INTEGER = 2 ** 11;

/** The operand, or the value x itself, that an operator's result is equal to; or a ReLU of x. */
export function simplest(
  { of, parts, isWhole }: Pieces,
  { inputs, output, isHalf = false }: OperatorSite,
): Value | undefined {
  for (const value of inputs) {
    const operand = asNode(value);
    const same = operand && piecesIn(operand, MAX_STEPS, isHalf);
    if (same?.of === of && same.isWhole === isWhole && areEqual(same.parts, parts, of)) return value;
  }
  if (areEqual([X, ZERO, X], parts, of)) return { kind: "node", node: of };
  return areEqual([ZERO, ZERO, X], parts, of)
    ? nodeValue({ kind: "relu" }, [of], of.form, output)
    : undefined;
}

/** Whether two functions agree on every value that x can have. */
function areEqual(a: Pieces["parts"], b: Pieces["parts"], of: ForeignNode): boolean {
  const [least] = rangeOf(of);
  return PARTS.every(([from], part) => {
    const [left, right] = [a[part], b[part]];
    // A value that is never negative has no negative part.
    if (from < 0 && least >= 0) return true;
    return left !== undefined && left.slope === right?.slope && left.constant === right.constant;
  });
}

/**
 * The range of a value: sigmoids lie in [0, 1], both ends of which float32 reaches; pools of non-negative values are
 * not negative.
 */
function rangeOf(node: ForeignNode): Range {
  let source: ForeignNode | undefined = node;
  for (let steps = 0; source && steps < MAX_STEPS; steps++) {
    if (isKind(source, "sigmoid")) return [0, 1];
    if (isKind(source, "relu")) return [0, Number.POSITIVE_INFINITY];
    if (!isKind(source, "maxPool", "avgPool", "globalAvgPool", "globalMaxPool", "flatten")) break;
    [source] = source.inputs;
  }
  return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
}

/** Limit on steps: an activation consists of a few operators, but a file may have a chain of any length. */
const MAX_STEPS = 8;

/** A node as a function of the value that it is computed from, as far as known; otherwise of itself. */
function piecesIn(node: ForeignNode, steps: number, isHalf: boolean): Pieces {
  if (node.pieces) return node.pieces;
  const [input] = node.inputs;
  const factor = factorOf(node);
  const isRead = isKind(node, "relu") || factor !== undefined;
  if (!input || !isRead || steps === 0) return { of: node, parts: [X, ZERO, X] };
  const { of, parts } = piecesIn(input, steps - 1, isHalf);
  const range = rangeOf(of);
  return {
    of,
    parts: parts.map((piece, part) => {
      const [least, most] = PARTS[part] ?? range;
      if (!piece) return undefined;
      if (factor !== undefined) {
        const product = times(piece, factor);
        return product && (!isHalf || isExactInHalf(product)) ? product : undefined;
      }
      return larger(piece, ZERO, [Math.max(least, range[0]), Math.min(most, range[1])]);
    }),
  };
}

function isChanged(value: Value): boolean {
  return value.kind === "node" && (value.narrowed !== undefined || value.reading?.quantised !== undefined);
}

/** Operators whose constant vector may be a layer's parameters, even if its elements are equal. */
const WITH_PARAMETERS: ReadonlySet<string> = new Set(["Add", "Div", "Mul", "Sub", "Sum"]);

/** A constant that is a single number and does not change the value's shape, in all three parts. */
function constantParts(value: Value | undefined, form: Form, opType: string): Pieces["parts"] | undefined {
  const tensor = asTensor(value);
  if (!tensor || (value?.kind === "constant" && value.rounding)) return undefined;
  const vector = isFloat(tensor) && !WITH_PARAMETERS.has(opType) ? perChannel(tensor, form) : undefined;
  const isNumber = tensor.data.length === 1 && tensor.shape.length <= (form.rank === "flat" ? 2 : 4);
  const number = isNumber ? (uniform(tensor) ?? Number(tensor.data[0])) : vector && uniform(vector);
  // A double cannot represent every whole number of 64 bits.
  if (number === undefined || (!isFloat(tensor) && !Number.isSafeInteger(number))) return undefined;
  const piece: Piece = { slope: 0, constant: number };
  return [piece, piece, piece];
}

const RULES: Readonly<Record<string, Rule>> = {
  Abs: ([a], part) => a && sloped(a, part, -1),
  Add: ([a, b]) => a && b && plus(a, b),
  Cast: ([a], part, node) => a && cast(a, part, castTo(node)),
  Celu: ([a], part) => a && sloped(a, part, undefined),
  // Handled separately, since its bounds may be attributes.
  Clip: () => undefined,
  Div: ([a, b]) => (a && b?.slope === 0 && b.constant !== 0 ? times(a, 1 / b.constant) : undefined),
  Elu: ([a], part, node) => a && sloped(a, part, float(node, "alpha", 1) === 0 ? 0 : undefined),
  Equal: ([a, b], part) => a && b && truth(compare(a, b, part), [false, true, false]),
  Greater: ([a, b], part) => a && b && truth(compare(a, b, part), [false, false, true]),
  GreaterOrEqual: ([a, b], part) => a && b && truth(compare(a, b, part), [false, true, true]),
  LeakyRelu: ([a], part, node) => a && sloped(a, part, float(node, "alpha", 0.01)),
  Less: ([a, b], part) => a && b && truth(compare(a, b, part), [true, false, false]),
  LessOrEqual: ([a, b], part) => a && b && truth(compare(a, b, part), [true, true, false]),
  Max: (operands, part) => chosen(operands, part, larger),
  Min: (operands, part) => chosen(operands, part, smaller),
  Mul: ([a, b]) => a && b && product(a, b),
  Neg: ([a]) => a && times(a, -1),
  Not: ([a]) => (a?.slope === 0 ? (a.constant === 0 ? ONE : ZERO) : undefined),
  PRelu: ([a, slope], part) => (a && slope?.slope === 0 ? sloped(a, part, slope.constant) : undefined),
  Relu: ([a], part) => a && larger(a, ZERO, part),
  Selu: ([a], part, node) => {
    const [alpha, gamma] = [float(node, "alpha", SELU.alpha), float(node, "gamma", SELU.gamma)];
    const piece = a && sloped(a, part, alpha === 0 ? 0 : undefined);
    return piece && times(piece, gamma);
  },
  Sub: ([a, b]) => {
    const negative = b && times(b, -1);
    return a && negative && plus(a, negative);
  },
  Sum: ([first, ...others]) =>
    others.reduce<Piece | undefined>((sum, piece) => sum && plus(sum, piece), first),
  ThresholdedRelu: ([a], part, node) => {
    if (!a) return undefined;
    const comparison = compare(a, { slope: 0, constant: float(node, "alpha", 1) }, part);
    if (!comparison || comparison.sign <= 0) return comparison && ZERO;
    return comparison.isStrict ? a : undefined;
  },
  Where: ([condition, yes, no]) =>
    condition?.slope === 0 ? (condition.constant === 0 ? no : yes) : undefined,
};

const SELU = { alpha: 1.6732631921768188, gamma: 1.0507010221481323 } as const;

/**
 * How two pieces compare throughout a part: the sign of their difference, and whether they are equal nowhere.
 */
interface Comparison {
  readonly sign: -1 | 0 | 1;
  readonly isStrict: boolean;
}

/** Undefined if it changes within the part. A straight line has its extremes at the ends. */
function compare(a: Piece, b: Piece, [least, most]: Range): Comparison | undefined {
  const [slope, constant] = [a.slope - b.slope, a.constant - b.constant];
  if (least === most || slope === 0) {
    const value = (slope === 0 ? 0 : slope * least) + constant;
    return Number.isNaN(value) ? undefined : { sign: value > 0 ? 1 : value < 0 ? -1 : 0, isStrict: true };
  }
  const ends = [slope * least + constant, slope * most + constant];
  // The end at zero is not part of the interval; the other one is.
  const isReached = [least, most].some((end, index) => end !== 0 && ends[index] === 0);
  if (ends.every((end) => end >= 0)) return { sign: 1, isStrict: !isReached };
  return ends.every((end) => end <= 0) ? { sign: -1, isStrict: !isReached } : undefined;
}

/** @param results of less, equal, greater */
function truth(
  comparison: Comparison | undefined,
  results: readonly [boolean, boolean, boolean],
): Piece | undefined {
  if (!comparison) return undefined;
  const result = results[comparison.sign + 1];
  // If they may be equal somewhere, the result must be the same in both cases.
  if (!comparison.isStrict && result !== results[1]) return undefined;
  return result ? ONE : ZERO;
}

function larger(a: Piece, b: Piece, part: Range): Piece | undefined {
  const comparison = compare(a, b, part);
  return comparison && (comparison.sign >= 0 ? a : b);
}

function smaller(a: Piece, b: Piece, part: Range): Piece | undefined {
  const comparison = compare(a, b, part);
  return comparison && (comparison.sign <= 0 ? a : b);
}

function chosen([first, ...others]: readonly Piece[], part: Range, choose: typeof larger): Piece | undefined {
  return others.reduce<Piece | undefined>((best, piece) => best && choose(best, piece, part), first);
}

/** Bounds are attributes before opset 11 and inputs after. */
export function clipBounds({ node, inputs }: OperatorSite): ClipBounds {
  const bound = (at: number, name: string, none: number): number => {
    const [value, tensor] = [inputs[at], asTensor(inputs[at])];
    return value ? ((tensor && uniform(tensor)) ?? Number.NaN) : float(node, name, none);
  };
  return { least: bound(1, "min", -Infinity), most: bound(2, "max", Infinity) };
}

function clipped(piece: Piece | undefined, { least, most }: ClipBounds, part: Range): Piece | undefined {
  const raised = piece && atLeast(piece, least, part);
  // The largest float32 is not a bound: old exporters wrote it for no bound.
  return raised && (most >= UNBOUNDED ? raised : smaller(raised, { slope: 0, constant: most }, part));
}

function atLeast(piece: Piece, least: number, part: Range): Piece | undefined {
  return least <= -UNBOUNDED ? piece : larger(piece, { slope: 0, constant: least }, part);
}

const UNBOUNDED = 3.4e38;

/** A piece multiplied by a slope where it is negative; undefined if the slope is unknown and matters. */
function sloped(piece: Piece, part: Range, slope: number | undefined): Piece | undefined {
  const comparison = compare(piece, ZERO, part);
  if (!comparison) return undefined;
  if (comparison.sign >= 0) return piece;
  return slope === undefined ? undefined : times(piece, slope);
}

function castTo(node: OnnxNode): DType | undefined {
  return codeToDType(int(node, "to", 0));
}

/** Truth values are the numbers 0 and 1; a float of fewer bits would round. */
function cast(piece: Piece, part: Range, dtype: DType | undefined): Piece | undefined {
  if (dtype === "float32" || dtype === "float64") return exact(piece.slope, piece.constant);
  if (isFloatType(dtype)) return undefined;
  if (dtype === "bool") return truth(compare(piece, ZERO, part), [true, false, true]);
  return piece.slope === 0 && (piece.constant === 0 || piece.constant === 1) ? piece : undefined;
}

function product(a: Piece, b: Piece): Piece | undefined {
  if (a.slope === 0) return times(b, a.constant);
  return b.slope === 0 ? times(a, b.constant) : undefined;
}

function times({ slope, constant }: Piece, factor: number): Piece | undefined {
  return exact(slope * factor, constant * factor);
}

function plus(a: Piece, b: Piece): Piece | undefined {
  return exact(a.slope + b.slope, a.constant + b.constant);
}

/** A piece, if arithmetic on it is exact. */
function exact(slope: number, constant: number): Piece | undefined {
  const isNumber = Number.isFinite(constant) && Math.fround(constant) === constant;
  const isExact = slope === 0 ? isNumber : constant === 0 && isExactFactor(slope);
  // Zeros have no sign.
  return isExact ? { slope: slope || 0, constant: constant || 0 } : undefined;
}

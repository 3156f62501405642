import { toReal } from "../../../core/tensor-cast.js";
import type { NormFloor } from "../../export/options.js";
import type { StoredTensor } from "../../formats/tfjs/model.js";
import { type Constants, type ForeignNode, isKind, type Value } from "../foreign.js";
import { isFloat, perChannel, uniform } from "./constants.js";
import { frontAxes, nodeValue } from "./site.js";

/** Normalisations that exporters write out: found at the division, product or sum that ends them. */

/** Operators that mean something only together. */
export const PARTS = [
  "Abs",
  "Clip",
  "Exp",
  "Expand",
  "Max",
  "Neg",
  "Pow",
  "Reciprocal",
  "ReduceL2",
  "ReduceMean",
  "ReduceSum",
  "Softsign",
  "Sqrt",
  "Sub",
] as const;

type Part = (typeof PARTS)[number];

/** (x − mean) / √(mean((x − mean)²) + ε), over a plane for an instance norm, over all but the batch for a layer norm. */
export function normalized(centered: ForeignNode, deviation: ForeignNode, value: string): Value | undefined {
  const [x, mean] = operandsOf(centered, "Sub");
  const { variance, epsilon } = stabilized(deviation);
  if (!x || !mean || !variance || epsilon === undefined || !isSpread(variance, x, mean)) return undefined;
  return normOver(String(meanAxes(mean, x)), x, epsilon, value, {});
}

/** Sums that are one operation of the network written in parts. */
export function sumOf(a: ForeignNode, b: ForeignNode, value: string): Value | undefined {
  return (
    withNothing(a, b) ??
    withNothing(b, a) ??
    scaledAndMoved(a, b, value) ??
    scaledAndMoved(b, a, value) ??
    refinedMean(a, b, value) ??
    refinedMean(b, a, value) ??
    corrected(a, b, value)
  );
}

/** x + (y − y). */
function withNothing(x: ForeignNode, nothing: ForeignNode): Value | undefined {
  const [from, taken] = operandsOf(nothing, "Sub");
  return from !== undefined && from === taken ? { kind: "node", node: x } : undefined;
}

/** 1 / (1 + e^−x), by the divisor: a sigmoid, to a few roundings. */
export function logisticOf(divisor: ForeignNode, value: string): Value | undefined {
  const { weight, bias } = divisor.constants;
  const [power] = divisor.inputs;
  const isPlusOne = isKind(divisor, "affine") && !weight && bias && uniform(bias) === 1;
  const [exponent] = isPlusOne && power ? operandsOf(power, "Exp") : [];
  const x = exponent && (operandsOf(exponent, "Neg")[0] ?? timesFactor(exponent, -1));
  return x && nodeValue({ kind: "sigmoid" }, [x], x.form, value);
}

/** x·s + (β − mean·s), s = γ / √(variance + ε): how TensorFlow writes every norm over moments. */
function scaledAndMoved(scaled: ForeignNode, shift: ForeignNode, value: string): Value | undefined {
  if (!isKind(scaled, "scale") || !isKind(shift, "other") || shift.op.opType !== "Sub") return undefined;
  const [x, factor] = scaled.inputs;
  const [offset] = shift.op.operands;
  const [moved] = shift.inputs;
  if (!x || !factor || !moved || offset?.kind !== "constant" || !isKind(moved, "scale")) return undefined;
  const mean = moved.inputs.find((input) => input !== factor);
  const { weight, inverse } = weightedInverse(factor);
  const [root] = operandsOf(inverse, "Reciprocal");
  const { variance, epsilon } = root ? stabilized(root) : {};
  const bias = perChannel(offset.tensor, x.form);
  if (!mean || !moved.inputs.includes(factor) || !variance || epsilon === undefined || !bias)
    return undefined;
  if (!isSpread(variance, x, mean)) return undefined;
  return normOver(String(meanAxes(mean, x)), x, epsilon, value, { ...(weight ? { weight } : {}), bias });
}

/** m + mean(x − m), where m is the mean of x already: the same, with its rounding taken off. */
function refinedMean(rough: ForeignNode, rest: ForeignNode, value: string): Value | undefined {
  const [x] = rough.inputs;
  const [difference] = rest.inputs;
  if (!isKind(rough, "globalAvgPool") || !isKind(rest, "globalAvgPool") || !x || !difference)
    return undefined;
  const [from, taken] = operandsOf(difference, "Sub");
  return from === x && taken === rough
    ? nodeValue({ kind: "globalAvgPool" }, [x], rough.form, value)
    : undefined;
}

/**
 * y + y · (v / (v + ε) − mean(y²)) / 2, where y is c normalised and v = mean(c²): an instance norm with its scale's rounding
 * taken off, as our layers models write it. v / (v + ε) is softsign(v / ε).
 */
function corrected(norm: ForeignNode, correction: ForeignNode, value: string): Value | undefined {
  const [c] = norm.inputs;
  if (!isKind(norm, "instanceNorm") || !c || !isKind(correction, "scale")) return undefined;
  const [y, half] = correction.inputs;
  const excess = y === norm && half ? timesFactor(half, 0.5) : undefined;
  if (!excess || !isKind(excess, "add")) return undefined;
  const [expected, energy] = excess.inputs;
  const [ratio] = expected ? operandsOf(expected, "Softsign") : [];
  const variance = ratio && timesFactor(ratio, -1 / norm.op.epsilon);
  if (!variance || !energy || !isMinusPower(energy, norm)) return undefined;
  const [square] = variance.inputs;
  const centred = square?.inputs[0];
  if (!centred || centredOf(centred) !== c || !isMinusPower(variance, centred)) return undefined;
  return nodeValue(norm.op, [c], norm.form, value);
}

/** −mean(x²), its square written as x · −x. */
function isMinusPower(mean: ForeignNode, of: ForeignNode): boolean {
  const [product] = mean.inputs;
  if (!isKind(mean, "globalAvgPool") || !product || !isKind(product, "scale")) return false;
  const [left, right] = product.inputs;
  return left === of && right !== undefined && (timesFactor(right, -1) === of || isOpposite(right, of));
}

/** A norm with the weight −1, as a product with −1 makes of one without. */
function isOpposite(node: ForeignNode, of: ForeignNode): boolean {
  const { weight, bias } = node.constants;
  return (
    node.op.kind === of.op.kind &&
    node.inputs[0] === of.inputs[0] &&
    weight !== undefined &&
    !bias &&
    Object.keys(of.constants).length === 0 &&
    uniform(weight) === -1
  );
}

/** What is multiplied by one number, which is this one in float32. */
function timesFactor(node: ForeignNode, factor: number): ForeignNode | undefined {
  const { weight, bias } = node.constants;
  if (!isKind(node, "affine") || !weight || bias) return undefined;
  return uniform(weight) === Math.fround(factor) ? node.inputs[0] : undefined;
}

/** The map that a value is without its mean over the plane: x + −mean, or x − mean. */
export function centredOf(node: ForeignNode): ForeignNode | undefined {
  const [x, mean] = isKind(node, "add") ? node.inputs : operandsOf(node, "Sub");
  const subtrahend = mean && isKind(node, "add") ? timesFactor(mean, -1) : mean;
  const isMean = x && subtrahend && String(meanAxes(subtrahend, x)) === "2,3";
  return isMean && node.inputs.length === 2 ? x : undefined;
}

/** γ · (1 / d), or 1 / d alone. */
export function weightedInverse(factor: ForeignNode): {
  readonly weight?: StoredTensor;
  readonly inverse: ForeignNode;
} {
  const { weight, bias } = factor.constants;
  const [inverse] = factor.inputs;
  return isKind(factor, "affine") && weight && !bias && inverse ? { weight, inverse } : { inverse: factor };
}

/** √(variance + ε). */
function stabilized(deviation: ForeignNode): { readonly variance?: ForeignNode; readonly epsilon?: number } {
  const [sum] = operandsOf(deviation, "Sqrt");
  const { weight, bias } = sum?.constants ?? {};
  const [variance] = sum?.inputs ?? [];
  const epsilon = bias && !weight ? uniform(bias) : undefined;
  return sum && isKind(sum, "affine") && variance && epsilon !== undefined ? { variance, epsilon } : {};
}

/** Whether a value is the mean of (x − mean)² over the axes that the mean is over. */
function isSpread(variance: ForeignNode, x: ForeignNode, mean: ForeignNode): boolean {
  const axes = meanAxes(mean, x);
  const [square] = variance.inputs;
  if (!axes || !square || String(meanAxes(variance, square)) !== String(axes)) return false;
  const root = isKind(square, "scale") || isKind(square, "other") ? square.inputs[0] : undefined;
  if (!root || !isSquareOf(square, root)) return false;
  const [from, taken] = operandsOf(root, "Sub");
  return from === x && taken === mean;
}

function normOver(
  axes: string,
  x: ForeignNode,
  epsilon: number,
  value: string,
  constants: Constants,
): Value | undefined {
  if (axes === "2,3") return nodeValue({ kind: "instanceNorm", epsilon }, [x], x.form, value, constants);
  if (axes === "1,2,3") return nodeValue({ kind: "layerNorm", epsilon }, [x], x.form, value, constants);
  return undefined;
}

/** x / max(‖x‖₂, ε) along the channels, in any of its spellings. */
export function l2Normalized(x: ForeignNode, divisor: ForeignNode, value: string): Value | undefined {
  const length = behindFloors(divisor, "length");
  const sum = behindFloors(rootOf(length.node), "square");
  const [direct, square] = [overChannels(length.node, "ReduceL2"), overChannels(sum.node, "ReduceSum")];
  if (direct !== x && !(square && isSquareOf(square, x))) return undefined;
  const floors = direct === x ? length.floors : [...sum.floors, ...length.floors];
  return nodeValue({ kind: "l2Normalize", floors }, [x], x.form, value);
}

/** What a value is the square root of. */
function rootOf(node: ForeignNode | undefined): ForeignNode | undefined {
  const [radicand] = node && (isOther(node, "Sqrt") || isPower(node, 0.5)) ? node.inputs : [];
  return radicand;
}

/** What a value is the sum or length of, of each image by itself. */
function overChannels(node: ForeignNode | undefined, opType: Part): ForeignNode | undefined {
  const [input] = node && isOther(node, opType) ? node.inputs : [];
  if (!input || !node || !isKind(node, "other") || !node.op.axes) return undefined;
  return String(frontAxes(node.op.axes, input.form)) === "1" ? input : undefined;
}

/** A norm, or its square, without what keeps it from being zero; and that, in the order of its computation. */
function behindFloors(
  node: ForeignNode | undefined,
  of: NormFloor["of"],
): { readonly node: ForeignNode | undefined; readonly floors: readonly NormFloor[] } {
  const floors: NormFloor[] = [];
  let current = node;
  for (
    let floor = current && floorOf(current, of);
    current && floor;
    floor = current && floorOf(current, of)
  ) {
    if (floor !== "none") floors.unshift(floor);
    current = current.inputs[0];
  }
  return { node: current, floors };
}

/** The sum with a small number, or the larger of both, which only matters near zero; "none" for a copy by expansion. */
function floorOf(node: ForeignNode, of: NormFloor["of"]): NormFloor | "none" | undefined {
  if (node.inputs.length !== 1) return undefined;
  const { weight, bias } = node.constants;
  if (isKind(node, "affine")) return weight || !bias ? undefined : floor(of, "sum", uniform(bias));
  if (!isKind(node, "other")) return undefined;
  if (isOther(node, "Expand")) return "none";
  const { bounds, operands } = node.op;
  if (isOther(node, "Clip"))
    return bounds && bounds.most >= UNBOUNDED ? floor(of, "max", bounds.least) : undefined;
  const constants = operands.flatMap((operand) => (operand.kind === "constant" ? operand.tensor : []));
  const [constant] = constants;
  return isOther(node, "Max") && constant && operands.length === 2
    ? floor(of, "max", uniform(constant))
    : undefined;
}

function floor(
  of: NormFloor["of"],
  how: NormFloor["how"],
  epsilon: number | undefined,
): NormFloor | undefined {
  return epsilon !== undefined && epsilon >= 0 && epsilon <= MAX_FLOOR ? { of, how, epsilon } : undefined;
}

/** Largest float32, by which a Clip without an upper bound may be written. */
const UNBOUNDED = 3.4e38;

/** PyTorch's is 1e-12, and no exporter's is nearly as large. */
const MAX_FLOOR = 1e-3;

/** The axes over which one node is the mean of another. */
function meanAxes(mean: ForeignNode, of: ForeignNode): readonly number[] | undefined {
  if (mean.inputs[0] !== of) return undefined;
  if (isKind(mean, "globalAvgPool")) return [2, 3];
  return isKind(mean, "other") && mean.op.opType === "ReduceMean" && mean.op.axes
    ? frontAxes(mean.op.axes, of.form)
    : undefined;
}

function isSquareOf(square: ForeignNode, of: ForeignNode): boolean {
  if (isKind(square, "scale")) return square.inputs.every((input) => input === of);
  const [base] = square.inputs;
  // torch.linalg.vector_norm takes absolute values, whatever the power.
  const root = base && isOther(base, "Abs") ? base.inputs[0] : base;
  return root === of && isPower(square, 2);
}

function isPower(node: ForeignNode, power: number): boolean {
  if (!isKind(node, "other") || node.op.opType !== "Pow") return false;
  const exponent = node.op.operands[1];
  // Exporters write the exponent as a float or as a whole number.
  if (exponent?.kind !== "constant" || exponent.tensor.data.length !== 1) return false;
  const { tensor } = exponent;
  return Number(isFloat(tensor) ? toReal(tensor, "exponent").data[0] : tensor.data[0]) === power;
}

/** The activations that an operator without a meaning of its own reads, if it is one of these. */
function operandsOf(node: ForeignNode, ...opTypes: readonly Part[]): readonly ForeignNode[] {
  return isOther(node, ...opTypes) ? node.inputs : [];
}

function isOther(node: ForeignNode, ...opTypes: readonly Part[]): boolean {
  return isKind(node, "other") && (opTypes as readonly string[]).includes(node.op.opType);
}

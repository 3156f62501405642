import { toReal } from "../../../tensor-cast.js";
import { type ForeignNode, isKind, type Value } from "../foreign.js";
import { isFloat, uniform } from "./constants.js";
import { frontAxes, nodeValue } from "./site.js";

/** Normalisations that exporters write out: found at the division that ends them. */

/** (x − mean) / √(mean((x − mean)²) + ε), over a plane for an instance norm, over all but the batch for a layer norm. */
export function normalized(centered: ForeignNode, deviation: ForeignNode, value: string): Value | undefined {
  const [x, mean] = operandsOf(centered, "Sub");
  const [stabilized] = operandsOf(deviation, "Sqrt");
  if (!x || !mean || !stabilized || !isKind(stabilized, "affine")) return undefined;
  const [variance] = stabilized.inputs;
  const { weight, bias } = stabilized.constants;
  const epsilon = bias && !weight ? uniform(bias) : undefined;
  const axes = meanAxes(mean, x);
  const [square] = variance?.inputs ?? [];
  if (!axes || epsilon === undefined || !variance || !square || !isSquareOf(square, centered))
    return undefined;
  if (String(meanAxes(variance, square)) !== String(axes)) return undefined;
  const constants = {};
  if (String(axes) === "2,3")
    return nodeValue({ kind: "instanceNorm", epsilon }, [x], x.form, value, constants);
  if (String(axes) === "1,2,3")
    return nodeValue({ kind: "layerNorm", epsilon }, [x], x.form, value, constants);
  return undefined;
}

/** x / max(‖x‖₂, ε), in any of its spellings. */
export function l2Normalized(x: ForeignNode, divisor: ForeignNode, value: string): Value | undefined {
  const norm = behindFloor(divisor);
  const direct = norm && isOther(norm, "ReduceL2") && norm.inputs[0] === x;
  const [radicand] = norm ? operandsOf(norm, "Sqrt", "Pow") : [];
  const sum = behindFloor(radicand);
  const square = sum && isOther(sum, "ReduceSum") ? sum.inputs[0] : undefined;
  if (!direct && !(square && isSquareOf(square, x))) return undefined;
  return nodeValue({ kind: "l2Normalize" }, [x], x.form, value);
}

/** A norm without what keeps it from being zero. */
function behindFloor(node: ForeignNode | undefined): ForeignNode | undefined {
  let current = node;
  while (current && (isKind(current, "affine") || isOther(current, "Expand", "Clip", "Max")))
    current = current.inputs[0];
  return current;
}

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
  if (!isKind(square, "other") || square.op.opType !== "Pow" || square.inputs[0] !== of) return false;
  const exponent = square.op.operands[1];
  // Exporters write the exponent as a float or as a whole number.
  if (exponent?.kind !== "constant" || exponent.tensor.data.length !== 1) return false;
  const { tensor } = exponent;
  return Number(isFloat(tensor) ? toReal(tensor, "exponent").data[0] : tensor.data[0]) === 2;
}

/** The activations that an operator without a meaning of its own reads, if it is one of these. */
function operandsOf(node: ForeignNode, ...opTypes: readonly string[]): readonly ForeignNode[] {
  return isOther(node, ...opTypes) ? node.inputs : [];
}

function isOther(node: ForeignNode, ...opTypes: readonly string[]): boolean {
  return isKind(node, "other") && opTypes.includes(node.op.opType);
}

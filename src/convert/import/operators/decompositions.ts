import type { NormFloor } from "../../export/options.js";
import { perChannel, uniform } from "./constants.js";
import { type Constants, type ForeignNode, isKind, type Value } from "./foreign.js";
import { type Formula, type Found, formula, match, matches, numberOf, type Term } from "./pattern.js";
import { frontAxes, nodeValue } from "./site.js";
import { globalPool } from "./windows.js";

/** Operations of the network that exporters write out: found at the operator that ends them. */

/**
 * The meaning of x, from the values that a formula's names matched; undefined if they do not meet further conditions.
 */
type Meaning = (x: ForeignNode, found: Found, value: string) => Value | undefined;

const DECOMPOSITIONS: readonly (readonly [Formula, Meaning])[] = (
  [
    ...norm("instanceNorm", "PlaneMean"),
    ...norm("layerNorm", "ImageMean"),
    // The first mean is that of x already; the second takes its rounding off.
    [
      "PlaneMean(x) + PlaneMean(x - PlaneMean(x))",
      (x, _found, value) => globalPool("globalAvgPool", x, value),
    ],
    ["x + x * ((Softsign(PlaneMean(c * -c) * [scale]) + PlaneMean(x * opposite)) * 0.5)", correctedNorm],
    ["1 / (1 + Exp(-x))", (x, _found, value) => nodeValue({ kind: "sigmoid" }, [x], x.form, value)],
    ["x / length", l2Normalized],
  ] satisfies (readonly [string, Meaning])[]
).map(([text, means]) => [formula(text), means]);

/**
 * (x − mean) / √(variance + ε), times weight, plus bias; TensorFlow writes it multiplied out. The variance is mean((x − mean)²), which is
 * mean((x − mean) · x) too, and mean(x²) − mean².
 */
function norm(kind: "instanceNorm" | "layerNorm", mean: string): readonly (readonly [string, Meaning])[] {
  const variances = [
    `${mean}((x - ${mean}(x)) ^ 2)`,
    `(${mean}(x ^ 2) - ${mean}(x) ^ 2)`,
    `${mean}((x - ${mean}(x)) * x)`,
  ];
  return variances.flatMap((variance) => normBy(kind, mean, `((${variance} + [epsilon]) ^ 0.5)`));
}

function normBy(
  kind: "instanceNorm" | "layerNorm",
  mean: string,
  deviation: string,
): readonly (readonly [string, Meaning])[] {
  const means: Meaning = (x, { epsilon, weight, bias }, value) => {
    const added = numberOf(epsilon);
    const shift = bias?.constant && perChannel(bias.constant, x.form);
    if (added === undefined || (bias && !shift)) return undefined;
    const constants: Constants = {
      ...(weight?.constant ? { weight: weight.constant } : {}),
      ...(shift ? { bias: shift } : {}),
    };
    return nodeValue({ kind, epsilon: added }, [x], x.form, value, constants);
  };
  return [
    `(x - ${mean}(x)) / ${deviation}`,
    ...[`(1 / ${deviation})`, `([weight] / ${deviation})`].flatMap((scale) => [
      `(x - ${mean}(x)) * ${scale}`,
      `x * ${scale} + ([bias] - ${mean}(x) * ${scale})`,
    ]),
  ].map((text) => [text, means]);
}

/**
 * y + y · (v / (v + ε) − mean(y²)) / 2, where y is c normalised and v = mean(c²): an instance norm with its scale's rounding
 * taken off, as our layers models write it. v / (v + ε) is softsign(v / ε).
 */
function correctedNorm(y: ForeignNode, { c, scale, opposite }: Found, value: string): Value | undefined {
  const [centred, negative, [x]] = [nodeOf(c), nodeOf(opposite), y.inputs];
  if (!isKind(y, "instanceNorm") || Object.keys(y.constants).length > 0 || !x || !negative) return undefined;
  const { weight, bias } = negative.constants;
  // A product with −1 is the weight of a norm that has none.
  const of = isKind(negative, "affine") ? y : isKind(negative, "instanceNorm") ? x : undefined;
  const isOpposite = negative.inputs[0] === of && weight && uniform(weight) === -1 && !bias;
  if (!isOpposite || numberOf(scale) !== Math.fround(-1 / y.op.epsilon)) return undefined;
  return centred && centredOf(centred) === x ? nodeValue(y.op, [x], y.form, value) : undefined;
}

/** x / max(‖x‖₂, ε) along the channels, in any decomposition. */
function l2Normalized(x: ForeignNode, found: Found, value: string): Value | undefined {
  const length = behindFloors(nodeOf(found.length), "length");
  const square = behindFloors(length.node && xOf(ROOT, length.node), "square");
  const [isDirect, isSquare] = [
    length.node && xOf(LENGTH, length.node) === x,
    square.node && xOf(SQUARE, square.node) === x,
  ];
  const floors = isDirect ? length.floors : [...square.floors, ...length.floors];
  return isDirect || isSquare ? nodeValue({ kind: "l2Normalize", floors }, [x], x.form, value) : undefined;
}

const ROOT = formula("x ^ 0.5");
const LENGTH = formula("ChannelLength(x)");
const SQUARE = formula("ChannelSum(x ^ 2)");
const CENTRED = formula("x - PlaneMean(x)");

/** The map that a value is without its mean over the plane. */
export function centredOf(node: ForeignNode): ForeignNode | undefined {
  return xOf(CENTRED, node);
}

function xOf(pattern: Formula, node: ForeignNode): ForeignNode | undefined {
  return nodeOf(match(pattern, termOfNode(node))?.x);
}

/** What an operator over these values is, together with those before it; undefined if it is only itself. */
export function decomposed(
  op: "Add" | "Div" | "Mul" | "Reciprocal",
  values: readonly Value[],
  output: string,
): Value | undefined {
  const root: Term = { value: output, op, operands: values.map(termOf) };
  for (const [written, means] of DECOMPOSITIONS)
    for (const found of matches(written, root)) {
      const x = nodeOf(found.x);
      const whole = x && means(x, found, output);
      if (whole) return whole;
    }
  return undefined;
}

/** Each value as the operators that an exporter wrote: constants that a node has taken up are operands again. */
function termOf(value: Value): Term {
  if (value.kind === "node") return termOfNode(value.node);
  const constant = value.kind === "constant" ? value.tensor : undefined;
  return { value: constant ?? value, op: "", operands: [], constant };
}

/** @param value the identity of the term, which is not a node if the term is a part of one */
function termOfNode(node: ForeignNode, value: unknown = node): Term {
  const { op, inputs, constants } = node;
  const term = (name: string, operands: () => readonly Term[]): Term => ({
    value,
    op: name,
    get operands() {
      return operands();
    },
  });
  const { weight, bias } = constants;
  const last = bias ?? weight;
  if (isKind(node, "affine", "instanceNorm", "layerNorm") && last) {
    const rest: Constants = weight && bias ? { weight } : {};
    const [input] = isKind(node, "affine") && !rest.weight ? inputs : [];
    const before = (): Term => (input ? termOfNode(input) : termOfNode({ ...node, constants: rest }, {}));
    return term(bias ? "Add" : "Mul", () => [before(), termOf({ kind: "constant", tensor: last })]);
  }
  const [first] = inputs;
  const axes = isKind(node, "other") && node.op.axes && first ? frontAxes(node.op.axes, first.form) : [];
  const name = isKind(node, "other") ? node.op.opType : op.kind;
  const known = NAMES[`${name} ${axes}`.trim()];
  if (isKind(node, "other") && !known) return term(name, () => node.op.operands.map(termOf));
  return term(known ?? name, () => inputs.map((input) => termOfNode(input)));
}

/** What formulas call kinds of nodes, and operators over these axes. */
const NAMES: Readonly<Record<string, string>> = {
  scale: "Mul",
  add: "Add",
  globalAvgPool: "PlaneMean",
  "ReduceMean 2,3": "PlaneMean",
  "ReduceMean 1,2,3": "ImageMean",
  "ReduceL2 1": "ChannelLength",
  "ReduceSum 1": "ChannelSum",
};

/** The node of a term; undefined for a constant, and for a part of a node. */
function nodeOf(term: Term | undefined): ForeignNode | undefined {
  const { value } = term ?? {};
  return typeof value === "object" && value !== null && "op" in value ? (value as ForeignNode) : undefined;
}

/** A norm, or its square, without what keeps it from being zero; and that, in the order of its computation. */
function behindFloors(
  node: ForeignNode | undefined,
  of: NormFloor["of"],
): { readonly node: ForeignNode | undefined; readonly floors: readonly NormFloor[] } {
  const floors: NormFloor[] = [];
  for (let current = node; current; [current] = current.inputs) {
    const floor = floorOf(current, of);
    if (!floor) return { node: current, floors };
    if (floor !== "none") floors.unshift(floor);
  }
  return { node: undefined, floors };
}

/** The sum with a small number, or the larger of both, which only matters near zero; "none" for a copy by expansion. */
function floorOf(node: ForeignNode, of: NormFloor["of"]): NormFloor | "none" | undefined {
  if (node.inputs.length !== 1) return undefined;
  const { weight, bias } = node.constants;
  if (isKind(node, "affine")) return weight || !bias ? undefined : floor(of, "sum", uniform(bias));
  if (!isKind(node, "other")) return undefined;
  const { opType, bounds, operands } = node.op;
  if (opType === "Expand") return "none";
  if (opType === "Clip")
    return bounds && bounds.most >= UNBOUNDED ? floor(of, "max", bounds.least) : undefined;
  const constants = operands.flatMap((operand) => (operand.kind === "constant" ? operand.tensor : []));
  const [constant] = constants;
  return opType === "Max" && constant && operands.length === 2
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

import type { Tensor } from "../../../core/tensor.js";
import type { NormFloor } from "../../export/options.js";
import { channelVector, uniform } from "./constants.js";
import {
  type ClipBounds,
  type Constants,
  type ForeignKind,
  type ForeignNode,
  type ForeignOp,
  isKind,
  type NearMiss,
  type Value,
} from "./foreign.js";
import { NHWC_DOMAIN } from "./layouts.js";
import {
  type Bindings,
  type Formula,
  formula,
  match,
  matches,
  missedPart,
  numberOf,
  rootsOf,
  type Term,
} from "./pattern.js";
import { clipBounds } from "./pieces.js";
import { listedSizes } from "./shapes.js";
import { asNode, frontAxes, nodeValue, type OperatorSite } from "./site.js";
import { globalPool } from "./windows.js";

/**
 * An operation that exporters write as several operators, which is recognised at the last of them. If one part of a
 * formula or a condition is not met, the finding states it.
 */
interface Decomposition {
  /** The kind of node; `other` for operations that no network has, so that findings name them. */
  readonly kind: ForeignKind;
  readonly formulas: readonly string[];
  readonly means: Meaning;
  /**
   * What operators have instead of one part of a formula (a name, a number, or a reduction), to follow "with".
   */
  readonly misses: Readonly<Record<string, string>>;
}

/**
 * The meaning of the operators, whose input is x. If the values that names matched do not meet a further condition:
 * what they have instead, to follow "with".
 */
type Meaning = (x: ForeignNode, found: Bindings, value: string) => Value | string;

const DECOMPOSITIONS: readonly Decomposition[] = [
  norm("instanceNorm", "Mean:plane"),
  norm("layerNorm", "Mean:image"),
  {
    kind: "globalAvgPool",
    // The second mean only corrects the rounding error of the first.
    formulas: ["Mean:plane(x) + Mean:plane(x - Mean:plane(x))"],
    means: (x, _found, value) => globalPool("globalAvgPool", x, value),
    misses: { x: "a mean of another value", Mean: "a mean over other axes" },
  },
  {
    kind: "instanceNorm",
    formulas: ["x + x * ((Softsign(Mean:plane(c * -c) * [scale]) + Mean:plane(x * opposite)) * 0.5)"],
    means: correctedNorm,
    misses: {
      x: "the correction of another norm",
      c: "a correction by another variance",
      Mean: "a mean over other axes",
      "0.5": "a correction with another factor",
    },
  },
  {
    kind: "sigmoid",
    formulas: ["1 / (1 + Exp(-x))"],
    means: activation({ kind: "sigmoid" }),
    misses: { "1": "a constant other than 1" },
  },
  {
    kind: "sigmoid",
    formulas: ["(1 + Tanh(x / 2)) / 2", "Tanh(x / 2) / 2 + 0.5", "1 - Sigmoid(-x)"],
    means: activation({ kind: "sigmoid" }),
    misses: {
      "1": "a constant other than 1",
      "2": "a factor other than a half",
      "0.5": "a constant other than a half",
    },
  },
  {
    kind: "l2Normalize",
    formulas: ["x / length~Length:channels(x)", "x / length~(square~Sum:channels(x ^ 2) ^ 0.5)"],
    means: l2Normalized,
    misses: {
      x: "the length of another value",
      Length: "a length over other axes",
      Sum: "a length over other axes",
      "0.5": "a power other than a square root",
      "2": "a power other than a square",
    },
  },
  unknownActivation(
    "Gelu",
    ...halvesOf("1 + Erf(x / 1.4142135623730951)"),
    ...halvesOf("1 + Tanh((x + x ^ 3 * 0.044715) * 0.7978845608028654)"),
  ),
  unknownActivation(
    "HardSigmoid",
    "Clip(x * 0.2 + 0.5, 0, 1)",
    "Clip(x / 6 + 0.5, 0, 1)",
    "Clip(x + 3, 0, 6) / 6",
  ),
  unknownActivation("HardSwish", "x * HardSigmoid(x)", "x * Clip(x + 3, 0, 6) / 6"),
  unknownActivation("Swish", "x * Sigmoid(x)", "x / (1 + Exp(-x))"),
  {
    kind: "scale",
    formulas: ["stream / (1 + Exp(-x))"],
    means: gatedByQuotient,
    misses: { "1": "a constant other than 1" },
  },
  unknownActivation("Mish", "x * Tanh(Softplus(x))", "x * Tanh(Log(1 + Exp(x)))"),
];

/** The decompositions by the operator that ends them, in the order of the table. */
const BY_ROOT = byRoot(DECOMPOSITIONS);

function byRoot(
  table: readonly Decomposition[],
): ReadonlyMap<string, readonly { readonly pattern: Formula; readonly row: Decomposition }[]> {
  const patterns = table.flatMap((row) => row.formulas.map((text) => ({ pattern: formula(text), row })));
  const roots = [...new Set(patterns.flatMap(({ pattern }) => [...rootsOf(pattern)]))];
  return new Map(
    roots.map((root) => [root, patterns.filter(({ pattern }) => rootsOf(pattern).has(root))] as const),
  );
}

/**
 * (x − mean) / √(variance + ε), times weight, plus bias, also multiplied out as TensorFlow does. The variance is
 * mean((x − mean)²), mean((x − mean) · x) or mean(x²) − mean².
 */
function norm(kind: "instanceNorm" | "layerNorm", mean: string): Decomposition {
  const variances = [
    `${mean}((x - ${mean}(x)) ^ 2)`,
    `(${mean}(x ^ 2) - ${mean}(x) ^ 2)`,
    `${mean}((x - ${mean}(x)) * x)`,
  ];
  const formulas = variances.flatMap((variance) => {
    const deviation = `((${variance} + [epsilon]) ^ 0.5)`;
    return [
      `(x - ${mean}(x)) / ${deviation}`,
      ...[`(1 / ${deviation})`, `([weight] / ${deviation})`].flatMap((scale) => [
        `(x - ${mean}(x)) * ${scale}`,
        `x * ${scale} + ([bias] - ${mean}(x) * ${scale})`,
        `x * ${scale} + (-${mean}(x) * ${scale} + [bias])`,
      ]),
    ];
  });
  const means: Meaning = (x, { epsilon, weight, bias }, value) => {
    const added = numberOf(epsilon);
    if (added === undefined) return "an epsilon that is not one number";
    const [factor, shift] = [weight, bias].map((term) => channelVector(term?.constant, x.form));
    if (weight && !factor) return "a weight that is not one number per channel";
    if (bias && !shift) return "a bias that is not one number per channel";
    const constants: Constants = { ...(factor ? { weight: factor } : {}), ...(shift ? { bias: shift } : {}) };
    return nodeValue({ kind, epsilon: added }, [x], x.form, value, constants);
  };
  const misses = {
    x: "a mean of another value",
    Mean: "a mean over other axes",
    epsilon: "a computed epsilon",
    weight: "a computed weight",
    bias: "a computed bias",
    "0.5": "a power other than a square root",
    "2": "a power other than a square",
  };
  return { kind, formulas, means, misses };
}

function activation(op: ForeignOp): Meaning {
  return (x, _found, value) => nodeValue(op, [x], x.form, value);
}

/** An activation that no OSNet has, under the name of the operator that ONNX has for it. */
function unknownActivation(opType: string, ...formulas: readonly string[]): Decomposition {
  const means: Meaning = (x, _found, value) =>
    nodeValue({ kind: "other", opType, operands: [{ kind: "node", node: x }] }, [x], x.form, value);
  return { kind: "other", formulas, means, misses: {} };
}

/** A stream times the sigmoid of x, which is no value of the file. */
function gatedByQuotient(x: ForeignNode, { stream }: Bindings, value: string): Value | string {
  const [map, gate] = [nodeOf(stream), asNode(nodeValue({ kind: "sigmoid" }, [x], x.form, undefined))];
  return map && gate
    ? nodeValue({ kind: "scale" }, [map, gate], map.form, value)
    : "a constant in place of a stream";
}

/** x times a factor, halved: the three orders of the two products. */
function halvesOf(factor: string): readonly string[] {
  return [`x / 2 * (${factor})`, `x * (${factor}) / 2`, `x * ((${factor}) / 2)`];
}

/**
 * y + y · (v / (v + ε) − mean(y²)) / 2, where y is c normalised and v = mean(c²): an instance norm whose scale is
 * corrected for rounding, as osnet-convert's layers models write it. v / (v + ε) is softsign(v / ε).
 */
function correctedNorm(y: ForeignNode, { c, scale, opposite }: Bindings, value: string): Value | string {
  const [centred, negative, [x]] = [nodeOf(c), nodeOf(opposite), y.inputs];
  if (!isKind(y, "instanceNorm") || Object.keys(y.constants).length > 0 || !x)
    return "the correction of what is not an instance norm";
  // If the norm has no weight, a product with −1 becomes its weight.
  const of = negative && isKind(negative, "affine") ? y : x;
  const { weight, bias } = negative?.constants ?? {};
  const isOpposite = negative?.inputs[0] === of && weight && uniform(weight) === -1 && !bias;
  if (!isOpposite || !isKind(negative, "affine", "instanceNorm")) return "a correction by another mean";
  if (numberOf(scale) !== Math.fround(-1 / y.op.epsilon)) return "a correction for another epsilon";
  return centred && centredOf(centred) === x
    ? nodeValue(y.op, [x], y.form, value)
    : "a correction by another variance";
}

/** x / max(‖x‖₂, ε) along the channels, with a few floors. */
function l2Normalized(x: ForeignNode, { length, square }: Bindings, value: string): Value | string {
  const floors = [...floorsOf(square, "square"), ...floorsOf(length, "length")];
  const total = floors.reduce((sum, { epsilon }) => sum + epsilon, 0);
  return total <= MAX_FLOOR
    ? nodeValue({ kind: "l2Normalize", floors }, [x], x.form, value)
    : `a length of at least ${Number(total.toPrecision(3))}`;
}

const CENTRED = formula("x - Mean:plane(x)");

/** The map from which a value subtracts its mean over the plane. */
export function centredOf(node: ForeignNode): ForeignNode | undefined {
  return nodeOf(match(CENTRED, termOfNode(node))?.x);
}

/** The operation that an operator and those before it are, or what they nearly are. */
export function decomposed(site: OperatorSite): {
  readonly value?: Value;
  readonly nearMisses: readonly NearMiss[];
} {
  const { node, inputs, output } = site;
  const patterns = node.domain === "" || node.domain === NHWC_DOMAIN ? BY_ROOT.get(node.opType) : undefined;
  if (!patterns || !inputs.some((value) => value?.kind === "node")) return { nearMisses: [] };
  const known = inputs.flatMap((value) => value ?? []);
  const operands = node.opType === "Clip" ? clipOperands(known[0], clipBounds(site)) : known.map(termOf);
  const root: Term = { value: output, op: node.opType, operands };
  const unmet: NearMiss[] = [];
  const missed: NearMiss[] = [];
  for (const { pattern, row } of patterns) {
    const { kind, means, misses } = row;
    for (const found of matches(pattern, root)) {
      const x = nodeOf(found.x);
      const whole = x && means(x, found, output);
      if (typeof whole === "object") return { value: whole, nearMisses: [] };
      if (whole !== undefined) unmet.push({ kind, has: whole });
    }
    const has = misses[missedPart(pattern, root) ?? ""];
    if (has !== undefined) missed.push({ kind, has });
  }
  // If a formula matched and only a condition failed, other formulas of its kind say nothing more.
  const others = missed.filter(({ kind }) => unmet.every((each) => each.kind !== kind));
  return { nearMisses: [...unmet, ...others] };
}

/** A value as a term. Constants that a node has absorbed become operands again. */
function termOf(value: Value): Term {
  if (value.kind === "node") return termOfNode(value.node);
  return value.kind === "constant" ? constantTerm(value.tensor) : { value, op: "", operands: [] };
}

function constantTerm(constant: Tensor): Term {
  return { value: constant, op: "", operands: [], constant };
}

function numberTerm(value: number): Term {
  return constantTerm({ dtype: "float32", shape: [], data: Float32Array.of(value) });
}

/** Bounds may be inputs or attributes, and are operands in both cases. */
function clipOperands(value: Value | undefined, { least, most }: ClipBounds): readonly Term[] {
  return value ? [termOf(value), numberTerm(least), numberTerm(most)] : [];
}

/**
 * A node as a term, with its operators as the exporter wrote them.
 *
 * @param value the identity of the term, which is not the node if the term is only a part of it
 */
function termOfNode(node: ForeignNode, value: unknown = node): Term {
  const { op, inputs, constants } = node;
  const term = (name: string, operands: () => readonly Term[]): Term => {
    let known: readonly Term[] | undefined;
    return {
      value,
      op: name,
      get operands() {
        known ??= operands();
        return known;
      },
      get unfloored() {
        const [input] = inputs;
        return input && floorOf(node, "length") ? termOfNode(input) : undefined;
      },
    };
  };
  const { weight, bias } = constants;
  const last = bias ?? weight;
  if (isKind(node, "affine", "instanceNorm", "layerNorm") && last) {
    const rest: Constants = weight && bias ? { weight } : {};
    const [input] = isKind(node, "affine") && !rest.weight ? inputs : [];
    const before = (): Term => (input ? termOfNode(input) : termOfNode({ ...node, constants: rest }, {}));
    // As an operand of the file that has one value per channel.
    const shape = node.form.rank === "flat" ? last.shape : [...last.shape, 1, 1];
    const operand: Term = { ...constantTerm(last), constant: { ...last, shape } as Tensor };
    return term(bias ? "Add" : "Mul", () => [before(), operand]);
  }
  if (!isKind(node, "other"))
    return term(NAMES[op.kind] ?? op.kind, () => inputs.map((input) => termOfNode(input)));
  const { opType, operands, axes, bounds } = node.op;
  if (bounds) return term(opType, () => clipOperands(operands[0], bounds));
  const [first] = inputs;
  const reduction = REDUCTIONS[opType];
  if (!reduction || !axes || !first) return term(opType, () => operands.map(termOf));
  const over = String(frontAxes(axes, first.form));
  return term(`${reduction}:${AXES[over] ?? over}`, () => [termOfNode(first)]);
}

/** The names of kinds of nodes in formulas. */
const NAMES: Readonly<Partial<Record<ForeignKind, string>>> = {
  scale: "Mul",
  add: "Add",
  relu: "Relu",
  sigmoid: "Sigmoid",
  globalAvgPool: "Mean:plane",
};

/** The names of reductions and of their axes in formulas. */
const REDUCTIONS: Readonly<Record<string, string>> = {
  ReduceMean: "Mean",
  ReduceL2: "Length",
  ReduceSum: "Sum",
};
const AXES: Readonly<Record<string, string>> = { "1": "channels", "2,3": "plane", "1,2,3": "image" };

/** The node of a term; undefined for a constant, and for a part of a node. */
function nodeOf(term: Term | undefined): ForeignNode | undefined {
  const { value } = term ?? {};
  return typeof value === "object" && value !== null && "op" in value ? (value as ForeignNode) : undefined;
}

/** The floors that keep a norm, or its square, from being zero, in the order of computation. */
function floorsOf(term: Term | undefined, of: NormFloor["of"]): readonly NormFloor[] {
  const floors: NormFloor[] = [];
  for (let current = term; current; current = current.unfloored) {
    const node = nodeOf(current);
    const floor = node && floorOf(node, of);
    if (floor && floor !== "none") floors.unshift(floor);
  }
  return floors;
}

/** A sum with a small number, or a maximum of both, which only matters near zero; "none" for an Expand or Unsqueeze. */
function floorOf(node: ForeignNode, of: NormFloor["of"]): NormFloor | "none" | undefined {
  if (node.inputs.length !== 1) return undefined;
  const { weight, bias } = node.constants;
  if (isKind(node, "affine")) return weight || !bias ? undefined : floor(of, "sum", uniform(bias));
  if (!isKind(node, "other")) return undefined;
  const { opType, bounds, operands, axes } = node.op;
  if (opType === "Expand") {
    // To the vectors' own shape, or to their lengths'.
    const [images, channels, ...others] = listedSizes(operands[1]) ?? [];
    const isOwn = images !== undefined && others.length === 0;
    return isOwn && (channels === 1 || channels === node.form.channels) ? "none" : undefined;
  }
  // [N] as [N, 1], of lengths without an axis of channels.
  if (opType === "Unsqueeze") return ["1", "-1"].includes(String(axes)) ? "none" : undefined;
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
  return epsilon !== undefined && epsilon >= 0 ? { of, how, epsilon } : undefined;
}

/** Exporters write the largest float32 for a Clip without an upper bound. */
const UNBOUNDED = 3.4e38;

/** Limit on the sum of floors: PyTorch's default is 1e-12, and no exporter's is nearly as large as this. */
const MAX_FLOOR = 1e-3;

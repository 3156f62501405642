import type { Tensor } from "../../../core/tensor.js";
import { isFloat, uniform } from "./constants.js";

/**
 * Decompositions written by exporters, found by formulas such as `(x - mean) / (variance + epsilon) ^ 0.5`. A
 * lower-case name matches any value, and the same one wherever it occurs; a capitalised name is an operator, as in
 * `Exp(x)` or `Clip(x, 0, 6)`, or a reduction with its axes, as in `Mean:plane(x)`; a name in brackets is a constant; a
 * number is a constant with that value in every element, in float32; and `name~x` is x with a few floors
 * near zero, which make no difference elsewhere. Each operation of a formula matches several forms:
 *
 * | formula | operators |
 * | --- | --- |
 * | `a + b`, `a * b` | Add, Mul, in either order |
 * | `a - b` | Sub, or Add of `-b` |
 * | `a / b` | Div, or Mul by 1 / b or a Reciprocal, or by the power −0.5 where b is a root; of 1, these by themselves; by a number, Mul by its inverse |
 * | `-a` | Neg, or Mul by −1 |
 * | `a ^ 2`, `a ^ 0.5` | Pow; Mul of a by itself, Pow of its absolute value; Sqrt |
 */

/** A value as the operator that computes it. */
export interface Term {
  /** Equal, by identity, for two terms of one value. */
  readonly value: unknown;
  /** Empty for inputs, constants, and operators that no formula contains. */
  readonly op: string;
  readonly operands: readonly Term[];
  readonly constant?: Tensor | undefined;
  /** The term without its floor near zero: ‖x‖ of max(‖x‖, ε). */
  readonly unfloored?: Term | undefined;
}

/** The values that the names of a formula matched. */
export type Bindings = Readonly<Record<string, Term>>;

export type Formula =
  | { readonly number: number }
  | { readonly name: string; readonly isConstant: boolean }
  | { readonly floored: Formula; readonly name: string }
  | {
      readonly op: string;
      /** The start of its name over any axes, such as `Mean:`; undefined if it is not a reduction. */
      readonly reduction?: string | undefined;
      readonly operands: readonly Formula[];
    }
  | {
      readonly anyOf: readonly Formula[];
      /** The radicand of a square root. */
      readonly radicand?: Formula;
    };

/** The values that a formula's names match in a term, in the first way that fits; undefined if it does not match. */
export function match(pattern: Formula, term: Term): Bindings | undefined {
  for (const found of matches(pattern, term)) return found;
  return undefined;
}

/** Every way in which a term fits. Work is bounded by the formula: two orders for each of its sums and products. */
export function* matches(pattern: Formula, term: Term): Generator<Bindings> {
  if (!hasForm(pattern, term)) return;
  for (const { found } of fits(pattern, term, { found: {}, mayMiss: false })) yield found;
}

/**
 * The only part of a formula that a term does not match: a name that matches two values or no constant, a number, or
 * a reduction over other axes (`Mean`). If it occurs several times, each must be replaced by the same. Undefined if
 * the term matches, or differs in several parts.
 */
export function missedPart(pattern: Formula, term: Term): string | undefined {
  if (!hasForm(pattern, term)) return undefined;
  for (const { miss } of fits(pattern, term, { found: {}, mayMiss: true })) return miss?.part;
  return undefined;
}

/**
 * Whether a term has a formula's operators, whatever its values and axes are: without that it neither matches nor misses a single
 * part. Nearly all terms of a graph differ in their first operators, which this finds out without allocating anything.
 */
function hasForm(pattern: Formula, term: Term): boolean {
  if ("anyOf" in pattern) return pattern.anyOf.some((one) => hasForm(one, term));
  if ("number" in pattern) return term.constant !== undefined;
  if ("floored" in pattern) {
    return flooredTerms(term).some((each) => hasForm(pattern.floored, each));
  }
  if ("name" in pattern) return true;
  const { op, reduction, operands } = pattern;
  if (term.op !== op && !(reduction && term.op.startsWith(reduction))) return false;
  const given = term.operands;
  const inOrder = (order: readonly Term[]): boolean =>
    operands.every((operand, index) => {
      const one = order[index];
      return one !== undefined && hasForm(operand, one);
    });
  return (
    given.length === operands.length &&
    (inOrder(given) || (COMMUTATIVE.has(op) && inOrder(given.toReversed())))
  );
}

/** Maximum number of floors of a norm: of its square, of its length, and an Expand. */
const MAX_FLOORS = 4;

/** A term, and what it is without its last floor, without its last two, and so on. */
function flooredTerms(term: Term): readonly Term[] {
  const terms = [term];
  for (let next = term.unfloored; next && terms.length <= MAX_FLOORS; next = next.unfloored) terms.push(next);
  return terms;
}

interface Fit {
  readonly found: Bindings;
  readonly mayMiss: boolean;
  /** The part that does not match, and its replacement. */
  readonly miss?: { readonly part: string; readonly instead: unknown };
}

const COMMUTATIVE: ReadonlySet<string> = new Set(["Add", "Mul"]);

function* fits(pattern: Formula, term: Term, fit: Fit): Generator<Fit> {
  if ("anyOf" in pattern) for (const one of pattern.anyOf) yield* fits(one, term, fit);
  else if ("number" in pattern) {
    const number = numberOf(term);
    if (number === Math.fround(pattern.number)) yield fit;
    else if (number !== undefined) yield* missing(String(pattern.number), number, fit);
  } else if ("floored" in pattern) {
    const named = { ...fit, found: { ...fit.found, [pattern.name]: term } };
    for (const each of flooredTerms(term)) yield* fits(pattern.floored, each, named);
  } else if ("name" in pattern) {
    const { name } = pattern;
    const known = fit.found[name];
    const isKnown = known?.value === term.value;
    const next = known ? fit : { ...fit, found: { ...fit.found, [name]: term } };
    if (known ? isKnown : !pattern.isConstant || term.constant) yield next;
    else yield* missing(name, term.value, next);
  } else {
    const { op, reduction } = pattern;
    const isOther = term.op !== op;
    if (isOther && !(reduction && term.op.startsWith(reduction))) return;
    if (term.operands.length !== pattern.operands.length) return;
    const next = isOther ? missing(op.split(":")[0] ?? "", term.op, fit) : [fit];
    for (const each of next) {
      yield* allFit(pattern.operands, term.operands, each);
      if (COMMUTATIVE.has(pattern.op)) yield* allFit(pattern.operands, term.operands.toReversed(), each);
    }
  }
}

function* allFit(
  [pattern, ...patterns]: readonly Formula[],
  [term, ...terms]: readonly Term[],
  fit: Fit,
): Generator<Fit> {
  if (!pattern || !term) yield fit;
  else for (const first of fits(pattern, term, fit)) yield* allFit(patterns, terms, first);
}

/** Continues without a part that does not match, if it is the only one. */
function* missing(part: string, instead: unknown, fit: Fit): Generator<Fit> {
  const { miss, mayMiss } = fit;
  if (!miss && mayMiss) yield { ...fit, miss: { part, instead } };
  else if (miss?.part === part && miss.instead === instead) yield fit;
}

/** The number that a constant has in every element. */
export function numberOf(term: Term | undefined): number | undefined {
  const { constant } = term ?? {};
  if (!constant) return undefined;
  if (isFloat(constant)) return uniform(constant);
  return constant.data.length === 1 ? Number(constant.data[0]) : undefined;
}

/** Reads a formula. @throws SyntaxError if it is invalid */
export function formula(text: string): Formula {
  const tokens = text.match(/[A-Za-z]\w*(?::\w+)?|[\d.]+|[^\s\w]/g) ?? [];
  const taken = (token: string): boolean => tokens[0] === token && tokens.shift() !== undefined;
  const expect = (token: string): void => {
    if (!taken(token)) throw new SyntaxError(`${tokens[0] ?? "the end"} instead of ${token} in ${text}`);
  };
  const sum = (): Formula => {
    let left = product();
    for (;;) {
      if (taken("+")) left = operator("Add", left, product());
      else if (taken("-")) left = difference(left, product());
      else return left;
    }
  };
  const product = (): Formula => {
    let left = power();
    for (;;) {
      if (taken("*")) left = operator("Mul", left, power());
      else if (taken("/")) left = quotient(left, power());
      else return left;
    }
  };
  const power = (): Formula => {
    const base = unary();
    return taken("^") ? powerOf(base, Number(tokens.shift())) : base;
  };
  const unary = (): Formula => {
    if (taken("-")) return negative(power());
    if (taken("(")) {
      const inner = sum();
      expect(")");
      return inner;
    }
    const isConstant = taken("[");
    const token = tokens.shift() ?? "";
    if (isConstant) expect("]");
    if (taken("~")) return { name: token, floored: unary() };
    if (/^[a-z]/.test(token)) return { name: token, isConstant };
    if (/^\d/.test(token)) return { number: Number(token) };
    expect("(");
    const operands = [sum()];
    while (taken(",")) operands.push(sum());
    expect(")");
    return operator(token, ...operands);
  };
  const whole = sum();
  if (tokens.length > 0) throw new SyntaxError(`${tokens[0]} after the end of ${text}`);
  return whole;
}

function operator(op: string, ...operands: readonly Formula[]): Formula {
  return { op, reduction: /^\w+:/.exec(op)?.[0], operands };
}

function difference(a: Formula, b: Formula): Formula {
  return { anyOf: [operator("Sub", a, b), operator("Add", a, negative(b))] };
}

function quotient(a: Formula, b: Formula): Formula {
  const radicand = "anyOf" in b ? b.radicand : undefined;
  const inverses = [
    operator("Reciprocal", b),
    ...(radicand ? [operator("Pow", radicand, { number: -0.5 })] : []),
    ...("number" in b ? [{ number: 1 / b.number }] : []),
  ];
  const ratio = operator("Div", a, b);
  if ("number" in a && a.number === 1) return { anyOf: [ratio, ...inverses] };
  const factors = [operator("Div", { number: 1 }, b), ...inverses];
  return { anyOf: [ratio, ...factors.map((factor) => operator("Mul", a, factor))] };
}

function negative(a: Formula): Formula {
  return { anyOf: [operator("Neg", a), operator("Mul", a, { number: -1 })] };
}

function powerOf(base: Formula, exponent: number): Formula {
  const power = (of: Formula): Formula => operator("Pow", of, { number: exponent });
  // torch.linalg.vector_norm takes absolute values for any power.
  if (exponent === 2)
    return { anyOf: [operator("Mul", base, base), power(operator("Abs", base)), power(base)] };
  return exponent === 0.5 ? { anyOf: [power(base), operator("Sqrt", base)], radicand: base } : power(base);
}

/** The operators that a term may end with to match a formula. */
export function rootsOf(pattern: Formula): ReadonlySet<string> {
  if ("anyOf" in pattern) return new Set(pattern.anyOf.flatMap((one) => [...rootsOf(one)]));
  return new Set("op" in pattern ? [pattern.op] : []);
}

import type { Tensor } from "../../../core/tensor.js";
import { isFloat, uniform } from "./constants.js";

/**
 * Decompositions written by exporters, found by formulas such as `(x - mean) / (variance + epsilon) ^ 0.5`. A
 * lower-case name matches any value, and the same one wherever it occurs; a capitalised name is an operator, as in
 * `Exp(x)`; a name in brackets is a constant; a number is a constant with that value in every element, in float32. Each
 * operation of a formula matches several forms:
 *
 * | formula | operators |
 * | --- | --- |
 * | `a + b`, `a * b` | Add, Mul, in either order |
 * | `a - b` | Sub, or Add of `-b` |
 * | `a / b` | Div, or Mul by a Reciprocal, or by the power −0.5 where b is a root; of 1, these by themselves |
 * | `-a` | Neg, or Mul by −1 |
 * | `a ^ 2`, `a ^ 0.5` | Pow; Mul of a by itself, Pow of its absolute value; Sqrt |
 */

/** A value as the operator that computes it. */
export interface Term {
  /** Equal, by identity, for two terms of one value. */
  readonly value: unknown;
  /** Empty for an input, a constant, or an operator that no formula has. */
  readonly op: string;
  readonly operands: readonly Term[];
  readonly constant?: Tensor | undefined;
}

/** The values that the names of a formula matched. */
export type Found = Readonly<Record<string, Term>>;

export type Formula =
  | { readonly number: number }
  | { readonly name: string; readonly isConstant: boolean }
  | { readonly op: string; readonly operands: readonly Formula[] }
  | {
      readonly anyOf: readonly Formula[];
      /** The radicand of a square root. */
      readonly radicand?: Formula;
    };

/** The values that a formula's names match in a term, in the first way that fits; undefined if it does not match. */
export function match(pattern: Formula, term: Term): Found | undefined {
  for (const found of matches(pattern, term)) return found;
  return undefined;
}

const COMMUTATIVE: ReadonlySet<string> = new Set(["Add", "Mul"]);

/** Every way in which a term fits. Work is bounded by the formula: two orders for each of its sums and products. */
export function* matches(pattern: Formula, term: Term, found: Found = {}): Generator<Found> {
  if ("anyOf" in pattern) for (const one of pattern.anyOf) yield* matches(one, term, found);
  else if ("number" in pattern) {
    if (numberOf(term) === Math.fround(pattern.number)) yield found;
  } else if ("name" in pattern) {
    const known = found[pattern.name];
    const fits = !pattern.isConstant || term.constant !== undefined;
    if (!known && fits) yield { ...found, [pattern.name]: term };
    else if (known?.value === term.value) yield found;
  } else if (term.op === pattern.op && term.operands.length === pattern.operands.length) {
    yield* allMatch(pattern.operands, term.operands, found);
    if (COMMUTATIVE.has(pattern.op)) yield* allMatch(pattern.operands, term.operands.toReversed(), found);
  }
}

function* allMatch(
  [pattern, ...patterns]: readonly Formula[],
  [term, ...terms]: readonly Term[],
  found: Found,
): Generator<Found> {
  if (!pattern || !term) yield found;
  else for (const first of matches(pattern, term, found)) yield* allMatch(patterns, terms, first);
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
  const tokens = text.match(/[A-Za-z]\w*|[\d.]+|[^\s\w]/g) ?? [];
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
    if (/^[a-z]/.test(token)) return { name: token, isConstant };
    if (/^\d/.test(token)) return { number: Number(token) };
    expect("(");
    const operand = sum();
    expect(")");
    return operator(token, operand);
  };
  const whole = sum();
  if (tokens.length > 0) throw new SyntaxError(`${tokens[0]} after the end of ${text}`);
  return whole;
}

function operator(op: string, ...operands: readonly Formula[]): Formula {
  return { op, operands };
}

function difference(a: Formula, b: Formula): Formula {
  return { anyOf: [operator("Sub", a, b), operator("Add", a, negative(b))] };
}

function quotient(a: Formula, b: Formula): Formula {
  const radicand = "anyOf" in b ? b.radicand : undefined;
  const inverses = [
    operator("Reciprocal", b),
    ...(radicand ? [operator("Pow", radicand, { number: -0.5 })] : []),
  ];
  const isInverse = "number" in a && a.number === 1;
  return {
    anyOf: [
      operator("Div", a, b),
      ...inverses.map((inverse) => (isInverse ? inverse : operator("Mul", a, inverse))),
    ],
  };
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

import { describe, expect, it } from "vitest";
import { formula, match, type Term } from "../../../src/convert/import/operators/pattern.js";

/** Operators written as code: `op("Add", x, number(1))`. */
const op = (name: string, ...operands: readonly Term[]): Term => ({ value: {}, op: name, operands });
const value = (name: string): Term => ({ value: name, op: "", operands: [] });
const number = (of: number): Term => ({
  value: {},
  op: "",
  operands: [],
  constant: { dtype: "float32", shape: [], data: Float32Array.of(of) },
});

const [x, y] = [value("x"), value("y")];
const found = (text: string, term: Term): Readonly<Record<string, unknown>> | undefined => {
  const result = match(formula(text), term);
  return result && Object.fromEntries(Object.entries(result).map(([name, { value }]) => [name, value]));
};

describe("a formula", () => {
  it.each<readonly [string, Term]>([
    ["a + b", op("Add", x, y)],
    ["a - b", op("Sub", x, y)],
    ["a - b", op("Add", op("Neg", y), x)],
    ["a - b", op("Add", x, op("Mul", number(-1), y))],
    ["a / b", op("Div", x, y)],
    ["a / b", op("Mul", op("Reciprocal", y), x)],
    ["a / b", op("Mul", op("Div", number(1), y), x)],
    ["Exp(a) * b ^ 2", op("Mul", op("Mul", y, y), op("Exp", x))],
    ["Exp(a) * b ^ 2", op("Mul", op("Exp", x), op("Pow", op("Abs", y), number(2)))],
    ["(a + b) ^ 0.5 * 3", op("Mul", op("Sqrt", op("Add", x, y)), number(3))],
  ])("%s is found in its spelling %#", (text, term) => {
    expect(found(text, term)).toEqual({ a: "x", b: "y" });
  });

  it("tries the other order where what it took first does not fit", () => {
    const term = op("Add", op("Exp", x), op("Exp", y));
    expect(found("Exp(a) + Exp(b) * 2", term)).toBeUndefined();
    expect(found("(b + a) * Exp(a)", op("Mul", op("Add", x, y), op("Exp", x)))).toEqual({ a: "x", b: "y" });
  });

  it("takes a name twice for one value, and a name in brackets for a constant", () => {
    expect(found("a - a", op("Sub", x, x))).toEqual({ a: "x" });
    expect(found("a - a", op("Sub", x, y))).toBeUndefined();
    const epsilon = number(1e-5);
    expect(found("a + [b]", op("Add", epsilon, x))).toEqual({ a: "x", b: epsilon.value });
    expect(found("a + [b]", op("Add", x, y))).toBeUndefined();
  });

  it("takes numbers as float32 has them", () => {
    expect(found("a * 0.1", op("Mul", x, number(Math.fround(0.1))))).toEqual({ a: "x" });
    expect(found("a * 0.1", op("Mul", x, number(0.2)))).toBeUndefined();
    expect(found("1 / a", op("Reciprocal", x))).toEqual({ a: "x" });
    expect(found("2 / a", op("Reciprocal", x))).toBeUndefined();
    expect(found("a / b", op("Mul", op("Div", number(2), y), x))).toBeUndefined();
  });

  it.each(["a +", "(a", "a b", "Exp a", "[a"])("is refused where it is none: %s", (text) => {
    expect(() => formula(text)).toThrow(SyntaxError);
  });
});

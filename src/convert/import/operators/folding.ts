import { filled } from "../../../core/functions.js";
import { elementCount, type Shape, type Tensor } from "../../../core/tensor.js";
import { isDType } from "../../../core/tensor-cast.js";
import type { Value } from "./foreign.js";
import type { OperatorSite } from "./site.js";

/**
 * Arithmetic on float32 constants as runtimes fold it before they run, such as a batch norm folded by operators of the graph:
 * operator by operator, each result rounded to float32. All of these are correctly rounded in IEEE 754, so that every runtime has
 * the same bits. Half precision has no one meaning: runtimes compute chains of it in float32.
 */
export function floatArithmetic({ node, inputs }: OperatorSite): Value | undefined {
  const compute =
    node.domain === "" && Object.hasOwn(ARITHMETIC, node.opType) ? ARITHMETIC[node.opType] : undefined;
  const operands = inputs.flatMap((value) =>
    value?.kind === "constant" && !value.rounding && isDType(value.tensor, "float32") ? value.tensor : [],
  );
  const [a, b = ONE] = operands;
  if (!a || !compute || operands.length !== inputs.length || operands.length !== compute.length)
    return undefined;
  const shape = spread(a.shape, b.shape);
  // At least one operand must have all elements of the result, so that a few bytes of node cannot ask for a
  // large outer product.
  if (!shape || elementCount(shape) > Math.max(a.data.length, b.data.length)) return undefined;
  const [left, right] = [placesIn(a.shape, shape), placesIn(b.shape, shape)];
  const data = filled(new Float32Array(elementCount(shape)), (at) =>
    // Rounded once by a float32: float64 has more than twice its bits, so that nothing is rounded twice.
    compute(a.data[left(at)] as number, b.data[right(at)] as number),
  );
  return { kind: "constant", tensor: { dtype: "float32", shape, data } };
}

const ARITHMETIC: Readonly<Record<string, (a: number, b: number) => number>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  // Declared with one parameter, since the operators have one input.
  Neg: (a: number) => -a,
  Reciprocal: (a: number) => 1 / a,
  Sqrt: (a: number) => Math.sqrt(a),
};

/** A second input for operators that have only one. */
const ONE: Tensor<"float32"> = { dtype: "float32", shape: [], data: Float32Array.of(1) };

/** The shape of a result, by ONNX's multidirectional broadcasting; undefined if two sizes do not fit. */
function spread(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const sizes = Array.from({ length: rank }, (_, axis) => {
    const [left, right] = [a.at(axis - rank + a.length) ?? 1, b.at(axis - rank + b.length) ?? 1];
    return left === right || right === 1 ? left : left === 1 ? right : undefined;
  });
  const known = sizes.filter((size) => size !== undefined);
  return known.length === rank ? known : undefined;
}

/** Where each element of a result is read from in an operand, whose axes of size 1 are repeated. */
function placesIn(own: Shape, result: Shape): (at: number) => number {
  const missing = result.length - own.length;
  const axes = own.flatMap((size, axis) =>
    size === 1
      ? []
      : [
          {
            size,
            below: elementCount(result.slice(axis + missing + 1)),
            step: elementCount(own.slice(axis + 1)),
          },
        ],
  );
  return (at) =>
    axes.reduce((place, { size, below, step }) => place + (Math.floor(at / below) % size) * step, 0);
}

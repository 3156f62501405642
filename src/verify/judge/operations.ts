import type { OutputOperation } from "../../convert/import/match.js";
import type { RealTensor } from "../../core/tensor.js";

/** What files do to a layer before they give it as an output, computed in float64 from the layer's value. */

/** @param tensor [N, C], or [N, C, H, W] where nothing but a flattening follows */
export function applyOperations(tensor: RealTensor, operations: readonly OutputOperation[]): RealTensor {
  return operations.reduce(apply, tensor);
}

function apply(tensor: RealTensor, operation: OutputOperation): RealTensor {
  const [count = 1] = tensor.shape;
  const size = tensor.data.length / count;
  if (operation.kind === "flatten") return { ...tensor, shape: [count, size] };
  const data = new Float64Array(tensor.data.length);
  for (let start = 0; start < data.length; start += size)
    data.set(
      ROWS[operation.kind](Float64Array.from(tensor.data.subarray(start, start + size)), operation),
      start,
    );
  return { dtype: "float64", shape: tensor.shape, data };
}

type Row = (row: Float64Array, operation: OutputOperation) => Float64Array;

const ROWS: Readonly<Record<Exclude<OutputOperation["kind"], "flatten">, Row>> = {
  l2Normalize: (row, operation) => {
    const floors = operation.kind === "l2Normalize" ? operation.floors : [];
    const above = (value: number, of: "square" | "length"): number =>
      floors
        .filter((floor) => floor.of === of)
        .reduce((all, { how, epsilon }) => (how === "sum" ? all + epsilon : Math.max(all, epsilon)), value);
    const square = row.reduce((sum, value) => sum + value * value, 0);
    const length = above(Math.sqrt(above(square, "square")), "length");
    // Without a floor, the direction of zeros is zeros to LpNormalization.
    return row.map((value) => (length === 0 ? 0 : value / length));
  },
  softmax: (row) => {
    const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = row.map((value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / sum);
  },
  sigmoid: (row) => row.map((value) => 1 / (1 + Math.exp(-value))),
};

const WORDS: Readonly<Record<OutputOperation["kind"], string>> = {
  l2Normalize: "L2-normalised",
  softmax: "softmax",
  sigmoid: "sigmoid",
  flatten: "flattened",
};

/** An ε above this shows beside embeddings of usual length, and is said. */
const TELLING_EPSILON = 1e-6;

/** Operations in words: `L2-normalised`. */
export function describeOperations(operations: readonly OutputOperation[]): string {
  return operations
    .map((operation) => {
      const epsilon =
        operation.kind === "l2Normalize" ? Math.max(0, ...operation.floors.map((floor) => floor.epsilon)) : 0;
      return `${WORDS[operation.kind]}${epsilon > TELLING_EPSILON ? ` (ε ${epsilon.toPrecision(2)})` : ""}`;
    })
    .join(", ");
}

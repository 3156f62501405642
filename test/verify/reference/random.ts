import { elementCount, type Shape, type Tensor } from "../../../src/core/tensor.js";

/** Numbers evenly spread over [-1, 1), the same for the same seed (a 32-bit linear congruential generator). */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
}

export function randomTensor(seed: number, shape: Shape): Tensor<"float64"> {
  const next = randomNumbers(seed);
  return tensor(
    shape,
    Array.from({ length: elementCount(shape) }, () => next()),
  );
}

export function tensor(shape: Shape, values: readonly number[]): Tensor<"float64"> {
  return { dtype: "float64", shape, data: Float64Array.from(values) };
}

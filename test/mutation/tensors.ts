import type { RealTensor, Shape, Tensor } from "../../src/core/tensor.js";

/** Element by element, in float64. */
export function mapped(
  { shape, data }: RealTensor,
  f: (value: number, index: number) => number,
): Tensor<"float64"> {
  return { dtype: "float64", shape, data: Float64Array.from(data as Float64Array, f) };
}

export function first(tensors: readonly RealTensor[]): RealTensor {
  const [tensor] = tensors;
  if (!tensor) throw new Error("a layer without inputs");
  return tensor;
}

/** The channel of each element of a tensor NCHW or NC. */
export function channelOf({ shape, data }: RealTensor): (index: number) => number {
  const [images = 1, channels = 1] = shape;
  const plane = data.length / images / channels;
  return (index) => Math.floor(index / plane) % channels;
}

/**
 * (x − μ)/√(σ² + ε) · γ + β, with moments over each group of elements.
 *
 * @param groupOf which group an element is in
 * @param lost degrees of freedom: 1 for the unbiased variance
 */
export function normalised(
  input: RealTensor,
  groupOf: (index: number) => number,
  { weight, bias, epsilon }: { weight: Float32Array; bias: Float32Array; epsilon: number },
  lost = 0,
): Tensor<"float64"> {
  const sums = new Map<number, { sum: number; squares: number; count: number }>();
  const at = (i: number): { sum: number; squares: number; count: number } => {
    const group = groupOf(i);
    const known = sums.get(group) ?? { sum: 0, squares: 0, count: 0 };
    sums.set(group, known);
    return known;
  };
  for (const [i, x] of input.data.entries()) {
    const group = at(i);
    group.sum += x;
    group.count++;
  }
  for (const [i, x] of input.data.entries()) {
    const group = at(i);
    group.squares += (x - group.sum / group.count) ** 2;
  }
  const channel = channelOf(input);
  return mapped(input, (x, i) => {
    const { sum, squares, count } = at(i);
    const deviation = Math.sqrt(squares / (count - lost) + epsilon);
    return ((x - sum / count) / deviation) * (weight[channel(i)] ?? 1) + (bias[channel(i)] ?? 0);
  });
}

/** Pixels added to the top, left, bottom and right of an image; taken away where negative. */
export type Border = readonly [top: number, left: number, bottom: number, right: number];

export function bordered(
  { shape, data }: RealTensor,
  [top, left, bottom, right]: Border,
  value: number,
): Tensor<"float64"> {
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  const [high, wide] = [height + top + bottom, width + left + right];
  const result = new Float64Array(images * channels * high * wide).fill(value);
  for (let plane = 0; plane < images * channels; plane++)
    for (let y = Math.max(0, -top); y < Math.min(height, high - top); y++)
      for (let x = Math.max(0, -left); x < Math.min(width, wide - left); x++)
        result[(plane * high + y + top) * wide + x + left] = data[(plane * height + y) * width + x] as number;
  const larger: Shape = [images, channels, high, wide];
  return { dtype: "float64", shape: larger, data: result };
}

import { elementCount, type Shape, type Tensor } from "../../../../src/core/tensor.js";

/** An element of a tensor NCHW by its indices; undefined outside. */
export type Pixel = (n: number, c: number, y: number, x: number) => number | undefined;

export function pixelsOf({ shape, data }: Tensor<"float64">): Pixel {
  const [, channels = 1, height = 1, width = 1] = shape;
  return (n, c, y, x) =>
    y < 0 || y >= height || x < 0 || x >= width
      ? undefined
      : data[((n * channels + c) * height + y) * width + x];
}

/** A tensor NCHW whose every element is a function of its indices. */
export function define(
  shape: Shape,
  element: (n: number, c: number, y: number, x: number) => number,
): Tensor<"float64"> {
  const [, channels = 1, height = 1, width = 1] = shape;
  const data = Float64Array.from({ length: elementCount(shape) }, (_, index) => {
    const row = Math.floor(index / width);
    const plane = Math.floor(row / height);
    return element(Math.floor(plane / channels), plane % channels, row % height, index % width);
  });
  return { dtype: "float64", shape, data };
}

/** 0 … count − 1. */
export function range(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

import { elementCount, type Tensor } from "./tensor.js";

/** A tensor with its axes in another order: axis k of the result is axis `axes[k]` of the tensor. */
export function permute<T extends Tensor>(tensor: T, axes: readonly number[]): T {
  const { shape, data } = tensor;
  const resultShape = axes.map((axis) => shape[axis] ?? 1);
  // Axes of one element move nothing; without them the innermost loop is one of many steps.
  const moved = axes.filter((axis) => shape[axis] !== 1);
  const sizes = moved.map((axis) => shape[axis] ?? 1);
  const steps = moved.map((axis) => elementCount(shape.slice(axis + 1)));
  const [length, step] = [sizes.pop() ?? 1, steps.pop() ?? 1];
  const index = sizes.map(() => 0);
  const result = data.slice();
  // One array type on both sides: `result` is a copy of `data`.
  const [from, to] = [data as Float32Array, result as Float32Array];
  for (let row = 0, start = 0; row < to.length; row += length) {
    for (let at = 0; at < length; at++) to[row + at] = from[start + at * step] as number;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const stride = steps[axis] as number;
      const next = (index[axis] as number) + 1;
      start += stride;
      if (next < (sizes[axis] as number)) {
        index[axis] = next;
        break;
      }
      start -= stride * next;
      index[axis] = 0;
    }
  }
  return { ...tensor, shape: resultShape, data: result };
}

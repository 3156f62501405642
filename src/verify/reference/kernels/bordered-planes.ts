import type { Op } from "../../../arch/ops.js";
import type { Shape } from "../../../tensor.js";
import { dimensions, type Operand } from "./kernel.js";

/** Planes of an image, one channel after another, row by row. */
export interface Planes {
  readonly data: Float64Array;
  /** Where the first plane starts. */
  readonly start: number;
  /** Elements from one row to the next. */
  readonly rowStride: number;
  /** Elements from one plane to the next. */
  readonly planeStride: number;
}

/** Elements of a plane with the border of zeros that a convolution's padding stands for. */
export function borderedSize({ padding }: Op<"conv">, [, , height = 1, width = 1]: Shape): number {
  return (height + 2 * padding[0]) * (width + 2 * padding[1]);
}

/** Makes room for `count` bordered planes in zeroed memory from `start`. */
export function borderedPlanes(
  op: Op<"conv">,
  input: Operand,
  count: number,
  data: Float64Array,
  start: number,
): Planes {
  const planeStride = borderedSize(op, input.shape);
  data.fill(0, start, start + count * planeStride);
  return { data, start, rowStride: dimensions(input).width + 2 * op.padding[1], planeStride };
}

/** Copies `count` planes of the input, from its plane `first` on, inside their borders. */
export function fillPlanes(
  op: Op<"conv">,
  input: Operand,
  first: number,
  count: number,
  target: Planes,
): void {
  const { height, width } = dimensions(input);
  const from = input.data;
  const to = target.data;
  for (let plane = 0; plane < count; plane++) {
    const corner =
      target.start + plane * target.planeStride + op.padding[0] * target.rowStride + op.padding[1];
    for (let y = 0; y < height; y++) {
      const source = ((first + plane) * height + y) * width;
      const row = corner + y * target.rowStride;
      for (let x = 0; x < width; x++) to[row + x] = from[source + x] as number;
    }
  }
}

import type { Op, Size2d } from "../../arch/index.js";
import type { RealTensor } from "../../core/tensor.js";

/** The terms that a sum of the network adds up, one element at a time: for what is asked of few elements only. */

/** An output element: which image, channel, row and column it is of. */
export interface Place {
  readonly image: number;
  readonly channel: number;
  readonly row: number;
  readonly column: number;
}

/** Where an element of [N, C, H, W] or [N, C] is. */
export function placeOf(index: number, [, channels = 1, height = 1, width = 1]: readonly number[]): Place {
  const plane = height * width;
  return {
    image: Math.floor(index / plane / channels),
    channel: Math.floor(index / plane) % channels,
    row: Math.floor((index % plane) / width),
    column: index % width,
  };
}

/**
 * What one output element of a convolution reads, in the order of its weights; 0 where it reads padding.
 *
 * @param shift by how many pixels the window stands further down and to the right
 */
export function windowAt(
  { inChannels, outChannels, groups, kernel, stride, padding }: Op<"conv">,
  { shape, data }: RealTensor,
  { image, channel, row, column }: Place,
  [down, right]: Size2d = [0, 0],
): Float64Array {
  const [, , height = 1, width = 1] = shape;
  const perGroup = inChannels / groups;
  const from = image * inChannels + Math.floor(channel / (outChannels / groups)) * perGroup;
  const [rows, columns] = kernel;
  const taps = rows * columns;
  return Float64Array.from({ length: perGroup * taps }, (_, k) => {
    const y = row * stride[0] - padding[0] + down + (Math.floor(k / columns) % rows);
    const x = column * stride[1] - padding[1] + right + (k % columns);
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return data[((from + Math.floor(k / taps)) * height + y) * width + x] as number;
  });
}

/**
 * How many of a sum's roundings are independent: n²/Σc², with c terms of each distinct value, and n of them. Adding
 * a value rounds by what it leaves behind a partial sum's last place, so that values nearer to each other than the spacing of
 * the whole sum count as one. Zeros round nothing.
 *
 * A constant plane has 1; one that is half constant 4 at most; random values nearly n.
 */
export function independentTerms(terms: Iterable<number>, unit: number): number {
  const values = [...terms];
  const spacing = 2 * unit * values.reduce((sum, value) => sum + Math.abs(value), 0);
  if (!(spacing > 0 && spacing < Infinity)) return 1;
  const counts = new Map<number, number>();
  for (const value of values) {
    if (value === 0) continue;
    const bin = Math.round(value / spacing);
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  let squares = 0;
  for (const count of counts.values()) squares += count * count;
  return squares === 0 ? 1 : values.length ** 2 / squares;
}

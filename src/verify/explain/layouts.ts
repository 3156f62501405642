import type { Shape } from "../../core/tensor.js";

/** An order in which the values of a weight were read or written instead of their own. */
export interface Misreading {
  readonly cause: "bytes-shifted" | "kernel-transposed" | "layout";
  /** As a clause. */
  readonly says: string;
  /** The index, in the right weight, of each value. */
  readonly from: (index: number) => number;
}

/**
 * The usual mistakes with a weight's layout that change this shape's values.
 *
 * @param shape OIHW, [out, in] or [n]
 */
export function misreadings(shape: Shape): readonly Misreading[] {
  const [outputs = 1, inputs = 1, height = 1, width = 1] = shape;
  const taps = height * width;
  const count = outputs * inputs * taps;
  const at = (o: number, i: number, tap: number): number => (o * inputs + i) * taps + tap;
  const output = (k: number): number => Math.floor(k / (inputs * taps));
  const input = (k: number): number => Math.floor(k / taps) % inputs;
  const list: Misreading[] = [];
  const transposed = (says: string, from: Misreading["from"]): void => {
    list.push({ cause: "kernel-transposed", says, from });
  };
  if (height === width && height > 1) {
    transposed("height and width of the kernel are swapped", (k) => {
      const tap = k % taps;
      return k - tap + (tap % width) * width + Math.floor(tap / width);
    });
    transposed("the kernel is rotated by 180°", (k) => k + taps - 1 - 2 * (k % taps));
  }
  if (outputs === inputs && outputs > 1)
    transposed("output and input channels of the weights are swapped", (k) =>
      at(input(k), output(k), k % taps),
    );
  if (outputs !== inputs && outputs > 1 && inputs > 1)
    transposed(
      "weights stored as [in, out] are read as [out, in]",
      (k) => (k % outputs) * inputs * taps + Math.floor(k / outputs),
    );
  if (taps > 1 && inputs > 1)
    transposed("weights stored as [out, height, width, in] are read as [out, in, height, width]", (k) => {
      const rest = k % (inputs * taps);
      return at(output(k), rest % inputs, Math.floor(rest / inputs));
    });
  for (const [says, by] of [
    ["the values are shifted by one element", 1],
    ["the values are shifted by minus one element", -1],
  ] as const)
    list.push({ cause: "bytes-shifted", says, from: (k) => (k + by + count) % count });
  return list;
}

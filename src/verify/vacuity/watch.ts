import type { RealTensor } from "../../tensor.js";
import type { Vacuity } from "../report.js";

/** Something that the images leave untested. */
export type Untested = Vacuity["untested"][number];

/**
 * One question to the images, such as whether a ReLU ever clips. It looks at the outputs of its layers as they pass and
 * keeps a few numbers; once it is answered it looks no more. It may be shown several runs.
 */
export interface Watch {
  /** Layers whose outputs it looks at. */
  readonly layers: readonly string[];
  look(layer: string, tensor: RealTensor): void;
  /** What is still untested; nothing also where none of its layers was seen. */
  untested(): readonly Untested[];
}

/** What tells one thing from another. */
export interface Resolution {
  /** Values that differ by less than this share of the largest are one: drift of honest float32 files. */
  readonly indistinguishable: number;
  /** Relative rounding error of the candidate's arithmetic, such as 2⁻²⁴ for float32. */
  readonly unitRoundoff: number;
}

/** The largest magnitude, or 0. */
export function largest(values: ArrayLike<number>): number {
  let result = 0;
  for (let index = 0; index < values.length; index++)
    result = Math.max(result, Math.abs(values[index] as number));
  return result;
}

/** Whether two rows of values are one: no element apart by more than a share of the largest. */
export function sameValues(a: ArrayLike<number>, b: ArrayLike<number>, share: number): boolean {
  const limit = share * Math.max(largest(a), largest(b));
  for (let index = 0; index < a.length; index++)
    if (!(Math.abs((a[index] as number) - (b[index] ?? Number.NaN)) <= limit)) return false;
  return true;
}

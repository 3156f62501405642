import type { RealTensor } from "../../tensor.js";
import { errorAt, type RoundingBound } from "./bound.js";
import { SPREAD_FACTOR } from "./norms.js";

/** A layer's error on the candidate's own inputs, against what rounding accounts for. */
export interface LocalError {
  /** max |actual − recomputed|, over elements finite on both sides. */
  readonly maxAbs: number;
  /** max |error| / bound: above 1, no order of operations explains it. */
  readonly margin: number;
  /**
   * The spread of all errors over what independent roundings give: above 1, they are too large too often. 0 where the
   * worst case is no wider than that.
   */
  readonly spread: number;
  /** Elements that are NaN or infinite where recomputing gives a finite value. */
  readonly nonFinite: number;
  /** Position of the worst element. */
  readonly worst: number;
}

/** Holds a candidate's values against recomputed ones, element by element. */
export function localError(actual: RealTensor, recomputed: RealTensor, bound: RoundingBound): LocalError {
  const a = actual.data;
  const e = recomputed.data;
  const { elements, roundings, planes } = bound;
  let [maxAbs, margin, nonFinite, worst, squares] = [0, 0, 0, 0, 0];
  for (let i = 0; i < e.length; i++) {
    const difference = Math.abs((a[i] as number) - (e[i] as number));
    if (difference === 0) continue;
    if (!Number.isFinite(difference)) {
      // What is not finite on these inputs shows nothing of this layer: the fault lies before it, or in the weights.
      if (!Number.isFinite(e[i])) continue;
      nonFinite++;
      worst = i;
      continue;
    }
    const ratio = difference / errorAt(elements, i);
    squares += ratio * ratio;
    if (difference > maxAbs) maxAbs = difference;
    if (ratio > margin) {
      margin = ratio;
      if (nonFinite === 0) worst = i;
    }
  }
  const dots =
    roundings === undefined ? 0 : (Math.sqrt(squares / e.length) * Math.sqrt(roundings)) / SPREAD_FACTOR;
  const spread = Math.max(dots, planes ? planeSpread(a, e, planes) : 0);
  return { maxAbs, margin: nonFinite > 0 ? Infinity : margin, spread, nonFinite, worst };
}

/** The worst plane's root-mean-square error about its mean, over its bound. */
function planeSpread(
  actual: RealTensor["data"],
  recomputed: RealTensor["data"],
  { size, spread }: NonNullable<RoundingBound["planes"]>,
): number {
  let largest = 0;
  for (const [plane, bound] of spread.entries()) {
    let [sum, squares] = [0, 0];
    for (let i = plane * size; i < (plane + 1) * size; i++) {
      const error = (actual[i] as number) - (recomputed[i] as number);
      sum += error;
      squares += error * error;
    }
    const variance = Math.max(0, squares / size - (sum / size) ** 2);
    largest = Math.max(largest, Math.sqrt(variance) / bound);
  }
  return largest;
}

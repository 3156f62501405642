import type { RealTensor } from "../../core/tensor.js";
import type { RoundingBound } from "./bound.js";
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

/** Whether rounding accounts for an error. */
export function isRounding({ margin, spread }: LocalError): boolean {
  return Math.max(margin, spread) <= 1;
}

/** Holds a candidate's values against recomputed ones, element by element. */
export function localError(actual: RealTensor, recomputed: RealTensor, bound: RoundingBound): LocalError {
  const { elements, roundings, planes } = bound;
  const { maxAbs, margin, meanSquare, nonFinite, worst } =
    typeof elements === "number"
      ? againstNumber(actual.data, recomputed.data, elements)
      : againstElements(actual.data, recomputed.data, elements);
  const dots = roundings === undefined ? 0 : Math.sqrt(meanSquare * roundings) / SPREAD_FACTOR;
  const spread = Math.max(dots, planes ? planeSpread(actual.data, recomputed.data, planes) : 0);
  return { maxAbs, margin: nonFinite > 0 ? Infinity : margin, spread, nonFinite, worst };
}

interface Extremes {
  readonly maxAbs: number;
  readonly margin: number;
  /** Mean (error / bound)². */
  readonly meanSquare: number;
  readonly nonFinite: number;
  readonly worst: number;
}

/** Every how many elements one is taken for the spread of all: odd, so that it meets all columns of a plane. */
const SAMPLING = 5;

function againstElements(a: RealTensor["data"], e: RealTensor["data"], elements: Float64Array): Extremes {
  let [maxAbs, margin, nonFinite, worst] = [0, 0, 0, 0];
  for (let i = 0; i < e.length; i++) {
    const difference = Math.abs((a[i] as number) - (e[i] as number));
    if (difference > maxAbs) maxAbs = difference;
    // Multiplied where it could be divided: this loop sees every value of the network.
    if (difference <= margin * (elements[i] as number)) continue;
    if (difference <= Number.MAX_VALUE) {
      margin = difference / (elements[i] as number);
      if (nonFinite === 0) worst = i;
    } else if (Number.isFinite(e[i])) {
      // What is not finite on these inputs shows nothing of this layer: the fault lies before it, or in the weights.
      nonFinite++;
      worst = i;
    }
  }
  if (!Number.isFinite(maxAbs)) maxAbs = finiteMaximum(a, e);
  return { maxAbs, margin, meanSquare: meanSquareOf(a, e, elements), nonFinite, worst };
}

function finiteMaximum(a: RealTensor["data"], e: RealTensor["data"]): number {
  let largest = 0;
  for (let i = 0; i < e.length; i++) {
    const difference = Math.abs((a[i] as number) - (e[i] as number));
    if (difference > largest && difference <= Number.MAX_VALUE) largest = difference;
  }
  return largest;
}

/** Mean (error / bound)² of a sample of the elements, or of all where they are few. */
function meanSquareOf(a: RealTensor["data"], e: RealTensor["data"], elements: Float64Array): number {
  const step = e.length < 4096 ? 1 : SAMPLING;
  let [squares, count] = [0, 0];
  for (let i = 0; i < e.length; i += step) {
    const ratio = ((a[i] as number) - (e[i] as number)) / (elements[i] as number);
    if (Number.isFinite(ratio)) squares += ratio * ratio;
    count++;
  }
  return squares / count;
}

/** As above, for layers that are exact or nearly: most values are equal. */
function againstNumber(a: RealTensor["data"], e: RealTensor["data"], bound: number): Extremes {
  let [maxAbs, nonFinite, worst] = [0, 0, 0];
  for (let i = 0; i < e.length; i++) {
    if (a[i] === e[i]) continue;
    const difference = Math.abs((a[i] as number) - (e[i] as number));
    if (difference <= Number.MAX_VALUE) {
      if (difference <= maxAbs) continue;
      maxAbs = difference;
      if (nonFinite === 0) worst = i;
    } else if (Number.isFinite(e[i])) {
      nonFinite++;
      worst = i;
    }
  }
  return { maxAbs, margin: maxAbs === 0 ? 0 : maxAbs / bound, meanSquare: 0, nonFinite, worst };
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

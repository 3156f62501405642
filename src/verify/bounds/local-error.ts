import type { RealTensor } from "../../core/tensor.js";
import type { Elements } from "../reference/elements.js";
import { loopsOverNumbers } from "../reference/vector-engine.js";
import { errorAt, type PlaneBound, type RoundingBound, type SumSpread } from "./bound.js";
import { SPREAD_FACTOR } from "./norms.js";

/** A layer's error given the candidate's own inputs, compared with its rounding bound. */
export interface LocalError {
  /** max |actual − recomputed|, over elements finite on both sides. */
  readonly maxAbs: number;
  /** max |error| / bound: above 1, no order of operations explains it. */
  readonly margin: number;
  /**
   * The spread of all errors relative to that of independent roundings: above 1, they are too large too often. 0 if the
   * worst case is no wider.
   */
  readonly spread: number;
  /** Elements that are NaN or infinite although the recomputed value is finite. */
  readonly nonFinite: number;
  /** Elements that show nothing about the layer, since recomputing gives no finite value or no bound. */
  readonly unjudged: number;
  /** Position of the worst element. */
  readonly worst: number;
}

/** Whether rounding accounts for an error. */
export function isRounding({ margin, spread }: LocalError): boolean {
  return Math.max(margin, spread) <= 1;
}

/**
 * Compares a candidate's values with recomputed ones, element by element.
 *
 * @param readsNaN whether the layer's inputs contain NaN: non-finite results are then not its fault, since runtimes may
 * pass NaN on, or lose it in a maximum. Called only if there are any.
 * @param loops the implementation of the comparison: preferably the one whose memory contains the recomputed values and
 * bounds
 */
export function localError(
  actual: RealTensor,
  recomputed: RealTensor,
  bound: RoundingBound,
  readsNaN: () => boolean = () => false,
  loops: Elements = loopsOverNumbers(),
): LocalError {
  const { elements, sum, planes } = bound;
  const extremes =
    typeof elements === "number"
      ? againstNumber(actual.data, recomputed.data, elements, loops)
      : againstElements(actual.data, recomputed.data, elements, loops);
  const excused = extremes.nonFinite > 0 && readsNaN();
  const nonFinite = excused ? 0 : extremes.nonFinite;
  const unjudged = extremes.unjudged + extremes.nonFinite - nonFinite;
  const sums =
    sum && typeof elements !== "number" ? sumSpread(actual.data, recomputed.data, elements, sum) : 0;
  const spread = Math.max(sums, planes ? planeSpread(actual.data, recomputed.data, planes) : 0);
  return { ...extremes, nonFinite, unjudged, margin: nonFinite > 0 ? Infinity : extremes.margin, spread };
}

/** Whether a layer's error is an overflow: every wrong element has an intermediate value beyond the largest number. */
export function isOverflow(
  actual: RealTensor,
  recomputed: RealTensor,
  { elements, magnitude = (index) => Math.abs(recomputed.data[index] as number) }: RoundingBound,
  largest: number,
): boolean {
  let over = 0;
  for (let i = 0; i < recomputed.data.length; i++) {
    const [a, e] = [actual.data[i] as number, recomputed.data[i] as number];
    if (!Number.isFinite(e) || Math.abs(a - e) <= errorAt(elements, i)) continue;
    if (Math.max(Math.abs(e), magnitude(i)) < largest) return false;
    over++;
  }
  return over > 0;
}

interface Extremes extends Omit<LocalError, "spread"> {}

/** Elements examined together. */
const CHUNK = 8192;

function againstElements(
  a: RealTensor["data"],
  e: RealTensor["data"],
  elements: Float64Array,
  loops: Elements,
): Extremes {
  const apart = new Float64Array(1);
  let [maxAbs, margin, nonFinite, unjudged, worst] = [0, 0, 0, 0, 0];
  for (let start = 0; start < e.length; start += CHUNK) {
    const end = Math.min(e.length, start + CHUNK);
    // Most values are closer than the worst so far: only chunks with a worse one are examined element by element.
    const isWithin = loops.within(a, e, elements, { start, count: end - start }, margin, apart);
    maxAbs = Math.max(maxAbs, apart[0] as number);
    if (isWithin) continue;
    for (let i = start; i < end; i++) {
      const difference = Math.abs((a[i] as number) - (e[i] as number));
      if (difference <= margin * (elements[i] as number)) continue;
      // Non-finite expected values show nothing about this layer: the fault is before it, or in the weights.
      if (!Number.isFinite(e[i]) || Number.isNaN(elements[i])) unjudged++;
      else if (difference <= Number.MAX_VALUE) {
        const ratio = difference / (elements[i] as number);
        if (!(ratio > margin)) continue;
        margin = ratio;
        if (nonFinite === 0) worst = i;
      } else {
        nonFinite++;
        worst = i;
      }
    }
  }
  if (!Number.isFinite(maxAbs)) maxAbs = finiteMaximum(a, e);
  return { maxAbs, margin, nonFinite, unjudged, worst };
}

function finiteMaximum(a: RealTensor["data"], e: RealTensor["data"]): number {
  let largest = 0;
  for (let i = 0; i < e.length; i++) {
    const difference = Math.abs((a[i] as number) - (e[i] as number));
    if (difference > largest && difference <= Number.MAX_VALUE) largest = difference;
  }
  return largest;
}

/** Sampling interval for the spread of all: odd, so that it covers all columns of a plane. */
const SAMPLING = 5;

/** Number of elements whose terms are examined if the spread of all would fail the layer. */
const MAX_EXAMINED = 512;

/** √ mean (error / bound)² over 2/√n. */
function sumSpread(
  a: RealTensor["data"],
  e: RealTensor["data"],
  elements: Float64Array,
  { roundings, least, independent }: SumSpread,
): number {
  const meanSquare = (step: number, times: (index: number) => number): number => {
    let [squares, count] = [0, 0];
    for (let i = 0; i < e.length; i += step) {
      const bound = elements[i] as number;
      if (!(bound >= least)) continue;
      const ratio = ((a[i] as number) - (e[i] as number)) / bound;
      if (Math.abs(ratio) < Infinity) squares += times(i) * ratio * ratio;
      count++;
    }
    return count === 0 ? 0 : squares / count;
  };
  const plain = meanSquareOf(a, e, elements, { least, roundings, step: e.length < 4096 ? 1 : SAMPLING });
  if (plain <= SPREAD_FACTOR ** 2) return Math.sqrt(plain) / SPREAD_FACTOR;
  const step = 2 * Math.floor(Math.ceil(e.length / MAX_EXAMINED) / 2) + 1;
  return Math.sqrt(meanSquare(step, (index) => Math.min(roundings, independent(index)))) / SPREAD_FACTOR;
}

/** For n roundings in each element: a separate function, so that it is a tight loop. */
function meanSquareOf(
  a: RealTensor["data"],
  e: RealTensor["data"],
  elements: Float64Array,
  { least, roundings, step }: Pick<SumSpread, "least" | "roundings"> & { readonly step: number },
): number {
  let squares = 0;
  let count = 0;
  for (let i = 0; i < e.length; i += step) {
    const bound = elements[i] as number;
    if (!(bound >= least)) continue;
    const ratio = ((a[i] as number) - (e[i] as number)) / bound;
    if (Math.abs(ratio) < Infinity) squares += roundings * ratio * ratio;
    count++;
  }
  return count === 0 ? 0 : squares / count;
}

/** As above, for exact or nearly exact layers: most values are equal. */
function againstNumber(
  a: RealTensor["data"],
  e: RealTensor["data"],
  bound: number,
  loops: Elements,
): Extremes {
  const apart = new Float64Array(1);
  let [maxAbs, nonFinite, unjudged, worst] = [0, 0, 0, 0];
  for (let start = 0; start < e.length; start += CHUNK) {
    const end = Math.min(e.length, start + CHUNK);
    if (loops.within(a, e, maxAbs, { start, count: end - start }, 1, apart)) continue;
    for (let i = start; i < end; i++) {
      const difference = Math.abs((a[i] as number) - (e[i] as number));
      if (!Number.isFinite(e[i])) unjudged++;
      else if (difference <= Number.MAX_VALUE) {
        if (difference <= maxAbs) continue;
        maxAbs = difference;
        if (nonFinite === 0) worst = i;
      } else {
        nonFinite++;
        worst = i;
      }
    }
  }
  return { maxAbs, margin: maxAbs === 0 ? 0 : maxAbs / bound, nonFinite, unjudged, worst };
}

/** The worst plane's root-mean-square error about its mean, over its bound. */
function planeSpread(
  actual: RealTensor["data"],
  recomputed: RealTensor["data"],
  { size, spread, dependent }: PlaneBound,
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
    const ratio = Math.sqrt(variance) / bound;
    if (!(ratio > largest)) continue;
    largest = Math.max(largest, ratio <= 1 ? ratio : Math.sqrt(variance) / dependent(plane));
  }
  return largest;
}

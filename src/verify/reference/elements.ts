/**
 * Elementwise loops: everything in an evaluation besides products. There are two implementations, in plain TypeScript
 * here and in WebAssembly, with bit-identical results. Targets are in the engine's memory, inputs may be elsewhere.
 */
export interface Elements {
  /** `max(x, 0)`; NaN where x is. */
  rectify(x: Numbers, target: Float64Array, run: Run): void;
  /** `factor · x` */
  scale(x: Numbers, target: Float64Array, run: Run, factor: number): void;
  /** `factor · x + constant` */
  linear(x: Numbers, target: Float64Array, run: Run, factor: number, constant: number): void;
  /** `(x − mean) · factor + shift` */
  affine(x: Numbers, target: Float64Array, run: Run, mean: number, factor: number, shift: number): void;
  /** `a + b` */
  add(a: Numbers, b: Numbers, target: Float64Array, run: Run): void;
  /** `factor · |x| + constant` */
  magnitudes(x: Numbers, target: Float64Array, run: Run, factor: number, constant: number): void;
  /** Replaces the target's y by `y + factor · |x|`. */
  addMagnitudes(x: Numbers, target: Float64Array, run: Run, factor: number): void;
  /**
   * Looks at the distances |a − e|.
   *
   * @param limits what each may be, `share` times; one number for all
   * @param apart gets the largest distance that is a number, in place 0
   * @returns whether every distance is a number within its limit
   */
  within(
    a: Numbers,
    e: Numbers,
    limits: Float64Array | number,
    run: Run,
    share: number,
    apart: Float64Array,
  ): boolean;
  /**
   * Sums over at most `MAX_SUMMED` elements, those of even and of odd places apart: max |a − e|, max |e|, Σ(a − e)², Σ e·a, Σ e², Σ a²,
   * and the most float32 steps between the two. A maximum does not count NaN.
   *
   * @param sums gets two of each
   */
  sums(a: Numbers, e: Numbers, run: Run, sums: Float64Array): void;
}

/** Numbers that loops read. */
export type Numbers = Float32Array | Float64Array;

/** Elements of an array: the same ones of all arrays that a loop is given. */
export interface Run {
  /** The place of the first. */
  readonly start: number;
  /** How many there are. */
  readonly count: number;
}

/** Small enough to stay in cache, large enough that the cost of a call does not matter. */
export const MAX_SUMMED = 8192;

/** How many things `sums` gives, two of each. */
export const SUMS = 7;

/** All elements of an array. */
export function wholeOf({ length }: Numbers): Run {
  return { start: 0, count: length };
}

/** The loops in plain TypeScript: they run everywhere, and are what those in WebAssembly are tested against. */
export const scalarElements: Elements = {
  rectify(x, target, { start, count }) {
    for (let i = start; i < start + count; i++) target[i] = Math.max(x[i] as number, 0);
  },
  scale(x, target, { start, count }, factor) {
    for (let i = start; i < start + count; i++) target[i] = factor * (x[i] as number);
  },
  linear(x, target, { start, count }, factor, constant) {
    for (let i = start; i < start + count; i++) target[i] = factor * (x[i] as number) + constant;
  },
  affine(x, target, { start, count }, mean, factor, shift) {
    for (let i = start; i < start + count; i++) target[i] = ((x[i] as number) - mean) * factor + shift;
  },
  add(a, b, target, { start, count }) {
    for (let i = start; i < start + count; i++) target[i] = (a[i] as number) + (b[i] as number);
  },
  magnitudes(x, target, { start, count }, factor, constant) {
    for (let i = start; i < start + count; i++) target[i] = factor * Math.abs(x[i] as number) + constant;
  },
  addMagnitudes(x, target, { start, count }, factor) {
    for (let i = start; i < start + count; i++)
      target[i] = (target[i] as number) + factor * Math.abs(x[i] as number);
  },
  within(a, e, limits, { start, count }, share, apart) {
    let largest = 0;
    let isWithin = true;
    for (let i = start; i < start + count; i++) {
      const distance = Math.abs((a[i] as number) - (e[i] as number));
      if (distance > largest) largest = distance;
      const limit = typeof limits === "number" ? limits : (limits[i] as number);
      if (!(distance <= share * limit)) isWithin = false;
    }
    apart[0] = largest;
    return isWithin;
  },
  sums(a, e, { start, count }, sums) {
    for (let half = 0; half < 2; half++) {
      const all = new Float64Array(SUMS);
      for (let i = start + half; i < start + count; i += 2) addTo(all, a[i] as number, e[i] as number);
      for (let which = 0; which < SUMS; which++) sums[2 * which + half] = all[which] as number;
    }
  },
};

const SINGLE = new Float32Array(2);
const BITS = new Int32Array(SINGLE.buffer);

function addTo(sums: Float64Array, a: number, e: number): void {
  SINGLE[0] = e;
  SINGLE[1] = a;
  const steps = Math.abs(ordinal(BITS[0] as number) - ordinal(BITS[1] as number));
  const difference = a - e;
  if (Math.abs(difference) > (sums[0] as number)) sums[0] = Math.abs(difference);
  if (Math.abs(e) > (sums[1] as number)) sums[1] = Math.abs(e);
  sums[2] = (sums[2] as number) + difference * difference;
  sums[3] = (sums[3] as number) + e * a;
  sums[4] = (sums[4] as number) + e * e;
  sums[5] = (sums[5] as number) + a * a;
  if (steps > (sums[6] as number)) sums[6] = steps;
}

/** Maps float32 bits (sign and magnitude) to integers in the order of the numbers, both zeros to 0. */
function ordinal(bits: number): number {
  const sign = bits >> 31;
  return ((bits & 0x7fffffff) ^ sign) - sign;
}

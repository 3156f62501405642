/** Evenly spaced numbers, to which weights are rounded in a few bits. */

/** How far from a multiple of the step a float32 may be, in steps. */
const OFF_STEP = 1e-3;

/** More numbers than this are no few bits. */
const MOST_LEVELS = 255;

/** Fewer values are multiples of some step by chance: of one step, and of one to each row. */
const FEWEST = 3;
const FEWEST_IN_ROWS = 16;

/** A row that differs by less, as a share of its values, has been multiplied and divided by its step. */
const SAME = 2 ** -20;

/**
 * The number of bits, up to 8, of the multiples of a step that values are the nearest of: one step for all, or for each
 * row. Undefined if they are not.
 */
export function bitsOfSteps(
  found: Float32Array,
  wanted: ArrayLike<number>,
  rows: number,
): number | undefined {
  const all = found.length < FEWEST ? undefined : levels(found, wanted, 0, found.length);
  if (all !== undefined) return bitsOf(all);
  const size = found.length / rows;
  if (found.length < FEWEST_IN_ROWS) return undefined;
  let most = 0;
  for (let start = 0; start < found.length; start += size) {
    if (isSame(found, wanted, start, start + size)) continue;
    const own = levels(found, wanted, start, start + size);
    if (own === undefined) return undefined;
    most = Math.max(most, own);
  }
  // A value that is alone in its row is a step of its own.
  return most > 0 || size === 1 ? bitsOf(Math.max(1, most)) : undefined;
}

function bitsOf(range: number): number {
  return Math.ceil(Math.log2(range + 1));
}

function isSame(found: Float32Array, wanted: ArrayLike<number>, start: number, end: number): boolean {
  for (let index = start; index < end; index++) {
    const value = found[index] as number;
    if (Math.abs(value - (wanted[index] as number)) > SAME * Math.abs(value)) return false;
  }
  return true;
}

/** The distance between the least and the largest multiple, 0 included; undefined if values are not the nearest ones. */
function levels(
  found: Float32Array,
  wanted: ArrayLike<number>,
  start: number,
  end: number,
): number | undefined {
  if (end - start < 2) return undefined;
  let largest = 0;
  for (let at = start; at < end; at++) largest = Math.max(largest, Math.abs(found[at] as number));
  // The largest value shows the step most exactly.
  for (let multiple = 1; largest > 0 && multiple <= MOST_LEVELS; multiple++) {
    const range = levelsOf(largest / multiple, found, wanted, start, end);
    if (range !== undefined) return range <= MOST_LEVELS ? range : undefined;
  }
  return undefined;
}

function levelsOf(
  step: number,
  found: Float32Array,
  wanted: ArrayLike<number>,
  start: number,
  end: number,
): number | undefined {
  let [least, most] = [0, 0];
  for (let at = start; at < end; at++) {
    const value = found[at] as number;
    const steps = Math.round(value / step);
    const off = Math.abs(value - (wanted[at] as number));
    if (Math.abs(value / step - steps) > OFF_STEP || off > step * (0.5 + OFF_STEP)) return undefined;
    least = Math.min(least, steps);
    most = Math.max(most, steps);
  }
  return most - least;
}

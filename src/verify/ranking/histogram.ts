/** How many values fell into each of some bins of equal width, from 0 to `range`. */
export interface Histogram {
  /** Upper end of the last bin, in the unit of the values. */
  readonly range: number;
  /** How many values are in each bin, from 0 up. */
  readonly counts: readonly number[];
}

export interface HistogramBuilder {
  add(value: number): void;
  result(): Histogram;
}

/** Even, as bins are joined two by two. */
const BINS = 64;

/**
 * Counts values whose range is not known before: where one lies beyond the last bin, bins are joined two by two until it does
 * not, so that no value is kept. Negative values, which rounding makes of 0, count as 0; those that are not finite do not count.
 */
export function createHistogram(): HistogramBuilder {
  const counts = new Float64Array(BINS);
  let width = 0;
  return {
    add(value) {
      if (!Number.isFinite(value)) return;
      if (width === 0 && value > 0) width = (2 * value) / BINS;
      while (value >= width * BINS && width > 0) {
        for (let bin = 0; bin < BINS; bin++)
          counts[bin] = bin < BINS / 2 ? (counts[2 * bin] as number) + (counts[2 * bin + 1] as number) : 0;
        width *= 2;
      }
      const bin = width === 0 ? 0 : Math.max(0, Math.floor(value / width));
      counts[bin] = (counts[bin] as number) + 1;
    },
    result: () => ({ range: width * BINS, counts: [...counts] }),
  };
}

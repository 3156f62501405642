/** Mean and biased variance (divided by n, not n − 1). */
export interface Moments {
  readonly mean: number;
  readonly variance: number;
}

/**
 * The moments of `values[start … end)`, in two passes: the variance is the mean of squared deviations, which does not
 * cancel as E[x²] − E[x]² does.
 */
export function moments(values: Float64Array, start: number, end: number): Moments {
  let sum = 0;
  for (let i = start; i < end; i++) sum += values[i] as number;
  const mean = sum / (end - start);
  let squares = 0;
  for (let i = start; i < end; i++) squares += ((values[i] as number) - mean) ** 2;
  return { mean, variance: squares / (end - start) };
}

import { expect } from "vitest";
import { fusesProducts } from "../../../src/verify/reference/vector-engine.js";

const { WebAssembly } = globalThis as unknown as {
  readonly WebAssembly: Parameters<typeof fusesProducts>[0];
};

/**
 * Expects what both engines compute to be equal, bit for bit. Where WebAssembly adds products without rounding them, which Node 20 needs a flag for, they agree to
 * rounding: 10⁻¹³ of the largest magnitude.
 */
export function expectSameSums(actual: Float64Array, expected: Float64Array): void {
  if (!fusesProducts(WebAssembly)) {
    expect(actual).toEqual(expected);
    return;
  }
  expect(actual.length).toBe(expected.length);
  const largest = expected.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0);
  const differ = expected.findIndex((x, i) => {
    const y = actual[i] as number;
    return !Object.is(x, y) && !(Math.abs(x - y) <= 1e-13 * largest);
  });
  expect(differ).toBe(-1);
}

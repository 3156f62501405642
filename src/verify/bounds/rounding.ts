import type { FloatDType } from "../../tensor-cast.js";

/**
 * How a candidate rounds: what every bound of this folder is a function of.
 *
 * The model is the standard one (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 2.4, with the
 * underflow term of 2.8): fl(a ∘ b) = (a ∘ b)(1 + δ) + η with |δ| ≤ u and |η| the smallest number that is not flushed.
 */
export interface Arithmetic {
  /** Unit roundoff u of every product and sum: half the distance from 1 to the next number. */
  readonly unit: number;
  /**
   * Relative error of a stored weight or value beyond that, where files or tensors are narrower than the arithmetic. It is
   * counted once for each input, each constant in a product and the output: a runtime may compute on what it has not
   * rounded yet, while the values that it shows are.
   */
  readonly storage: number;
  /** Unit roundoff of folding a batch norm in, where that is coarser: in half precision, if its constants are narrow. */
  readonly folding?: number;
  /** What an operation may lose near 0: subnormal results may be flushed. */
  readonly underflow: number;
}

/** The reference's own roundings, in float64, are added to the candidate's: they matter where that is float64 too. */
const REFERENCE_UNIT = 2 ** -53;

/**
 * The arithmetic behind tensors of a dtype. Runtimes on a CPU accumulate half-precision networks in float32 and round
 * what they store; what float64 needs no flushing of, float32 may flush (wasm and CPU runtimes set FTZ or do not).
 */
export const ARITHMETIC: { readonly [D in FloatDType]: Arithmetic } = {
  float64: { unit: 2 ** -53 + REFERENCE_UNIT, storage: 0, underflow: 2 ** -1022 },
  float32: { unit: 2 ** -24 + REFERENCE_UNIT, storage: 0, underflow: 2 ** -126 },
  float16: { unit: 2 ** -24 + REFERENCE_UNIT, storage: 2 ** -11, underflow: 2 ** -24 },
  bfloat16: { unit: 2 ** -24 + REFERENCE_UNIT, storage: 2 ** -8, underflow: 2 ** -126 },
};

/** The same arithmetic behind constants that were folded in the type that they are stored in. */
export function foldedNarrow(arithmetic: Arithmetic): Arithmetic {
  return { ...arithmetic, folding: Math.max(arithmetic.unit, arithmetic.storage) };
}

/**
 * γₙ = nu / (1 − nu): the relative error of n roundings in a row, and of a sum of n terms in any order, blocked, fused
 * or not (Higham, lemma 3.1 and section 4.2).
 */
export function gamma(roundings: number, unit: number): number {
  const product = roundings * unit;
  return product / (1 - product);
}

/**
 * How a runtime's float32 arithmetic rounds, as far as a standard or a specification fixes it. Each runtime's row declares it
 * (src/verify/backends/registry.ts), and every bound follows from it. The order of sums, and whether products are fused into
 * them, does not matter here: the bounds allow any.
 */
export interface Numerics {
  /** Unit roundoff u of a sum or product: |fl(a ∘ b) − a ∘ b| ≤ u·|a ∘ b|. */
  readonly unit: number;
  /** Roundings that a quotient and a square root together take beyond one each. */
  readonly quotients: number;
  /** The sigmoid's own error, absolute, in units. */
  readonly sigmoid: number;
  /** How an instance norm takes its variance: of deviations from the mean, or as E[x²] − μ². */
  readonly variance: "one pass" | "two passes";
}

/**
 * IEEE 754, rounded to nearest, with correctly rounded quotients and roots.
 *
 * Sigmoids are rational or polynomial approximations, or take exp. Measured over 35 million float32 arguments, every 64th
 * between −100 and 100: 1.7e-7 in onnxruntime 1.30 (MLAS, a rational function clamped at ±18), 9.0e-8 in tfjs-wasm 4.22
 * (XNNPACK), 8.9e-8 in PyTorch 2.13, 3.0e-8 in tfjs-cpu. Four units are 2.4e-7.
 */
export const FLOAT32_CPU: Numerics = { unit: 2 ** -24, quotients: 0, sigmoid: 4, variance: "two passes" };

/**
 * What WGSL (section 15.7.4.1, "Accuracy of Concrete Floating Point Expressions") and GLSL ES 3.00 (section 4.5.1, highp)
 * promise, in the same figures. Sums and products are "correctly rounded", of which both leave the direction open, so that u
 * is one ULP, 2⁻²³. A quotient is off by up to 2.5 ULP; a root, "inherited from" the quotient of 1 and an inverse root of
 * 2 ULP, by 4.5: five roundings more than one each. exp(x) is off by 3 + 2|x| ULP, of
 * which a sigmoid keeps σ(1 − σ), at most 0.99 ULP in all; its sum adds one and its quotient 2.5.
 */
export const FLOAT32_GPU: Numerics = { unit: 2 ** -23, quotients: 5, sigmoid: 4.5, variance: "one pass" };

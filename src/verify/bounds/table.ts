import type { OpKind } from "../../arch/index.js";
import type { Bound } from "./bound.js";
import { dotProductBound } from "./dot-product.js";
import { batchNormBound, instanceNormBound, layerNormBound } from "./norms.js";
import { addBound, averageBound, exactBound, maximumBound, scaleBound, sigmoidBound } from "./pointwise.js";

/** How far rounding can put each operation's output off. An operation without a bound does not compile. */
export const BOUNDS: { readonly [K in OpKind]: Bound<K> } = {
  input: exactBound,
  conv: dotProductBound,
  linear: dotProductBound,
  batchNorm: batchNormBound,
  instanceNorm: instanceNormBound,
  layerNorm: layerNormBound,
  relu: exactBound,
  sigmoid: sigmoidBound,
  maxPool: maximumBound,
  avgPool: averageBound,
  globalAvgPool: averageBound,
  globalMaxPool: maximumBound,
  flatten: exactBound,
  scale: scaleBound,
  add: addBound,
};

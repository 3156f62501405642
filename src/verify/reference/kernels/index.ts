import type { OpKind } from "../../../arch/graph.js";
import { conv, linear } from "./conv.js";
import type { Kernel } from "./kernel.js";
import {
  add,
  avgPool,
  batchNorm,
  copy,
  globalAvgPool,
  globalMaxPool,
  instanceNorm,
  layerNorm,
  maxPool,
  relu,
  scale,
  sigmoid,
} from "./layers.js";

/**
 * Operations whose output may be the memory of their first input, if that is none of the others: an element of it is read no
 * more when that of the output is written.
 */
export const IN_PLACE: ReadonlySet<OpKind> = new Set(["batchNorm", "relu", "sigmoid", "scale", "add"]);

/** The float64 reference's function of each operation. */
export const KERNELS: { readonly [K in OpKind]: Kernel<K> } = {
  input: copy,
  conv,
  linear,
  batchNorm,
  instanceNorm,
  layerNorm,
  relu,
  sigmoid,
  maxPool,
  avgPool,
  globalAvgPool,
  globalMaxPool,
  flatten: copy,
  scale,
  add,
};

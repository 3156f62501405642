import type { OpKind } from "../../../arch/ops.js";
import { add } from "./add.js";
import { batchNorm } from "./batch-norm.js";
import { conv } from "./conv.js";
import { copy } from "./copy.js";
import { globalAvgPool, globalMaxPool } from "./global-pool.js";
import { instanceNorm } from "./instance-norm.js";
import type { Kernel } from "./kernel.js";
import { layerNorm } from "./layer-norm.js";
import { linear } from "./linear.js";
import { avgPool, maxPool } from "./pool.js";
import { relu } from "./relu.js";
import { scale } from "./scale.js";
import { sigmoid } from "./sigmoid.js";

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

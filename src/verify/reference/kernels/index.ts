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

import { int } from "../../../formats/onnx/index.js";
import { addBatchNorm } from "../batch-norm.js";
import { add } from "../draft.js";
import { addPool } from "../windows.js";
import { attribute, isChannelsFirst, type NodeTranslation, windowOf } from "./site.js";

/** Pools, means and norms over the pixels of a map. */

export function pool(opType: string): NodeTranslation {
  return ({ draft, node, inputs: [x = ""], output }) => {
    const window = windowOf(node);
    return addPool(draft, opType, x, output, { ...window, kernel: window.kernel ?? [] });
  };
}

export function reduction(opType: string): NodeTranslation {
  return ({ draft, node, inputs, output }) =>
    add(draft, opType, inputs, output, { keepdims: int(attribute(node, "keep_dims", "bool") ? 1 : 0) });
}

export const batchNorm: NodeTranslation = ({ draft, node, inputs, output }) => {
  const epsilon = attribute(node, "epsilon", "float") ?? DEFAULT_EPSILON;
  const isTraining = attribute(node, "is_training", "bool") !== false;
  const mode = { training_mode: int(isTraining ? 1 : 0) };
  return addBatchNorm(draft, { inputs, epsilon }, output, isChannelsFirst(node), mode);
};

/** FusedBatchNorm's, where a file leaves it out. */
const DEFAULT_EPSILON = 1e-4;

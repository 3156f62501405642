import { int, ints } from "../../../formats/onnx/index.js";
import { add } from "../draft.js";
import { addPool } from "../windows.js";
import { isChannelsFirst, type LayerTranslation, windowOf } from "./site.js";

/** Pools over the pixels of a map. */

export function pool(opType: string): LayerTranslation {
  return ({ draft, config, inputs: [x = ""], output }) =>
    addPool(draft, opType, x, output, windowOf(config, config.pool_size ?? 2));
}

export function globalPool(opType: string): LayerTranslation {
  return ({ draft, config, inputs: [x = ""], output }) => {
    const axes = isChannelsFirst(config) ? ints(2, 3) : ints(1, 2);
    return add(draft, opType, [x], output, { axes, keepdims: int(config.keepdims === true ? 1 : 0) });
  };
}

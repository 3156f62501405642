import type { LayerNode, Op } from "../../arch/index.js";
import type { RealTensor } from "../../tensor.js";
import type { Watch } from "./watch.js";

/** Operations that reduce a window of pixels to one. */
export type PoolOp = Op<"maxPool" | "avgPool" | "globalAvgPool" | "globalMaxPool">;

/** Whether any of a pool's windows holds two different values: else maximum and average are one. */
export function watchPool(node: LayerNode, op: PoolOp): Watch {
  const [source = ""] = node.inputs;
  let [seen, varies] = [false, false];
  return {
    layers: [source],
    look(_, tensor) {
      seen = true;
      varies ||= someWindowVaries(op, tensor);
    },
    untested() {
      if (!seen || varies) return [];
      const stream = node.stream === undefined ? {} : { stream: node.stream };
      const reason = "every window is constant: maximum and average are one";
      return [{ layer: node.name, ...stream, reason }];
    },
  };
}

/** Goes over the windows [planes of H×W] until one varies; padding is no part of a window. */
function someWindowVaries(op: PoolOp, { shape, data }: RealTensor): boolean {
  const [, , height = 1, width = 1] = shape;
  const { kernel, stride, padding } = windowOf(op, height, width);
  const plane = height * width;
  for (let start = 0; start < data.length; start += plane)
    for (let top = -padding[0]; top < height; top += stride[0])
      for (let left = -padding[1]; left < width; left += stride[1]) {
        let first: number | undefined;
        for (let y = Math.max(0, top); y < Math.min(height, top + kernel[0]); y++)
          for (let x = Math.max(0, left); x < Math.min(width, left + kernel[1]); x++) {
            const value = data[start + y * width + x] as number;
            first ??= value;
            if (value !== first) return true;
          }
      }
  return false;
}

function windowOf(op: PoolOp, height: number, width: number): Omit<Op<"maxPool">, "kind"> {
  if (op.kind === "maxPool") return op;
  if (op.kind === "avgPool") return { ...op, padding: [0, 0] };
  return { kernel: [height, width], stride: [height, width], padding: [0, 0] };
}

import type { Tensor } from "../../../tensor.js";
import { IMAGENET, type PixelOrder } from "../preprocess.js";
import { int, type OnnxFragment, onnxNode } from "./fragment.js";

/** The value that the stem reads: images as PyTorch's networks take them. */
export const NORMALIZED = "images.normalized";

/**
 * Pixels [N, 3, H, W] of 0 to 255 to normalised images, (x / 255 − mean) / deviation in this order and in float32, as
 * torchvision computes it: the same bits.
 */
export function lowerPreprocess(input: string, order: PixelOrder): OnnxFragment {
  const [rgb, scaled, centered] = ["images.rgb", "images.scaled", "images.centered"];
  const swap = order === "bgr";
  return {
    nodes: [
      ...(swap ? [onnxNode(rgb, "Gather", [input, "images.channels"], { axis: int(1) })] : []),
      onnxNode(scaled, "Div", [swap ? rgb : input, "images.white"]),
      onnxNode(centered, "Sub", [scaled, "images.mean"]),
      onnxNode(NORMALIZED, "Div", [centered, "images.deviation"]),
    ],
    initializers: new Map<string, Tensor>([
      ...(swap
        ? [["images.channels", { dtype: "int64", shape: [3], data: BigInt64Array.of(2n, 1n, 0n) }] as const]
        : []),
      ["images.white", { dtype: "float32", shape: [], data: Float32Array.of(IMAGENET.white) }],
      ["images.mean", perChannel(IMAGENET.mean)],
      ["images.deviation", perChannel(IMAGENET.deviation)],
    ]),
  };
}

/** One number for each channel of [N, 3, H, W]. */
function perChannel(values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape: [values.length, 1, 1], data: Float32Array.from(values) };
}

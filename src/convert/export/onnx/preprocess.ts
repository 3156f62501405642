import type { Tensor } from "../../../core/tensor.js";
import { int, onnxNode } from "../../formats/onnx/model.js";
import { IMAGENET, type PixelOrder } from "../preprocess.js";
import { castNode, type OnnxFragment } from "./operators.js";
import type { ResolvedOptions } from "./options.js";

/** The value that the stem reads: images as PyTorch's networks take them. */
export const NORMALIZED = "images.normalized";

/** What happens to the file's input before the network, and the value that the stem reads. */
export function lowerInput(
  input: string,
  { preprocess, dtype, ioDtype }: Pick<ResolvedOptions, "preprocess" | "dtype" | "ioDtype">,
): OnnxFragment & { readonly images: string } {
  if (!preprocess) {
    if (dtype === ioDtype) return { images: input, nodes: [] };
    const images = `images.${dtype}`;
    return { images, nodes: [castNode(images, input, dtype)] };
  }
  // Normalised in float32: a float16 of 255 levels has none to spare.
  const wide = ioDtype === "float32" ? input : "images.float32";
  const { nodes, initializers } = lowerPreprocess(wide, preprocess);
  const images = dtype === "float32" ? NORMALIZED : `images.${dtype}`;
  return {
    images,
    nodes: [
      ...(wide === input ? [] : [castNode(wide, input, "float32")]),
      ...nodes,
      ...(images === NORMALIZED ? [] : [castNode(images, NORMALIZED, dtype)]),
    ],
    ...(initializers ? { initializers } : {}),
  };
}

/**
 * Pixels [N, 3, H, W] of 0 to 255 to normalised images, (x / 255 − mean) / deviation in this order and in float32, as
 * torchvision computes it: the same bits.
 */
function lowerPreprocess(input: string, order: PixelOrder): OnnxFragment {
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

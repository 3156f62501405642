import type { Tensor } from "../../../../core/tensor.js";
import type { TfjsWeight } from "../../../formats/tfjs/model.js";
import { IMAGENET, type PixelOrder } from "../../preprocess.js";
import type { KerasStep } from "../layers/operators.js";
import { NORMALIZED_LAYER, NORMALIZED_NODE } from "../names.js";
import { dtype, scalar, type TfjsFragment, tfNode, wholeNumbers } from "./fragment.js";

/**
 * Pixels [N, H, W, 3] of 0 to 255 to normalised images, (x / 255 − mean) / deviation in this order and in float32, as
 * torchvision computes it: the same bits wherever a division is rounded correctly, as it is in WebAssembly.
 */
export function lowerPreprocess(input: string, order: PixelOrder): TfjsFragment {
  const [rgb, scaled, centered] = ["images/rgb", "images/scaled", "images/centered"];
  const swap = order === "bgr";
  return {
    nodes: [
      ...(swap
        ? [tfNode(rgb, "ReverseV2", [input, "images/channel_axis"], { Tidx: dtype("DT_INT32") })]
        : []),
      tfNode(scaled, "RealDiv", [swap ? rgb : input, "images/white"]),
      tfNode(centered, "Sub", [scaled, "images/mean"]),
      tfNode(NORMALIZED_NODE, "RealDiv", [centered, "images/deviation"]),
    ],
    constants: new Map<string, Tensor<"float32" | "int32">>([
      ...(swap ? [["images/channel_axis", wholeNumbers(3)] as const] : []),
      ["images/white", scalar(IMAGENET.white)],
      ["images/mean", perChannel(IMAGENET.mean)],
      ["images/deviation", perChannel(IMAGENET.deviation)],
    ]),
  };
}

/**
 * The same as a Keras layer, which has no division by channel: a convolution of one pixel, x / (255 · deviation) −
 * mean / deviation for each channel, in the order of RGB. It is no part of training.
 */
export const NORMALIZED_STEP: KerasStep = {
  className: "Conv2D",
  config: {
    data_format: "channels_last",
    filters: 3,
    kernel_size: [1, 1],
    strides: [1, 1],
    padding: "valid",
    dilation_rate: [1, 1],
    activation: "linear",
    use_bias: true,
    trainable: false,
  },
};

/** The weights of that layer: kernel [1, 1, in, out], whose zeros add nothing, and bias. */
export function normalizedWeights(order: PixelOrder): ReadonlyMap<string, TfjsWeight> {
  const { white, mean, deviation } = IMAGENET;
  const kernel = new Float32Array(9);
  for (let channel = 0; channel < 3; channel++) {
    const pixelChannel = order === "bgr" ? 2 - channel : channel;
    kernel[pixelChannel * 3 + channel] = 1 / (white * (deviation[channel] ?? 1));
  }
  const bias = deviation.map((value, channel) => -(mean[channel] ?? 0) / value);
  return new Map([
    [`${NORMALIZED_LAYER}/kernel`, { tensor: { dtype: "float32", shape: [1, 1, 3, 3], data: kernel } }],
    [`${NORMALIZED_LAYER}/bias`, { tensor: perChannel(bias) }],
  ]);
}

/** One number for each channel, which comes last. */
function perChannel(values: readonly number[]): Tensor<"float32"> {
  return { dtype: "float32", shape: [values.length], data: Float32Array.from(values) };
}

import type { Op } from "../../../../arch/ops.js";
import type { Tensor } from "../../../../tensor.js";
import {
  bool,
  float,
  reduction,
  scalar,
  type TfjsFragment,
  type TfjsSite,
  text,
  tfNode,
  wholeNumbers,
} from "./fragment.js";
import { spatialMean } from "./spatial-mean.js";

/**
 * Instance norm: over height and width of each image and channel. x·s + (β − mean·s) with s = γ / √(variance + ε), which
 * is PyTorch's own order of operations and one pass over the map less than centring it; the variance is the biased one,
 * of centred values.
 */
export function lowerInstanceNorm(op: Op<"instanceNorm">, site: TfjsSite): TfjsFragment {
  const { name, inputs, weights, inputShape } = site;
  const { weight = "", bias = "" } = weights;
  const [x = ""] = inputs;
  const part = (suffix: string): string => `${name}/${suffix}`;
  const mean = spatialMean(part("mean"), x, inputShape);
  const variance = spatialMean(part("variance"), part("squares"), inputShape);
  return {
    nodes: [
      ...mean.nodes,
      tfNode(part("squares"), "SquaredDifference", [x, part("mean")]),
      ...variance.nodes,
      ...scaleNodes(name, part("variance"), weight),
      tfNode(part("moved"), "Mul", [part("mean"), part("scale")]),
      tfNode(part("shift"), "Sub", [bias, part("moved")]),
      tfNode(part("scaled"), "Mul", [x, part("scale")]),
      tfNode(name, "AddV2", [part("scaled"), part("shift")]),
    ],
    constants: new Map([
      ...(mean.constants ?? []),
      ...(variance.constants ?? []),
      [part("epsilon"), scalar(op.epsilon)],
    ]),
  };
}

const LAYER_AXES = "layer_axes";

/**
 * Layer norm: over all of an image, which is one pixel of a few channels, with a weight for each channel. Centred first:
 * of a single channel nothing is left but β, exactly.
 */
export function lowerLayerNorm(op: Op<"layerNorm">, site: TfjsSite): TfjsFragment {
  const { name, inputs, weights } = site;
  const { weight = "", bias = "" } = weights;
  const [x = ""] = inputs;
  const part = (suffix: string): string => `${name}/${suffix}`;
  return {
    nodes: [
      reduction(part("mean"), "Mean", x, LAYER_AXES),
      tfNode(part("centered"), "Sub", [x, part("mean")]),
      tfNode(part("squares"), "Square", [part("centered")]),
      reduction(part("variance"), "Mean", part("squares"), LAYER_AXES),
      ...scaleNodes(name, part("variance"), weight),
      tfNode(part("scaled"), "Mul", [part("centered"), part("scale")]),
      tfNode(name, "AddV2", [part("scaled"), bias]),
    ],
    constants: new Map<string, Tensor<"float32" | "int32">>([
      [LAYER_AXES, wholeNumbers(1, 2, 3)],
      [part("epsilon"), scalar(op.epsilon)],
    ]),
  };
}

/** γ / √(variance + ε), as `NAME/scale`. */
function scaleNodes(name: string, variance: string, weight: string): TfjsFragment["nodes"] {
  const part = (suffix: string): string => `${name}/${suffix}`;
  return [
    tfNode(part("stabilized"), "AddV2", [variance, part("epsilon")]),
    tfNode(part("deviation"), "Rsqrt", [part("stabilized")]),
    tfNode(part("scale"), "Mul", [part("deviation"), weight]),
  ];
}

/**
 * Batch norm in evaluation mode. TensorFlow's operator takes images only; after a linear layer it is spelled out, with
 * the same constants.
 */
export function lowerBatchNorm(op: Op<"batchNorm">, site: TfjsSite): TfjsFragment {
  const { name, shape, inputs, weights } = site;
  const { weight = "", bias = "", runningMean = "", runningVar = "" } = weights;
  if (shape.length === 4)
    return {
      nodes: [
        tfNode(name, "FusedBatchNormV3", [...inputs, weight, bias, runningMean, runningVar], {
          U: { type: "dtype", value: "DT_FLOAT" },
          data_format: text("NHWC"),
          epsilon: float(op.epsilon),
          is_training: bool(false),
        }),
      ],
    };
  const part = (suffix: string): string => `${name}/${suffix}`;
  return {
    nodes: [
      ...scaleNodes(name, runningVar, weight),
      tfNode(part("centered"), "Sub", [...inputs, runningMean]),
      tfNode(part("scaled"), "Mul", [part("centered"), part("scale")]),
      tfNode(name, "AddV2", [part("scaled"), bias]),
    ],
    constants: new Map([[part("epsilon"), scalar(op.epsilon)]]),
  };
}

import type { Op } from "../../../../arch/graph.js";
import type { Shape, Tensor } from "../../../../core/tensor.js";
import type { TfjsNode } from "../../../formats/tfjs/model.js";
import {
  bool,
  float,
  overImage,
  reduction,
  scalar,
  type TfjsFragment,
  type TfjsSite,
  text,
  tfNode,
  wholeNumbers,
} from "./fragment.js";

/** The axes of height and width as constants that all layers share. */
const HEIGHT = "height_axis";
const WIDTH = "width_axis";
const AXES: ReadonlyMap<string, Tensor<"int32">> = new Map([
  [HEIGHT, wholeNumbers(1)],
  [WIDTH, wholeNumbers(2)],
]);

/**
 * The mean over height and width, which stay as ones: first of each column, then of their means. Not `Mean` over both:
 * tfjs's WebAssembly moves the channels to the front for it and then adds up all pixels one after the other, which for
 * 64×32 pixels is 9 times farther from the mean and 6 times slower than two average pools.
 *
 * @param shape the map's, NCHW; nothing where its size is not known before it runs, which takes `Mean` twice
 */
export function spatialMean(name: string, input: string, shape: Shape | undefined): TfjsFragment {
  const first = `${name}/columns`;
  if (!shape) return { nodes: meanOfAnySize(name, input), constants: AXES };
  const [, , height = 1, width = 1] = shape;
  // WebAssembly refuses to pool single pixels.
  if (height === 1 && width === 1) return { nodes: [tfNode(name, "Identity", [input])] };
  if (height === 1 || width === 1) return { nodes: [average(name, input, height, width)] };
  return { nodes: [average(first, input, height, 1), average(name, first, 1, width)] };
}

/** The mean of a whole map, or of its columns. */
function average(name: string, input: string, height: number, width: number): TfjsNode {
  const window = overImage([height, width]);
  return tfNode(name, "AvgPool", [input], {
    data_format: text("NHWC"),
    ksize: window,
    strides: window,
    padding: text("VALID"),
  });
}

/** A mean m, and the mean of what is left of every pixel without it, which is how far m is off. */
function meanOfAnySize(name: string, input: string): readonly TfjsNode[] {
  const part = (suffix: string): string => `${name}/${suffix}`;
  const mean = (to: string, from: string, columns: string): readonly TfjsNode[] => [
    reduction(columns, "Mean", from, HEIGHT),
    reduction(to, "Mean", columns, WIDTH),
  ];
  return [
    ...mean(part("rough"), input, part("columns")),
    tfNode(part("rest"), "Sub", [input, part("rough")]),
    ...mean(part("off"), part("rest"), part("off_columns")),
    tfNode(name, "AddV2", [part("rough"), part("off")]),
  ];
}

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

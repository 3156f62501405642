import type { TfjsNode } from "../../../formats/tfjs/index.js";
import { shapeOf } from "../constants.js";
import { add, type Draft } from "../draft.js";
import { same, translate } from "../translation.js";
import { gather, pad, reverse, squeeze, stridedSlice, transpose } from "./layout.js";
import { batchNorm, pool, reduction } from "./maps.js";
import { inverseRoot, square, squaredDifference, sum } from "./pointwise.js";
import { biasAdd, convolution, matrixProduct } from "./products.js";
import type { NodeTranslation } from "./site.js";

/** TensorFlow's operators in ONNX's words (https://www.tensorflow.org/api_docs/cc). */

/** Writes what a node computes under its name. */
export function translateNode(draft: Draft, node: TfjsNode, laterOutputs: readonly string[]): void {
  const { name, op } = node;
  const inputs = node.inputs.filter((input) => !input.startsWith("^")).map(valueName);
  if (op !== "NoOp") translate(TRANSLATIONS, op, { draft, node, inputs, output: name }, DOMAIN);
  for (const output of laterOutputs) add(draft, `a later output of ${op}`, inputs, output, {}, DOMAIN);
}

const DOMAIN = "tensorflow";

/** The value that an input or a signature's entry names: `NAME:1` is a node's second output, `NAME:0` the first. */
export function valueName(reference: string): string {
  return reference.replace(/:0$/, "");
}

const TRANSLATIONS: Readonly<Record<string, NodeTranslation>> = {
  Add: sum,
  AddN: same("Sum"),
  AddV2: sum,
  AvgPool: pool("AveragePool"),
  BiasAdd: biasAdd,
  Cast: same("Cast"),
  ConcatV2: ({ draft, inputs, output }) => shapeOf(draft, inputs.slice(0, -1), output),
  Conv2D: convolution("full"),
  DepthwiseConv2dNative: convolution("depthwise"),
  Div: same("Div"),
  EnsureShape: same("Identity"),
  ExpandDims: same("Unsqueeze"),
  FusedBatchNorm: batchNorm,
  FusedBatchNormV2: batchNorm,
  FusedBatchNormV3: batchNorm,
  FusedDepthwiseConv2dNative: convolution("depthwise"),
  Gather: gather,
  GatherV2: gather,
  Identity: same("Identity"),
  Inv: same("Reciprocal"),
  MatMul: matrixProduct,
  Max: reduction("ReduceMax"),
  MaxPool: pool("MaxPool"),
  Maximum: same("Max"),
  Mean: reduction("ReduceMean"),
  Minimum: same("Min"),
  Mul: same("Mul"),
  Pack: ({ draft, inputs, output }) => shapeOf(draft, inputs, output),
  Pad: pad,
  PadV2: pad,
  Pow: same("Pow"),
  PreventGradient: same("Identity"),
  RealDiv: same("Div"),
  Reciprocal: same("Reciprocal"),
  Relu: same("Relu"),
  Reshape: same("Reshape"),
  ReverseV2: reverse,
  Rsqrt: inverseRoot,
  Shape: same("Shape"),
  Sigmoid: same("Sigmoid"),
  Snapshot: same("Identity"),
  Sqrt: same("Sqrt"),
  Square: square,
  SquaredDifference: squaredDifference,
  Squeeze: squeeze,
  StopGradient: same("Identity"),
  StridedSlice: stridedSlice,
  Sub: same("Sub"),
  Sum: reduction("ReduceSum"),
  Transpose: transpose,
  _FusedConv2D: convolution("full"),
  _FusedMatMul: matrixProduct,
};

import { int, ints, type OnnxAttributeRecord, onnxNode } from "../../formats/onnx/model.js";
import { readAdd, readDiv, readGemm, readMatMul, readMul, readSub } from "./arithmetic.js";
import { joinedColours, readChannelGatherNd, readChannelSlice, readSplit } from "./colours.js";
import {
  constantOf,
  readCast,
  readConstantOfShape,
  readEqual,
  readExpand,
  readNot,
  readTile,
  reshaped,
} from "./constants.js";
import type { Value } from "./foreign.js";
import { NHWC_DOMAIN } from "./layouts.js";
import {
  readBatchNorm,
  readFusedConv,
  readFusedGemm,
  readFusedMatMul,
  readGroupNorm,
  readInstanceNorm,
  readLayerNorm,
  readLpNormalization,
  readRelu,
  readSigmoid,
  readSoftmax,
} from "./norms.js";
import {
  readConvInteger,
  readDequantize,
  readDynamicQuantize,
  readDynamicQuantizeMatMul,
  readMatMulInteger,
  readMatMulIntegerToFloat,
  readQGemm,
  readQLinearAdd,
  readQLinearAveragePool,
  readQLinearConv,
  readQLinearGlobalAveragePool,
  readQLinearMatMul,
  readQLinearMul,
  readQLinearSigmoid,
  readQuantize,
  readStep,
} from "./quantised.js";
import {
  readChannelGather,
  readFlatten,
  readReduceMax,
  readReduceMean,
  readReduceSum,
  readReshape,
  readSqueeze,
  readTranspose,
  readUnsqueeze,
} from "./reshape.js";
import { readConcat, readShape, readSize } from "./shapes.js";
import { asNode, nodeValue, numbers, type OperatorReader, type OperatorSite, text } from "./site.js";
import {
  globalPool,
  readAveragePool,
  readConv,
  readConvTranspose,
  readGroupedConv,
  readIdentity,
  readMaxPool,
  readPad,
} from "./windows.js";

/** Whether a value is the constant 0 or false. */
function isZero(value: Value | undefined): boolean {
  const list = numbers(value);
  return list?.length === 1 && list[0] === 0;
}

/** Passes on its input except in training mode, which is its third input (opset 12). A ratio of 0 has no effect. */
const readDropout: OperatorReader = ({ inputs, output }) => {
  const [input, ratio, training] = inputs;
  const node = asNode(input);
  if (!training || isZero(training) || isZero(ratio)) return input;
  return (
    node &&
    nodeValue(
      { kind: "other", opType: "a dropout in training mode", operands: [] },
      [node],
      node.form,
      output,
    )
  );
};

function readGlobalPool(kind: "globalAvgPool" | "globalMaxPool"): OperatorReader {
  return ({ inputs, output }) => {
    const input = asNode(inputs[0]);
    return input && globalPool(kind, input, output);
  };
}

/** The equations that are another operator, with letters in the order of their first appearance, an activation first. */
const EQUATIONS: Readonly<Record<string, OperatorReader>> = {
  "ab,cb->ac": (site) => readGemm(as(site, "Gemm", { transB: int(1) })),
  "ab,bc->ac": (site) => readGemm(as(site, "Gemm")),
  "abcd,eb->aecd": (site) => {
    const [x, weight] = site.inputs;
    const kernel = weight?.kind === "constant" && reshaped(weight.tensor, [...weight.tensor.shape, 1, 1]);
    return kernel ? readConv({ ...as(site, "Conv"), inputs: [x, { ...weight, tensor: kernel }] }) : undefined;
  },
  "abcd,ab->abcd": (site) => {
    const [map, gate] = site.inputs;
    const output = "";
    const pixel = readUnsqueeze({ ...as(site, "Unsqueeze", { axes: ints(2, 3) }), inputs: [gate], output });
    return readMul({ ...as(site, "Mul"), inputs: [map, pixel] });
  },
  "abcd,abef->abcd": (site) =>
    asNode(site.inputs[1])?.form.rank === "pooled" ? readMul(as(site, "Mul")) : undefined,
  "abcd->ab": (site) => readReduceSum(as(site, "ReduceSum", { axes: ints(2, 3), keepdims: int(0) })),
};

function as(site: OperatorSite, opType: string, attributes: OnnxAttributeRecord = {}): OperatorSite {
  return { ...site, node: onnxNode(site.output, opType, site.node.inputs, attributes) };
}

/** Sums of products by an equation, such as `bi,oi->bo`; undefined if a network has no such operator. */
const readEinsum: OperatorReader = (site) => {
  const equation = text(site.node, "equation", "").replaceAll(" ", "");
  const [, listed = "", result] = /^([a-zA-Z,]+)->([a-zA-Z]+)$/.exec(equation) ?? [];
  const terms = listed.split(",");
  if (result === undefined || terms.length !== site.inputs.length) return undefined;
  const isTurned =
    terms.length === 2 && asNode(site.inputs[0])?.form.rank !== "map" && asNode(site.inputs[1]);
  const inputs = isTurned ? site.inputs.toReversed() : site.inputs;
  const letters = [...new Set((isTurned ? terms.toReversed() : terms).join(""))];
  const renamed = (term: string): string =>
    Array.from(term, (letter) => "abcdefghijkl"[letters.indexOf(letter)] ?? "?").join("");
  const known = `${(isTurned ? terms.toReversed() : terms).map(renamed).join()}->${renamed(result)}`;
  return Object.hasOwn(EQUATIONS, known) ? EQUATIONS[known]?.({ ...site, inputs }) : undefined;
};

/** The meaning of each standard operator that occurs in exports of an OSNet. */
const READERS: Readonly<Record<string, OperatorReader>> = {
  Add: readAdd,
  AveragePool: readAveragePool,
  BatchNormalization: readBatchNorm,
  Cast: readCast,
  CastLike: readCast,
  Concat: (site) => readConcat(site) ?? joinedColours(site),
  Constant: ({ node }) => {
    const tensor = constantOf(node);
    return tensor && { kind: "constant", tensor };
  },
  ConstantOfShape: readConstantOfShape,
  Conv: readConv,
  ConvTranspose: readConvTranspose,
  ConvInteger: readConvInteger,
  DequantizeLinear: readDequantize,
  Div: readDiv,
  Dropout: readDropout,
  DynamicQuantizeLinear: readDynamicQuantize,
  Einsum: readEinsum,
  Equal: readEqual,
  Expand: readExpand,
  Flatten: readFlatten,
  Gather: readChannelGather,
  GatherND: readChannelGatherNd,
  Gemm: readGemm,
  GlobalAveragePool: readGlobalPool("globalAvgPool"),
  GlobalMaxPool: readGlobalPool("globalMaxPool"),
  GroupNormalization: readGroupNorm,
  Identity: readIdentity,
  InstanceNormalization: readInstanceNorm,
  LayerNormalization: readLayerNorm,
  LpNormalization: readLpNormalization,
  MatMul: readMatMul,
  MatMulInteger: readMatMulInteger,
  MaxPool: readMaxPool,
  Mul: (site) => readStep(site) ?? readMul(site),
  Not: readNot,
  Pad: readPad,
  QLinearConv: readQLinearConv,
  QLinearMatMul: readQLinearMatMul,
  QuantizeLinear: readQuantize,
  ReduceMax: readReduceMax,
  ReduceMean: readReduceMean,
  ReduceSum: readReduceSum,
  Relu: readRelu,
  Reshape: readReshape,
  Shape: readShape,
  Sigmoid: readSigmoid,
  Size: readSize,
  Slice: readChannelSlice,
  Softmax: readSoftmax,
  Split: readSplit,
  Squeeze: readSqueeze,
  Sub: readSub,
  Sum: readAdd,
  Tile: readTile,
  Transpose: readTranspose,
  Unsqueeze: readUnsqueeze,
};

/** onnxruntime's operators (`ContribOperators.md`). */
const MICROSOFT: Readonly<Record<string, OperatorReader>> = {
  DequantizeLinear: readDequantize,
  DynamicQuantizeMatMul: readDynamicQuantizeMatMul,
  FusedConv: readFusedConv,
  FusedGemm: readFusedGemm,
  FusedMatMul: readFusedMatMul,
  MatMulIntegerToFloat: readMatMulIntegerToFloat,
  QGemm: readQGemm,
  QLinearAdd: readQLinearAdd,
  QLinearAveragePool: readQLinearAveragePool,
  QLinearGlobalAveragePool: readQLinearGlobalAveragePool,
  QLinearMul: readQLinearMul,
  QLinearSigmoid: readQLinearSigmoid,
  QuantizeLinear: readQuantize,
};

/** The readers of each domain's operators. */
export const DOMAINS: Readonly<Record<string, Readonly<Record<string, OperatorReader>>>> = {
  "": READERS,
  [NHWC_DOMAIN]: { ...READERS, Conv: readGroupedConv },
  "com.microsoft": MICROSOFT,
};

/** The reader of an operator, or undefined for one without a meaning here. */
export function readerOf(opType: string, domain: string): OperatorReader | undefined {
  const readers = Object.hasOwn(DOMAINS, domain) ? DOMAINS[domain] : undefined;
  return readers && Object.hasOwn(readers, opType) ? readers[opType] : undefined;
}

import { DTYPES, type DType, elementCount, type Tensor } from "../../../tensor.js";
import type { Value } from "../foreign.js";
import { NHWC_DOMAIN } from "../layouts.js";
import { readAdd, readDiv, readGemm, readMatMul, readMul, readSub } from "./arithmetic.js";
import { readChannelGather, readChannelSlice } from "./channels.js";
import { constantOf } from "./constants.js";
import { readFusedConv, readFusedGemm, readFusedMatMul } from "./fused.js";
import {
  readFlatten,
  readReduceMax,
  readReduceMean,
  readReshape,
  readSqueeze,
  readTranspose,
  readUnsqueeze,
} from "./layout.js";
import {
  readBatchNorm,
  readClip,
  readInstanceNorm,
  readLayerNorm,
  readLpNormalization,
  readMax,
  readRelu,
  readSigmoid,
} from "./norms.js";
import {
  readConvInteger,
  readDequantize,
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
import { asNode, asTensor, int, nodeValue, numbers, type OperatorReader } from "./site.js";
import { globalPool, readAveragePool, readConv, readGroupedConv, readMaxPool, readPad } from "./windows.js";

const FLOATS: readonly DType[] = ["float16", "bfloat16", "float32", "float64"];

/** What is handed on as it is: in inference, or because only the element type changes. */
const passOn: OperatorReader = ({ inputs }) => inputs[0];

/** Passes its input on but in training, which its third input says (opset 12). A ratio of 0 is none. */
const readDropout: OperatorReader = ({ inputs, output }) => {
  const [input, ratio, training] = inputs;
  const node = asNode(input);
  const isTraining = training !== undefined && numbers(training)?.every((value) => value === 0) !== true;
  if (!isTraining || numbers(ratio)?.every((value) => value === 0)) return input;
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

/** A constant's own bits stay; casts between floating-point types only say how to compute. */
const readCast: OperatorReader = ({ inputs: [input] }) => {
  const tensor = asTensor(input);
  return tensor && !FLOATS.includes(tensor.dtype) ? integers(input) : input;
};

/** Shapes are whole numbers in a line; other concatenations have no place in an OSNet. */
const readConcat: OperatorReader = ({ inputs }) => {
  const parts = inputs.map(numbers);
  const values = parts.flatMap((part) => part ?? []);
  if (!values.every(Number.isInteger) || parts.includes(undefined)) return undefined;
  if (inputs.some((input) => (asTensor(input)?.shape.length ?? 2) > 1)) return undefined;
  return { kind: "constant", tensor: whole(values) };
};

/** The shape of a constant; that of an activation is nothing that is known. */
const readShape: OperatorReader = ({ node, inputs }) => {
  const tensor = asTensor(inputs[0]);
  const { length } = tensor?.shape ?? [];
  const sizes = tensor?.shape.slice(int(node, "start", 0), int(node, "end", length ?? 0));
  return sizes && { kind: "constant", tensor: whole(sizes) };
};

/** One number put into every element of a shape: a bias of zeros. */
const readExpand: OperatorReader = ({ inputs }) => {
  const [tensor, target] = [asTensor(inputs[0]), numbers(inputs[1])];
  if (tensor?.data.length !== 1 || !target?.every((size) => size >= 0)) return undefined;
  const count = elementCount(target);
  if (count > MAX_EXPANDED) return undefined;
  const data = new DTYPES[tensor.dtype](count);
  // One array type on both sides.
  (data as Float32Array).fill(tensor.data[0] as number);
  return { kind: "constant", tensor: { ...tensor, shape: target, data } };
};

/** More channels than an OSNet has; a file may declare any number. */
const MAX_EXPANDED = 1 << 16;

/** As many zeros as a constant shape says, or of another value; only lists of a few whole numbers have a use. */
const readConstantOfShape: OperatorReader = ({ node, inputs }) => {
  const shape = numbers(inputs[0]);
  const [length = 0, ...rest] = shape ?? [];
  const value = node.attributes.get("value");
  const fill = value?.type === "tensor" ? Number(value.value.data[0]) : 0;
  if (!shape || rest.length > 0 || length > MAX_LIST || length < 0 || !Number.isInteger(fill))
    return undefined;
  return { kind: "constant", tensor: whole(Array<number>(length).fill(fill)) };
};

/** Paddings of four axes are eight numbers. */
const MAX_LIST = 64;

function whole(values: readonly number[]): Tensor {
  return { dtype: "int64", shape: [values.length], data: BigInt64Array.from(values, BigInt) };
}

function integers(value: Value | undefined): Value | undefined {
  const [tensor, values] = [asTensor(value), numbers(value)];
  if (!tensor || !values?.every(Number.isInteger)) return undefined;
  return {
    kind: "constant",
    tensor: { dtype: "int64", shape: tensor.shape, data: BigInt64Array.from(values, BigInt) },
  };
}

function readGlobalPool(kind: "globalAvgPool" | "globalMaxPool"): OperatorReader {
  return ({ inputs, output }) => {
    const input = asNode(inputs[0]);
    return input && globalPool(kind, input, output);
  };
}

/** The meaning of each standard operator that occurs in exports of an OSNet. */
const READERS: Readonly<Record<string, OperatorReader>> = {
  Add: readAdd,
  AveragePool: readAveragePool,
  BatchNormalization: readBatchNorm,
  Cast: readCast,
  CastLike: readCast,
  Clip: readClip,
  Concat: readConcat,
  Constant: ({ node }) => {
    const tensor = constantOf(node);
    return tensor && { kind: "constant", tensor };
  },
  ConstantOfShape: readConstantOfShape,
  Conv: readConv,
  ConvInteger: readConvInteger,
  DequantizeLinear: readDequantize,
  Div: readDiv,
  Dropout: readDropout,
  DynamicQuantizeLinear: ({ inputs }) => (asNode(inputs[0]) ? inputs[0] : undefined),
  Expand: readExpand,
  Flatten: readFlatten,
  Gather: readChannelGather,
  Gemm: readGemm,
  GlobalAveragePool: readGlobalPool("globalAvgPool"),
  GlobalMaxPool: readGlobalPool("globalMaxPool"),
  Identity: passOn,
  InstanceNormalization: readInstanceNorm,
  LayerNormalization: readLayerNorm,
  LpNormalization: readLpNormalization,
  MatMul: readMatMul,
  MatMulInteger: readMatMulInteger,
  Max: readMax,
  MaxPool: readMaxPool,
  Mul: (site) => readStep(site) ?? readMul(site),
  Pad: readPad,
  QLinearConv: readQLinearConv,
  QLinearMatMul: readQLinearMatMul,
  QuantizeLinear: readQuantize,
  ReduceMax: readReduceMax,
  ReduceMean: readReduceMean,
  Relu: readRelu,
  Reshape: readReshape,
  Shape: readShape,
  Sigmoid: readSigmoid,
  Slice: readChannelSlice,
  Squeeze: readSqueeze,
  Sub: readSub,
  Sum: readAdd,
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

export { laterOutput } from "./quantised.js";

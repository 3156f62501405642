import type { DType } from "../../../tensor.js";
import type { Value } from "../foreign.js";
import { readAdd, readDiv, readGemm, readMatMul, readMul, readSub } from "./arithmetic.js";
import { constantOf } from "./constants.js";
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
import { readDequantize, readQuantize } from "./quantised.js";
import { asNode, asTensor, numbers, type OperatorReader } from "./site.js";
import { globalPool, readAveragePool, readConv, readMaxPool, readPad } from "./windows.js";

const FLOATS: readonly DType[] = ["float16", "bfloat16", "float32", "float64"];

/** What is handed on as it is: in inference, or because only the element type changes. */
const passOn: OperatorReader = ({ inputs }) => inputs[0];

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
  return {
    kind: "constant",
    tensor: { dtype: "int64", shape: [values.length], data: BigInt64Array.from(values, BigInt) },
  };
};

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
  Clip: readClip,
  Concat: readConcat,
  Constant: ({ node }) => {
    const tensor = constantOf(node);
    return tensor && { kind: "constant", tensor };
  },
  Conv: readConv,
  DequantizeLinear: readDequantize,
  Div: readDiv,
  Dropout: passOn,
  Flatten: readFlatten,
  Gemm: readGemm,
  GlobalAveragePool: readGlobalPool("globalAvgPool"),
  GlobalMaxPool: readGlobalPool("globalMaxPool"),
  Identity: passOn,
  InstanceNormalization: readInstanceNorm,
  LayerNormalization: readLayerNorm,
  LpNormalization: readLpNormalization,
  MatMul: readMatMul,
  Max: readMax,
  MaxPool: readMaxPool,
  Mul: readMul,
  Pad: readPad,
  QuantizeLinear: readQuantize,
  ReduceMax: readReduceMax,
  ReduceMean: readReduceMean,
  Relu: readRelu,
  Reshape: readReshape,
  Sigmoid: readSigmoid,
  Squeeze: readSqueeze,
  Sub: readSub,
  Sum: readAdd,
  Transpose: readTranspose,
  Unsqueeze: readUnsqueeze,
};

/** The reader of an operator, or undefined for one without a meaning here. */
export function readerOf(opType: string, domain: string): OperatorReader | undefined {
  return domain === "" && Object.hasOwn(READERS, opType) ? READERS[opType] : undefined;
}

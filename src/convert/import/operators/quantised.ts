import { filled } from "../../../core/functions.js";
import type { Tensor } from "../../../core/tensor.js";
import { readAdd, readGemm, readMul } from "./arithmetic.js";
import { perChannel } from "./constants.js";
import { type ForeignNode, isKind, type Reading, type Value } from "./foreign.js";
import { readSigmoid } from "./norms.js";
import { asNode, asTensor, int, type OperatorReader, type OperatorSite, replaced } from "./site.js";
import { globalPool, readAveragePool, readConv } from "./windows.js";

/**
 * Quantised networks: QuantizeLinear and DequantizeLinear around float operators, onnxruntime's operators on quantised
 * activations (QLinearConv …), and integer products that are scaled afterwards (ConvInteger). All represent the same
 * network, with rounded weights and activations.
 */

/** The smallest integer of each type of quantised tensors. */
const MIN_INTEGER: Readonly<Record<string, number>> = { int8: -128, uint8: 0, int16: -32_768 };

/**
 * Quantising an activation. If zero is the type's lowest value, everything negative becomes zero, and quantisers omit
 * the ReLU. Its meaning is the dequantised value.
 */
export const readQuantize: OperatorReader = ({ inputs }) => {
  const input = asNode(inputs[0]);
  const step = stepOf(inputs[1], inputs[2]);
  if (!input || !step) return undefined;
  const reading: Reading = { quantised: step };
  if (!clipsNegative(inputs[2]) || isNonNegative(input, 64)) return { kind: "node", node: input, reading };
  const relu: ForeignNode = {
    op: { kind: "relu" },
    inputs: [input],
    constants: {},
    form: input.form,
    value: undefined,
  };
  return { kind: "node", node: relu, reading };
};

/** A scale and zero point that are computed with the activation. */
const DYNAMIC = { scale: Number.NaN, zero: Number.NaN };

/** Quantising an activation by its own range. */
export const readDynamicQuantize: OperatorReader = ({ inputs: [x] }) =>
  x?.kind === "node" ? { ...x, reading: { ...x.reading, quantised: DYNAMIC } } : undefined;

/** A scale and zero point for a whole activation. */
function stepOf(scale: Value | undefined, zero: Value | undefined): Reading["quantised"] {
  const [steps, origins] = [asTensor(scale)?.data, zero ? asTensor(zero)?.data : [0]];
  if (steps?.length !== 1 || origins?.length !== 1) return undefined;
  return { scale: Number(steps[0]), zero: Number(origins[0]) };
}

/**
 * Whether an operator interprets integers by the scale and zero point that they were quantised with. For constants,
 * and integers of unknown scale, the operator defines these.
 */
function isTakenAsGiven(
  value: Value | undefined,
  scale: Value | undefined,
  zero: Value | undefined,
): boolean {
  const given = value?.kind === "node" ? value.reading?.quantised : undefined;
  if (!given) return value?.kind !== "node";
  if (given === DYNAMIC) return scale?.kind === "step" && !scale.factor;
  const taken = stepOf(scale, zero);
  return taken?.scale === given.scale && taken.zero === given.zero;
}

function clipsNegative(zero: Value | undefined): boolean {
  const tensor = asTensor(zero);
  return tensor ? Number(tensor.data[0]) === MIN_INTEGER[tensor.dtype] : true;
}

/** Whether a value cannot be negative, as far as a few steps back show, in all branches together. */
function isNonNegative(node: ForeignNode, steps: number): boolean {
  if (isKind(node, "relu", "sigmoid")) return true;
  return (
    steps > 0 &&
    isKind(node, "maxPool", "avgPool", "globalAvgPool", "globalMaxPool", "flatten", "add", "scale") &&
    node.inputs.every((input) => isNonNegative(input, Math.floor(steps / (1 + node.inputs.length))))
  );
}

export const readDequantize: OperatorReader = ({ inputs, node, output }) => {
  const input = asNode(inputs[0]);
  if (!isTakenAsGiven(inputs[0], inputs[1], inputs[2])) return undefined;
  if (input)
    return input.value === undefined ? replaced(input, { value: output }) : { kind: "node", node: input };
  if (int(node, "block_size", 0) !== 0) return undefined;
  return dequantised(inputs, int(node, "axis", 1));
};

/** (q − zero) · scale: a dequantised weight. One scale per tensor, or one along an axis. */
function dequantised(
  [quantised, scale, zero]: readonly (Value | undefined)[],
  axis: number,
): Value | undefined {
  const [numbers, steps, origin] = [asTensor(quantised), asTensor(scale), asTensor(zero)];
  if (!numbers || !steps || (zero && !origin)) return undefined;
  const { shape, data } = numbers;
  const along = axis < 0 ? axis + shape.length : axis;
  const rows = shape[along] ?? 1;
  const rowLength = shape.slice(along + 1).reduce((product, size) => product * size, 1);
  const scales = perChannel(steps, { rank: "flat", channels: steps.data.length })?.data;
  if (!scales || ![scales, origin?.data ?? [0]].every(({ length }) => length === 1 || length === rows))
    return undefined;
  // Either may be a single number while the other is not.
  const values = filled(new Float32Array(data.length), (index) => {
    const row = Math.floor(index / rowLength) % rows;
    const shift = Number(origin?.data[origin.data.length === 1 ? 0 : row] ?? 0);
    return (Number(data[index]) - shift) * (scales[scales.length === 1 ? 0 : row] ?? 0);
  });
  const rounding = scales.map((step) => Math.abs(step) / 2);
  return { kind: "constant", tensor: { dtype: "float32", shape, data: values }, rounding };
}

/** The product of two scales, one of which may be a vector. */
function scaleProduct(a: Value | undefined, b: Value | undefined): Value | undefined {
  const [left, right] = [asTensor(a)?.data, asTensor(b)?.data];
  if (!left || !right) return undefined;
  const data = filled(
    new Float32Array(Math.max(left.length, right.length)),
    (index) =>
      Number(left[left.length === 1 ? 0 : index] ?? 0) * Number(right[right.length === 1 ? 0 : index] ?? 0),
  );
  return { kind: "constant", tensor: { dtype: "float32", shape: [data.length], data } };
}

/** An operand of an operator on quantised values: activations unchanged, constants dequantised. */
function operand(inputs: readonly (Value | undefined)[]): Value | undefined {
  return asNode(inputs[0]) ? inputs[0] : dequantised(inputs, 0);
}

/** The result of a float operator, quantised by the file's scale and zero point. */
function requantised(
  value: Value | undefined,
  [scale, zero]: readonly (Value | undefined)[],
  output: string,
): Value | undefined {
  const step = asTensor(scale)?.data[0];
  if (value?.kind !== "node" || step === undefined) return undefined;
  const origin = Number(asTensor(zero)?.data[0] ?? 0);
  const reading: Reading = { ...value.reading, quantised: { scale: Number(step), zero: origin } };
  const { node } = value;
  if (!clipsNegative(zero) || isNonNegative(node, 64))
    return { kind: "node", node: node.value === output ? { ...node, reading } : node, reading };
  const before: ForeignNode = { ...node, value: undefined };
  const relu: ForeignNode = {
    op: { kind: "relu" },
    inputs: [before],
    constants: {},
    form: node.form,
    value: output,
    reading,
  };
  return { kind: "node", node: relu, reading };
}

export const readQLinearConv: OperatorReader = (site) => {
  const [x, xScale, xZero, w, wScale, wZero, yScale, yZero, bias] = site.inputs;
  if (!isTakenAsGiven(x, xScale, xZero)) return undefined;
  const weight = dequantised([w, wScale, wZero], 0);
  const inputs = [x, weight, bias && dequantised([bias, scaleProduct(xScale, wScale)], 0)];
  if (!weight || int(site.node, "channels_last", 0) !== 0) return undefined;
  return requantised(readConv({ ...site, inputs }), [yScale, yZero], site.output);
};

export const readQLinearMatMul: OperatorReader = (site) => {
  const [a, aScale, aZero, b, bScale, bZero, yScale, yZero] = site.inputs;
  if (!isTakenAsGiven(a, aScale, aZero)) return undefined;
  const inputs = [a, dequantised([b, bScale, bZero], 1)];
  return requantised(readGemm({ ...site, inputs }), [yScale, yZero], site.output);
};

/** com.microsoft.QGemm: its result is float if it has no output scale. */
export const readQGemm: OperatorReader = (site) => {
  const [a, aScale, aZero, b, bScale, bZero, c, yScale, yZero] = site.inputs;
  if (!isTakenAsGiven(a, aScale, aZero)) return undefined;
  const isTransposed = int(site.node, "transB", 0) === 1;
  const inputs = [
    a,
    dequantised([b, bScale, bZero], isTransposed ? 0 : 1),
    c && dequantised([c, scaleProduct(aScale, bScale)], 0),
  ];
  const value = readGemm({ ...site, inputs });
  return yScale ? requantised(value, [yScale, yZero], site.output) : value;
};

function readQLinearBinary(read: OperatorReader): OperatorReader {
  return (site) => {
    const [a, aScale, aZero, b, bScale, bZero, scale, zero] = site.inputs;
    if (!isTakenAsGiven(a, aScale, aZero) || !isTakenAsGiven(b, bScale, bZero)) return undefined;
    const inputs = [operand([a, aScale, aZero]), operand([b, bScale, bZero])];
    return requantised(read({ ...site, inputs }), [scale, zero], site.output);
  };
}

function readQLinearUnary(read: OperatorReader): OperatorReader {
  return (site) => {
    const [x, xScale, xZero, scale, zero] = site.inputs;
    if (!isTakenAsGiven(x, xScale, xZero)) return undefined;
    if (int(site.node, "channels_last", 0) !== 0) return undefined;
    return requantised(read({ ...site, inputs: [x] }), [scale, zero], site.output);
  };
}

export const readQLinearAdd: OperatorReader = readQLinearBinary(readAdd);
export const readQLinearMul: OperatorReader = readQLinearBinary(readMul);
export const readQLinearSigmoid: OperatorReader = readQLinearUnary(readSigmoid);
export const readQLinearAveragePool: OperatorReader = readQLinearUnary(readAveragePool);
export const readQLinearGlobalAveragePool: OperatorReader = readQLinearUnary(({ inputs, output }) => {
  const input = asNode(inputs[0]);
  return input && globalPool("globalAvgPool", input, output);
});

/** Represents 1: a product of integers is the product of weights whose step is 1, until it is scaled. */
const ONE: Value = { kind: "constant", tensor: { dtype: "float32", shape: [1], data: Float32Array.of(1) } };

export const readConvInteger: OperatorReader = (site) => {
  const [x, w, , wZero] = site.inputs;
  const weight = dequantised([w, ONE, wZero], 0);
  return weight && unscaled(readConv({ ...site, inputs: [x, weight] }));
};

export const readMatMulInteger: OperatorReader = (site) => {
  const [a, b, , bZero] = site.inputs;
  const weight = dequantised([b, ONE, bZero], 1);
  return weight && unscaled(readGemm({ ...site, inputs: [a, weight] }));
};

/** com.microsoft.MatMulIntegerToFloat: a, b, scale of a, scale of b, zeros, bias. */
export const readMatMulIntegerToFloat: OperatorReader = (site) => {
  const [a, b, aScale, bScale, aZero, bZero, bias] = site.inputs;
  if (!isTakenAsGiven(a, aScale, aZero)) return undefined;
  return readGemm({ ...site, inputs: [a, dequantised([b, bScale, bZero], 1), bias] });
};

/** com.microsoft.DynamicQuantizeMatMul: a, b, scale of b, zero of b, bias. */
export const readDynamicQuantizeMatMul: OperatorReader = (site) => {
  const [a, b, bScale, bZero, bias] = site.inputs;
  return readGemm({ ...site, inputs: [a, dequantised([b, bScale, bZero], 1), bias] });
};

/** Removes the name: the value in the file is an integer without its scale, which is not a layer's value. */
function unscaled(value: Value | undefined): Value | undefined {
  return value?.kind === "node" ? replaced(value.node, { value: undefined }) : value;
}

/**
 * A product with the step of a dynamically quantised activation: the weights get the constant factor of the step.
 */
export function readStep({ inputs, output }: OperatorSite): Value | undefined {
  const step = inputs.find((value) => value?.kind === "step");
  if (step?.kind !== "step") return undefined;
  const other = inputs.find((value) => value !== step);
  const tensor = asTensor(other);
  if (tensor && !step.factor) return { kind: "step", factor: tensor };
  const node = asNode(other);
  if (!node || !isKind(node, "conv", "linear") || node.value !== undefined || !step.factor) return undefined;
  const { weight } = node.constants;
  const factor = perChannel(
    { ...step.factor, shape: [step.factor.data.length] },
    { rank: "flat", channels: node.form.channels },
  )?.data;
  if (!weight || !factor) return undefined;
  const rowLength = weight.data.length / factor.length;
  const data = filled(
    new Float32Array(weight.data.length),
    (index) => Number(weight.data[index]) * (factor[Math.floor(index / rowLength)] ?? 0),
  );
  const scaled: Tensor = { dtype: "float32", shape: weight.shape, data };
  const halves = factor.map((step) => Math.abs(step) / 2);
  return replaced(node, {
    value: output,
    constants: { ...node.constants, weight: scaled },
    // A step that is common to all channels follows from the range of all of them.
    roundings: { ...node.roundings, weight: step.factor.data.length === 1 ? halves.subarray(0, 1) : halves },
  });
}

/** The meaning of later outputs of an operator. */
export function laterOutput(opType: string, index: number): Value | undefined {
  if (opType !== "DynamicQuantizeLinear") return undefined;
  return index === 1 ? { kind: "step", factor: undefined } : { kind: "shape" };
}

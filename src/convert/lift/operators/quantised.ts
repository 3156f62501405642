import { type ForeignNode, isKind } from "../foreign.js";
import { perChannel } from "./constants.js";
import { asNode, asTensor, int, nodeValue, type OperatorReader, replaced } from "./site.js";

/**
 * QuantizeLinear and DequantizeLinear around the operators of a float graph: the network behind them is the same, with
 * weights and activations rounded.
 */

/** The least value of each element type that quantised tensors have. */
const LEAST: Readonly<Record<string, number>> = { int8: -128, uint8: 0, int16: -32_768 };

/**
 * Quantising an activation. Where zero is the least value that the type holds, everything negative becomes zero:
 * quantisers leave out the ReLU then. Its value is what dequantising gives.
 */
export const readQuantize: OperatorReader = ({ inputs }) => {
  const [input, zero] = [asNode(inputs[0]), asTensor(inputs[2])];
  if (!input) return undefined;
  const clips = zero ? Number(zero.data[0]) === LEAST[zero.dtype] : true;
  if (!clips || isNonNegative(input, 64)) return { kind: "node", node: input };
  return nodeValue({ kind: "relu" }, [input], input.form, undefined);
};

/** Whether a value cannot be negative, as far as a few steps back tell. */
function isNonNegative(node: ForeignNode, steps: number): boolean {
  if (isKind(node, "relu", "sigmoid")) return true;
  return (
    steps > 0 &&
    isKind(node, "maxPool", "avgPool", "globalAvgPool", "globalMaxPool", "flatten", "add", "scale") &&
    node.inputs.every((input) => isNonNegative(input, Math.floor(steps / 2)))
  );
}

/** q · s − z · s: a quantised weight as the numbers that it stands for. */
export const readDequantize: OperatorReader = ({ inputs, node, output }) => {
  const input = asNode(inputs[0]);
  if (input)
    return input.value === undefined ? replaced(input, { value: output }) : { kind: "node", node: input };
  const [quantised, scale, zero] = [asTensor(inputs[0]), asTensor(inputs[1]), asTensor(inputs[2])];
  if (!quantised || !scale) return undefined;
  const axis = int(node, "axis", 1);
  const rowLength = quantised.shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const scales = perChannel(scale, { rank: "flat", channels: scale.data.length })?.data;
  if (!scales) return undefined;
  const data = Float32Array.from({ length: quantised.data.length }, (_, index) => {
    const row = scales.length === 1 ? 0 : Math.floor(index / rowLength) % scales.length;
    return (
      (Number(quantised.data[index]) - Number(zero?.data[zero.data.length === 1 ? 0 : row] ?? 0)) *
      (scales[row] ?? 0)
    );
  });
  const rounding = scales.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / 2;
  return { kind: "constant", tensor: { dtype: "float32", shape: quantised.shape, data }, rounding };
};

import type { Tensor } from "../../../core/tensor.js";
import { toReal } from "../../../core/tensor-cast.js";
import type { StoredTensor } from "../../formats/tfjs/model.js";
import {
  channelVector,
  factorOf,
  isExactFactor,
  isFloat,
  isOneNumber,
  transposed,
  uniform,
} from "./constants.js";
import {
  type Constants,
  type ForeignNode,
  type Form,
  isKind,
  type Layout,
  type Reading,
  type Value,
} from "./foreign.js";
import { NHWC } from "./layouts.js";
import {
  asNode,
  asTensor,
  constantsOf,
  float,
  int,
  nodeValue,
  type OperatorReader,
  replaced,
} from "./site.js";
import { pointwiseOp, pooledPixels } from "./windows.js";

/** Sums, products and matrix products: what they mean depends on which operands are constants. */

export const readGemm: OperatorReader = ({ node, inputs, output }) => {
  const [input, given, own] = [asNode(inputs[0]), asTensor(inputs[1]), asTensor(inputs[2])];
  const { roundings } = constantsOf({ weight: inputs[1], bias: inputs[2] });
  const factors = [float(node, "alpha", 1), own ? float(node, "beta", 1) : 1] as const;
  const [{ tensor: matrix, left: alpha }, { tensor: bias, left: beta }] = [
    times(given, factors[0], roundings),
    times(own, factors[1], roundings),
  ] as const;
  if (!input || matrix?.shape.length !== 2 || int(node, "transA", 0) !== 0) return undefined;
  if (inputs[2] && !bias) return undefined;
  const weight = int(node, "transB", 0) === 1 ? matrix : transposed(matrix);
  const product = linear(input, weight, output, bias);
  const value =
    (alpha !== 1 || beta !== 1) && product?.kind === "node" && isKind(product.node, "linear")
      ? replaced(product.node, { op: { ...product.node.op, factors: { alpha, beta } } })
      : product;
  return roundings && value?.kind === "node" ? replaced(value.node, { roundings }) : value;
};

/**
 * A constant times a small power of two, which is exact. By any other factor, or if it is quantised, it is not
 * multiplied.
 */
function times(
  tensor: Tensor | undefined,
  factor: number,
  roundings: ForeignNode["roundings"],
): { readonly tensor: Tensor | undefined; readonly left: number } {
  if (factor === 1 || !isExactFactor(factor) || roundings || tensor?.dtype !== "float32")
    return { tensor, left: factor };
  return {
    tensor: { ...tensor, data: (tensor.data as Float32Array).map((value) => value * factor) },
    left: 1,
  };
}

export const readMatMul: OperatorReader = (site) => {
  const { inputs, output, layout } = site;
  const [input, matrix] = [asNode(inputs[0]), asTensor(inputs[1])];
  if (!input || matrix?.shape.length !== 2) return undefined;
  if (input.form.rank === "flat") return readGemm({ ...site, inputs: inputs.slice(0, 2) });
  // Along the last axis of NHWC a matrix product is a pointwise convolution. One channel of one pixel has any layout.
  const own = input.form.rank === "pooled" && input.form.channels === 1 ? NHWC : layout;
  return own?.[3] === 1 ? pointwise(input, transposed(matrix), output, own) : undefined;
};

function pointwise(input: ForeignNode, matrix: Tensor, value: string, layout: Layout): Value {
  const [outChannels = 0, inChannels = 0] = matrix.shape;
  const op = pointwiseOp(inChannels, outChannels);
  const weight = { ...matrix, shape: [outChannels, inChannels, 1, 1] };
  const form: Form = { ...input.form, channels: outChannels };
  const reading: Reading = { layout };
  return {
    kind: "node",
    node: { op, inputs: [input], form, value, constants: { weight }, reading },
    reading,
  };
}

function linear(input: ForeignNode, weight: Tensor, value: string, bias?: Tensor): Value | undefined {
  const [outFeatures = 0, inFeatures = 0] = weight.shape;
  const form: Form = { rank: "flat", channels: outFeatures };
  const vector = channelVector(bias, form);
  if (bias && !vector) return undefined;
  return nodeValue({ kind: "linear", inFeatures, outFeatures }, [input], form, value, {
    weight,
    ...(vector ? { bias: vector } : {}),
  });
}

export const readAdd: OperatorReader = ({ inputs, output }) => {
  const nodes = inputs.flatMap((value) => asNode(value) ?? []);
  const [first] = nodes;
  if (first && nodes.length === inputs.length) {
    const [, second] = nodes;
    if (!second) return { kind: "node", node: first };
    return nodeValue({ kind: "add" }, nodes, first.form, output);
  }
  const constant = inputs.flatMap((value) => asTensor(value) ?? []);
  return first && nodes.length === 1 && constant.length === 1 && inputs.length === 2
    ? shifted(first, constant[0], output)
    : undefined;
};

export const readSub: OperatorReader = ({ inputs, output }) => {
  const [input, constant] = [asNode(inputs[0]), asTensor(inputs[1])];
  return input && constant
    ? shifted(
        input,
        mapTensor(constant, input.form, (value) => -value),
        output,
      )
    : undefined;
};

export const readMul: OperatorReader = ({ inputs: [a, b], output, isHalf }) => {
  const [left, right] = [asNode(a), asNode(b)];
  if (left && right) {
    // The map comes first, as in `arch`.
    const [map, gate] =
      left.form.rank === "pooled" && right.form.rank === "map" ? [right, left] : [left, right];
    return nodeValue({ kind: "scale" }, [map, gate], map.form, output);
  }
  const [input, constant] = [left ?? right, asTensor(a) ?? asTensor(b)];
  if (input) return constant && multiplied(input, constant, output, isHalf);
  return scalarProduct(asTensor(a), asTensor(b));
};

/** Two numbers, as exporters scale the second term of a sum that may be a number: torch's `alpha`. */
function scalarProduct(a: Tensor | undefined, b: Tensor | undefined): Value | undefined {
  if (a?.data.length !== 1 || b?.data.length !== 1 || !(isFloat(a) || isFloat(b))) return undefined;
  const [left, right] = [a, b].map((tensor) =>
    isFloat(tensor) ? (uniform(tensor) ?? Number.NaN) : Number(tensor.data[0]),
  ) as [number, number];
  return { kind: "constant", tensor: { dtype: "float32", shape: [], data: Float32Array.of(left * right) } };
}

export const readDiv: OperatorReader = ({ inputs: [a, b], output, isHalf }) => {
  const [input, constant] = [asNode(a), asTensor(b)];
  return (
    input &&
    constant &&
    multiplied(
      input,
      mapTensor(constant, input.form, (value) => 1 / value),
      output,
      isHalf,
    )
  );
};

/** Adding a per-channel vector: the bias of the layer before if that has none yet, else a separate operation. */
function shifted(input: ForeignNode, constant: Tensor | undefined, value: string): Value | undefined {
  // Programs start sums at 0.
  if (constant && isOneNumber(constant, input.form) && Number(constant.data[0]) === 0)
    return { kind: "node", node: input };
  const bias = channelVector(constant, input.form);
  if (!bias) return undefined;
  if (takesBias(input)) return replaced(input, { value, constants: { ...input.constants, bias } });
  return (
    shiftedTerms(input, bias, value) ?? nodeValue({ kind: "affine" }, [input], input.form, value, { bias })
  );
}

function takesBias(node: ForeignNode): boolean {
  return isKind(node, "conv", "linear", "affine") ? !node.constants.bias : isUnshifted(node);
}

/**
 * A sum plus a vector as the sum of terms with biases: TensorFlow's optimiser adds the constants of sums last, all at once. Between two
 * terms that have no bias it is halved, which is exact; their own are not in the file.
 */
function shiftedTerms(sum: ForeignNode, bias: StoredTensor, value: string): Value | undefined {
  const terms = isKind(sum, "add") ? sum.inputs.filter(takesBias) : [];
  if (terms.length === 0 || terms.length > 2 || new Set(sum.inputs).size < sum.inputs.length)
    return undefined;
  const { shape, data } = toReal(bias, "bias");
  const isOne = terms.length === 1;
  const part: Tensor = isOne
    ? bias
    : { dtype: "float32", shape, data: Float32Array.from(data, (each) => each / 2) };
  const inputs = sum.inputs.map((term) =>
    terms.includes(term)
      ? {
          ...term,
          value: undefined,
          constants: { ...term.constants, bias: part },
          ...(isOne ? {} : { sharedBias: bias }),
        }
      : term,
  );
  return replaced(sum, { inputs, value });
}

function multiplied(input: ForeignNode, constant: Tensor, value: string, isHalf = false): Value | undefined {
  const weight = channelVector(constant, input.form);
  const isIdle = (weight ?? isOneNumber(constant, input.form)) && uniform(constant) === 1;
  if (isIdle) return { kind: "node", node: input };
  if (!weight) return undefined;
  const { weight: own } = input.constants;
  const mean = meanOfSum(input, uniform(weight));
  if (mean) return replaced(mean, { value });
  const whole = withoutFactors(input, uniform(weight), isHalf);
  if (whole) return { kind: "node", node: whole };
  if (isUnshifted(input) && (!own || uniform(own) === 1))
    return replaced(input, { value, constants: { ...input.constants, weight } });
  return nodeValue({ kind: "affine" }, [input], input.form, value, { weight });
}

/**
 * The value before two products with a small power of two and its inverse, which changes no number unless it
 * overflows; a chain of such products may overflow.
 */
function withoutFactors(
  input: ForeignNode,
  factor: number | undefined,
  isHalf: boolean,
): ForeignNode | undefined {
  const [source] = input.inputs;
  const first = factorOf(input);
  if (first === undefined || factor === undefined || first * factor !== 1) return undefined;
  return isExactFactor(factor, isHalf) && source && factorOf(source) === undefined ? source : undefined;
}

/** The mean over the pixels of a map, from their sum and the inverse of their number. */
function meanOfSum(sum: ForeignNode, factor: number | undefined): ForeignNode | undefined {
  const [mean] = sum.inputs;
  const pixels = mean?.value === undefined ? pooledPixels(mean) : undefined;
  const isMean = pixels !== undefined && factorOf(sum) === pixels && factor === Math.fround(1 / pixels);
  return isMean ? mean : undefined;
}

/** A normalisation whose own bias is zero, so that a following constant may be its weight or bias. */
function isUnshifted(input: ForeignNode): boolean {
  const { bias }: Constants = input.constants;
  return isKind(input, "instanceNorm", "layerNorm") && (!bias || uniform(bias) === 0);
}

function mapTensor(tensor: Tensor, { channels = 1 }: Form, change: (value: number) => number): Tensor {
  // Callers ignore integers and constants with more than one value per channel.
  if (!isFloat(tensor) || tensor.data.length > channels) return tensor;
  const { data } = toReal(tensor, "constant");
  return { dtype: "float64", shape: tensor.shape, data: Float64Array.from(data, change) };
}

import type { ParameterRole } from "../../../arch/index.js";
import type { Tensor } from "../../../core/tensor.js";
import { float as floatAttribute, type OnnxNode, onnxNode } from "../../formats/onnx/model.js";
import { readGemm } from "./arithmetic.js";
import { uniform } from "./constants.js";
import { centredOf } from "./decompositions.js";
import { type ForeignNode, type ForeignOp, isKind, type Value } from "./foreign.js";
import { piecesOf, simplest } from "./pieces.js";
import {
  asNode,
  asTensor,
  constantsOf,
  float,
  floats,
  frontAxes,
  int,
  nodeValue,
  numbers,
  type OperatorReader,
  type OperatorSite,
  text,
} from "./site.js";
import { readConv } from "./windows.js";

/** Normalisations and activations that are one operator. */

export const readBatchNorm: OperatorReader = ({ node, inputs, output, batch }) => {
  const input = asNode(inputs[0]);
  const [weight, bias, runningMean, runningVar] = inputs.slice(1).map(asTensor);
  if (!input || !weight || !bias) return undefined;
  const epsilon = float(node, "epsilon", 1e-5);
  // For a single image, the statistics of the batch are those of the image.
  if (isTraining(node) && batch === 1 && input.form.rank === "map" && !input.form.isGuess)
    return normValue({ kind: "instanceNorm", epsilon }, input, output, inputs.slice(1, 3));
  if (isTraining(node))
    return normValue({ kind: "trainingNorm", epsilon }, input, output, inputs.slice(1, 3));
  if (!runningMean || !runningVar) return undefined;
  const op: ForeignOp = { kind: "batchNorm", epsilon };
  const [, ...values] = inputs;
  return normValue(op, input, output, values);
};

/** Before opset 14, a batch norm in training mode is recognised by its additional outputs for the new statistics. */
function isTraining(node: OnnxNode): boolean {
  return int(node, "training_mode", 0) !== 0 || node.outputs.slice(1).some((output) => output !== "");
}

export const readInstanceNorm: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const constants = inputs.slice(1, 3);
  if (!input || constants.some((value) => value && !asTensor(value))) return undefined;
  const op: ForeignOp = { kind: "instanceNorm", epsilon: float(node, "epsilon", 1e-5) };
  return normValue(op, centredOf(input) ?? input, output, constants);
};

/** Groups of one channel each are an instance norm. */
export const readGroupNorm: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const constants = inputs.slice(1, 3);
  const { rank, channels, isGuess } = input?.form ?? {};
  const isByChannel = rank === "map" && !isGuess && int(node, "num_groups", 0) === channels;
  if (!input || constants.length < 2 || !constants.every(asTensor)) return undefined;
  if (!isByChannel) return groupNorm(input, int(node, "num_groups", 0), output);
  return normValue({ kind: "instanceNorm", epsilon: float(node, "epsilon", 1e-5) }, input, output, constants);
};

/** A norm of other groups, which no OSNet has. */
function groupNorm(input: ForeignNode, groups: number, output: string): Value {
  const op: ForeignOp = {
    kind: "other",
    opType: `GroupNormalization with num_groups ${groups}`,
    operands: [],
  };
  return nodeValue(op, [input], input.form, output);
}

/**
 * Over the channels of a pooled map; or, without weights, over the plane of a map, which is an instance norm.
 */
export const readLayerNorm: OperatorReader = ({ node, inputs, output }) => {
  const [input, weight, bias] = [asNode(inputs[0]), asTensor(inputs[1]), asTensor(inputs[2])];
  const [axis] = input ? frontAxes([int(node, "axis", -1)], input.form) : [];
  if (!weight || (inputs[2] && !bias)) return undefined;
  const epsilon = float(node, "epsilon", 1e-5);
  if (input?.form.rank === "pooled" && axis === 1)
    return normValue({ kind: "layerNorm", epsilon }, input, output, inputs.slice(1, 3));
  const isPlain = uniform(weight) === 1 && (!bias || uniform(bias) === 0);
  return input?.form.rank === "map" && axis === 2 && isPlain
    ? normValue({ kind: "instanceNorm", epsilon }, centredOf(input) ?? input, output, [])
    : undefined;
};

const ROLES = ["weight", "bias", "runningMean", "runningVar"] as const satisfies readonly ParameterRole[];

function normValue(
  op: ForeignOp,
  input: ForeignNode,
  value: string,
  inputs: readonly (Value | undefined)[],
): Value {
  const roles = Object.fromEntries(ROLES.map((role, index) => [role, inputs[index]]));
  return { kind: "node", node: { op, inputs: [input], form: input.form, value, ...constantsOf(roles) } };
}

function readActivation(kind: "relu" | "sigmoid"): OperatorReader {
  return ({ inputs, output }) => {
    const input = asNode(inputs[0]);
    return input && nodeValue({ kind }, [input], input.form, output);
  };
}

export const readRelu: OperatorReader = readActivation("relu");
export const readSigmoid: OperatorReader = readActivation("sigmoid");

export const readLpNormalization: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const [axis] = input ? frontAxes([int(node, "axis", -1)], input.form) : [];
  if (!input || int(node, "p", 2) !== 2 || axis !== 1) return undefined;
  return nodeValue({ kind: "l2Normalize", floors: [] }, [input], input.form, output);
};

/** Over the channels of [N, C], which is the meaning of both notations of the axis, before opset 13 and since. */
export const readSoftmax: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const [axis] = input ? frontAxes([int(node, "axis", -1)], input.form) : [];
  return input?.form.rank === "flat" && axis === 1
    ? nodeValue({ kind: "softmax" }, [input], input.form, output)
    : undefined;
};

/**
 * PyTorch's implementation of an instance norm, as the dynamo exporter of 2.1 writes it: reshape [N, C, H, W] to [1,
 * N·C, H, W], batch norm in training mode with the weights repeated N times, and reshape back. Around an in-place
 * ReLU after it, the exporter reshapes forth and back again.
 */

/** The result of a reshape that undoes an earlier one; undefined for any other reshape. */
export function reshapedBack(
  input: ForeignNode,
  target: readonly number[],
  output: string,
): Value | undefined {
  const merged = isKind(input, "trainingNorm") ? input.inputs[0] : input;
  const x =
    merged && isKind(merged, "other") && merged.op.opType === "Reshape" ? merged.inputs[0] : undefined;
  const { channels, size } = x?.form ?? {};
  if (!merged || !isKind(merged, "other") || !x || !channels || !size) return undefined;
  // The number of elements is the same, so the batch size is too.
  const [batch = 0] = target;
  if (String(target) !== String([batch, channels, ...size])) return undefined;
  if (!isKind(input, "trainingNorm")) return { kind: "node", node: x };
  const between = numbers(merged.op.operands[1]);
  return String(between) === String([1, batch * channels, ...size])
    ? instanceNorm(x, input, channels, output)
    : undefined;
}

function instanceNorm(
  x: ForeignNode,
  norm: ForeignNode<"trainingNorm">,
  channels: number,
  output: string,
): Value | undefined {
  const [weight, bias] = [once(norm.constants.weight, channels), once(norm.constants.bias, channels)];
  if (!weight || !bias) return undefined;
  const { epsilon } = norm.op;
  return nodeValue({ kind: "instanceNorm", epsilon }, [x], x.form, output, { weight, bias });
}

/** The vector that a longer one consists of repetitions of; undefined if it does not. */
function once(tensor: Tensor | undefined, length: number): Tensor | undefined {
  const { data } = tensor ?? {};
  if (!tensor || !data || data.length % length !== 0) return undefined;
  for (let index = length; index < data.length; index++)
    if (!Object.is(data[index], data[index - length])) return undefined;
  return { ...tensor, shape: [length], data: data.subarray(0, length) } as Tensor;
}

/**
 * onnxruntime's fused operators, as its optimiser writes them ("extended"): a convolution or matrix product, a sum and
 * an activation in one. Intermediate results are not values of the file.
 */

/** com.microsoft.FusedConv: X, W, B, and Z that is added before the activation. */
export const readFusedConv: OperatorReader = (site) => {
  const [x, weight, bias, z] = site.inputs;
  const conv = inner(readConv({ ...site, inputs: [x, weight, bias] }));
  const addend = asNode(z);
  if (!conv || (z && !addend)) return undefined;
  const sum = addend ? nodeOf({ kind: "add" }, [conv, addend], conv.form) : conv;
  return activated(sum, site, floats(site.node, "activation_params") ?? []);
};

/** com.microsoft.FusedGemm: a Gemm with an activation. */
export const readFusedGemm: OperatorReader = (site) => {
  const gemm = inner(readGemm(site));
  const bounds = ["activation_alpha", "activation_beta"].flatMap((name) =>
    site.node.attributes.has(name) ? [float(site.node, name, 0)] : [],
  );
  return gemm && activated(gemm, site, bounds);
};

/** com.microsoft.FusedMatMul: a matrix product of operands that may be transposed. */
export const readFusedMatMul: OperatorReader = (site) =>
  asNode(site.inputs[0])?.form.rank === "flat"
    ? readGemm({ ...site, inputs: site.inputs.slice(0, 2) })
    : undefined;

function activated(input: ForeignNode, { node, output }: OperatorSite, bounds: readonly number[]): Value {
  const activation = text(node, "activation", "");
  if (activation === "") return { kind: "node", node: { ...input, value: output } };
  const value: Value = { kind: "node", node: input };
  const site = { node: activationNode(activation, bounds), inputs: [value], output };
  const pieces = piecesOf(site);
  const known = (pieces && simplest(pieces, site)) ?? (activation === "Sigmoid" && readSigmoid(site));
  if (!known)
    return nodeValue({ kind: "other", opType: activation, operands: [value] }, [input], input.form, output);
  // If the activation has no effect, the operator's value is the value before it.
  return known === value ? { kind: "node", node: { ...input, value: output } } : known;
}

/** The fused activation as an operator of its own. */
function activationNode(opType: string, [first, second]: readonly number[]): OnnxNode {
  const [one, other] = opType === "Clip" ? ["min", "max"] : ["alpha", "beta"];
  return onnxNode("", opType, [""], {
    ...(first === undefined ? {} : { [one]: floatAttribute(first) }),
    ...(second === undefined ? {} : { [other]: floatAttribute(second) }),
  });
}

/** A node inside a fused operator, whose value is not in the file. */
function inner(value: Value | undefined): ForeignNode | undefined {
  const node = asNode(value);
  return node && { ...node, value: undefined };
}

function nodeOf(op: ForeignOp, inputs: readonly ForeignNode[], form: ForeignNode["form"]): ForeignNode {
  return { op, inputs, form, value: undefined, constants: {} };
}

import type { ParameterRole } from "../../../arch/index.js";
import type { OnnxNode } from "../../formats/onnx/index.js";
import type { ForeignNode, ForeignOp, Value } from "../foreign.js";
import { uniform } from "./constants.js";
import { centredOf } from "./decompositions.js";
import {
  asNode,
  asTensor,
  constantsOf,
  float,
  frontAxes,
  int,
  nodeValue,
  type OperatorReader,
} from "./site.js";

/** Normalisations and activations that are one operator. */

export const readBatchNorm: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const [weight, bias, runningMean, runningVar] = inputs.slice(1).map(asTensor);
  if (!input || !weight || !bias) return undefined;
  const epsilon = float(node, "epsilon", 1e-5);
  if (isTraining(node))
    return normValue({ kind: "trainingNorm", epsilon }, input, output, inputs.slice(1, 3));
  if (!runningMean || !runningVar) return undefined;
  const op: ForeignOp = { kind: "batchNorm", epsilon };
  const [, ...values] = inputs;
  return normValue(op, input, output, values);
};

/** Before opset 14 a batch norm that normalises by the batch is told by giving the new statistics too. */
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

export const readLayerNorm: OperatorReader = ({ node, inputs, output }) => {
  const [input, weight] = [asNode(inputs[0]), asTensor(inputs[1])];
  const [axis] = input ? frontAxes([int(node, "axis", -1)], input.form) : [];
  if (input?.form.rank !== "pooled" || axis !== 1 || !weight || (inputs[2] && !asTensor(inputs[2])))
    return undefined;
  const op: ForeignOp = { kind: "layerNorm", epsilon: float(node, "epsilon", 1e-5) };
  return normValue(op, input, output, inputs.slice(1, 3));
};

const ROLES = ["weight", "bias", "runningMean", "runningVar"] as const satisfies readonly ParameterRole[];

/** A normalisation with its constants in the order in which ONNX's operators take them. */
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

/** Bounds are attributes before opset 11 and inputs after. */
export const readClip: OperatorReader = (site) => {
  const { node, inputs } = site;
  const bound = (at: number, name: string, none: number): number => {
    const [value, tensor] = [inputs[at], asTensor(inputs[at])];
    return value ? ((tensor && uniform(tensor)) ?? Number.NaN) : float(node, name, none);
  };
  const [least, most] = [bound(1, "min", -Infinity), bound(2, "max", Infinity)];
  // Largest float32: how exporters of old wrote "no bound".
  return least === 0 && most >= 3.4e38 ? readRelu(site) : undefined;
};

export const readMax: OperatorReader = (site) => {
  const nodes = site.inputs.filter((value) => value?.kind === "node");
  const [constant] = site.inputs.flatMap((value) => asTensor(value) ?? []);
  if (nodes.length !== 1 || site.inputs.length !== 2 || !constant || uniform(constant) !== 0)
    return undefined;
  return readRelu({ ...site, inputs: nodes });
};

export const readLpNormalization: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const [axis] = input ? frontAxes([int(node, "axis", -1)], input.form) : [];
  if (!input || int(node, "p", 2) !== 2 || axis !== 1) return undefined;
  return nodeValue({ kind: "l2Normalize" }, [input], input.form, output);
};

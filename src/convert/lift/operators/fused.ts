import type { ForeignNode, ForeignOp, Value } from "../foreign.js";
import { readGemm } from "./arithmetic.js";
import { readConv } from "./convolutions.js";
import { asNode, float, floats, nodeValue, type OperatorReader, type OperatorSite, text } from "./site.js";

/**
 * onnxruntime's own operators, as its optimiser writes them ("extended"): a convolution or matrix product, a sum and an
 * activation in one. What happens inside is no value of the file.
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

/** Largest float32: how "no bound" is written. */
const UNBOUNDED = 3.4e38;

function activated(input: ForeignNode, { node, output }: OperatorSite, bounds: readonly number[]): Value {
  const activation = text(node, "activation", "");
  if (activation === "") return { kind: "node", node: { ...input, value: output } };
  return nodeValue(activationOf(activation, bounds, input), [input], input.form, output);
}

function activationOf(
  activation: string,
  [least = 0, most = 0]: readonly number[],
  input: ForeignNode,
): ForeignOp {
  if (activation === "Relu" || (activation === "Clip" && least === 0 && most >= UNBOUNDED))
    return { kind: "relu" };
  if (activation === "Sigmoid") return { kind: "sigmoid" };
  return { kind: "other", opType: activation, operands: [{ kind: "node", node: input }] };
}

/** A node whose value stays inside the operator. */
function inner(value: Value | undefined): ForeignNode | undefined {
  const node = asNode(value);
  return node && { ...node, value: undefined };
}

function nodeOf(op: ForeignOp, inputs: readonly ForeignNode[], form: ForeignNode["form"]): ForeignNode {
  return { op, inputs, form, value: undefined, constants: {} };
}

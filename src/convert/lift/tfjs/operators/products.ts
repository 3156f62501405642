import { int } from "../../../formats/onnx/index.js";
import { addBatchNorm } from "../batch-norm.js";
import { add, addBias } from "../draft.js";
import { addConvolution } from "../windows.js";
import { attribute, isChannelsFirst, type NodeSite, type NodeTranslation, windowOf } from "./site.js";

/** Convolutions and matrix products, with what is fused into them. */

export function convolution(kind: "full" | "depthwise"): NodeTranslation {
  return (site) => {
    const { draft, node, inputs } = site;
    const [x = "", weight = ""] = inputs;
    const window = windowOf(node);
    addConvolution(draft, kind, [x, weight], productName(site), window);
    return addSteps(site, window.channelsFirst);
  };
}

/** x·W. */
export const matrixProduct: NodeTranslation = (site) => {
  const { draft, node, inputs } = site;
  const transposed = (name: string): number => (attribute(node, name, "bool") ? 1 : 0);
  add(draft, "Gemm", inputs.slice(0, 2), productName(site), {
    transA: int(transposed("transpose_a")),
    transB: int(transposed("transpose_b")),
  });
  return addSteps(site, false);
};

export const biasAdd: NodeTranslation = ({ draft, node, inputs: [x = "", b = ""], output }) =>
  addBias(draft, x, b, output, isChannelsFirst(node));

/** What is fused: a bias, a batch norm, an activation, in this order. */
function stepsOf({ node }: NodeSite): readonly string[] {
  return attribute(node, "fused_ops", "strings") ?? [];
}

function productName(site: NodeSite): string {
  return stepsOf(site).length > 0 ? `${site.output}#product` : site.output;
}

/** What a fused operator does to its product, one step after the other; the last has the node's name. */
function addSteps(site: NodeSite, channelsFirst: boolean): string {
  const { draft, node, output } = site;
  const operands = site.inputs.slice(2);
  const steps = stepsOf(site);
  return steps.reduce((value, step, index) => {
    const result = index === steps.length - 1 ? output : `${output}#step-${index}`;
    if (step === "BiasAdd") return addBias(draft, value, operands.shift() ?? "", result, channelsFirst);
    if (step !== "FusedBatchNorm") return add(draft, step, [value, ...operands.splice(0)], result);
    const epsilon = attribute(node, "epsilon", "float") ?? 0;
    return addBatchNorm(draft, { inputs: [value, ...operands.splice(0, 4)], epsilon }, result, channelsFirst);
  }, productName(site));
}

import { float, scalar, texts, tfNode } from "../../src/convert/export/tfjs-operators.js";
import type { TfjsGraphModel } from "../../src/convert/formats/tfjs/model.js";
import { rewrite, withAttributes } from "./rewrite.js";

/** ReLUs by other operators: leaky ones without a slope where they are fused, and the larger of a value and 0. */
export function otherRelus(model: TfjsGraphModel): TfjsGraphModel {
  return rewrite(model, (node, { constant }) => {
    if (node.op === "Relu")
      return [tfNode(node.name, "Maximum", [...node.inputs, constant("zero", scalar(0))])];
    const fused = node.attributes.get("fused_ops");
    if (fused?.type !== "strings" || fused.value.at(-1) !== "Relu") return [node];
    return [withAttributes(node, { fused_ops: texts("BiasAdd", "LeakyRelu"), leakyrelu_alpha: float(0) })];
  });
}

/** Instance norms as (x − mean) · s + β. */
export function centeredNorms(model: TfjsGraphModel): TfjsGraphModel {
  const nodes = new Map(model.nodes.map((node) => [node.name, node]));
  return rewrite(model, (node) => {
    const [, layer = "", part = ""] = node.name.match(/^([^/]*)(?:\/(.*))?$/) ?? [];
    const squares = nodes.get(`${layer}/squares`);
    const [x = "", mean = ""] = squares?.inputs ?? [];
    if (squares?.op !== "SquaredDifference") return [node];
    const centered = `${layer}/centered`;
    const [bias = ""] = nodes.get(`${layer}/shift`)?.inputs ?? [];
    if (part === "squares")
      return [tfNode(centered, "Sub", [x, mean]), tfNode(node.name, "Square", [centered])];
    if (part === "scaled") return [{ ...node, inputs: [centered, `${layer}/scale`] }];
    if (part === "moved" || part === "shift") return [];
    return [part === "" ? { ...node, inputs: [`${layer}/scaled`, bias] } : node];
  });
}

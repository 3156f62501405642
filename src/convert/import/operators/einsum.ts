import { int, ints, type OnnxAttributeRecord, onnxNode } from "../../formats/onnx/model.js";
import { readGemm, readMul } from "./arithmetic.js";
import { reshaped } from "./constants.js";
import { readReduceSum, readUnsqueeze } from "./reshape.js";
import { asNode, type OperatorReader, type OperatorSite, text } from "./site.js";
import { readConv } from "./windows.js";

/** The equations that are another operator, with letters in the order of their first appearance, an activation first. */
const EQUATIONS: Readonly<Record<string, OperatorReader>> = {
  "ab,cb->ac": (site) => readGemm(as(site, "Gemm", { transB: int(1) })),
  "ab,bc->ac": (site) => readGemm(as(site, "Gemm")),
  "abcd,eb->aecd": (site) => {
    const [x, weight] = site.inputs;
    const kernel = weight?.kind === "constant" && reshaped(weight.tensor, [...weight.tensor.shape, 1, 1]);
    return kernel ? readConv({ ...as(site, "Conv"), inputs: [x, { ...weight, tensor: kernel }] }) : undefined;
  },
  "abcd,ab->abcd": (site) => {
    const [map, gate] = site.inputs;
    const output = "";
    const pixel = readUnsqueeze({ ...as(site, "Unsqueeze", { axes: ints(2, 3) }), inputs: [gate], output });
    return readMul({ ...as(site, "Mul"), inputs: [map, pixel] });
  },
  "abcd,abef->abcd": (site) =>
    asNode(site.inputs[1])?.form.rank === "pooled" ? readMul(as(site, "Mul")) : undefined,
  "abcd->ab": (site) => readReduceSum(as(site, "ReduceSum", { axes: ints(2, 3), keepdims: int(0) })),
};

function as(site: OperatorSite, opType: string, attributes: OnnxAttributeRecord = {}): OperatorSite {
  return { ...site, node: onnxNode(site.output, opType, site.node.inputs, attributes) };
}

/** Sums of products by an equation, such as `bi,oi->bo`; undefined for one that is no operator of a network. */
export const readEinsum: OperatorReader = (site) => {
  const equation = text(site.node, "equation", "").replaceAll(" ", "");
  const [, listed = "", result] = /^([a-zA-Z,]+)->([a-zA-Z]+)$/.exec(equation) ?? [];
  const terms = listed.split(",");
  if (result === undefined || terms.length !== site.inputs.length) return undefined;
  const isTurned =
    terms.length === 2 && asNode(site.inputs[0])?.form.rank !== "map" && asNode(site.inputs[1]);
  const inputs = isTurned ? site.inputs.toReversed() : site.inputs;
  const letters = [...new Set((isTurned ? terms.toReversed() : terms).join(""))];
  const renamed = (term: string): string =>
    Array.from(term, (letter) => "abcdefghijkl"[letters.indexOf(letter)] ?? "?").join("");
  const known = `${(isTurned ? terms.toReversed() : terms).map(renamed).join()}->${renamed(result)}`;
  return Object.hasOwn(EQUATIONS, known) ? EQUATIONS[known]?.({ ...site, inputs }) : undefined;
};

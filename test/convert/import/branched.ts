import type { OnnxAttribute, OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { operator, withConstants, withNodes } from "./graphs.js";

/** Graphs that choose by the rank of what they are given, as the dynamo exporter of torch 2.1 writes them. */

/** A condition that is known not to hold. */
export const HOLDS_NOT: Tensor<"bool"> = { dtype: "bool", shape: [], data: Uint8Array.of(0) };

/** A graph of these nodes inside another. */
export function branch(result: string, ...nodes: readonly OnnxNode[]): OnnxAttribute {
  const value = {
    name: result,
    inputs: [],
    outputs: [{ name: result }],
    nodes,
    initializers: new Map<string, Tensor>(),
  };
  return { type: "graph", value };
}

/** An `If` that hands `value` on where `condition` does not hold, and else what no network has. */
function unless(condition: string, value: string, output: string): OnnxNode {
  return operator("If", [condition], output, {
    then_branch: branch(`${output}.then`, operator("Tan", [value], `${output}.then`)),
    else_branch: branch(`${output}.else`, operator("Identity", [value], `${output}.else`)),
  });
}

/** Whether a value has another rank than 4, as `${name}.other`. */
function otherRank(value: string, name: string): readonly OnnxNode[] {
  return [
    operator("Shape", [value], `${name}.shape`),
    operator("Size", [`${name}.shape`], `${name}.rank`),
    operator("Equal", [`${name}.rank`, "four"], `${name}.same`),
    operator("Not", [`${name}.same`], `${name}.other`),
  ];
}

/** A convolution as `aten_convolution` has it: of images that may lack their batch, and transposed or not. */
function atenConvolution(node: OnnxNode): readonly OnnxNode[] {
  const [images = ""] = node.inputs;
  const [output = ""] = node.outputs;
  const batched = `${output}.batched`;
  return [
    ...otherRank(images, output),
    unless(`${output}.other`, images, batched),
    operator("If", ["no"], `${output}.sum`, {
      then_branch: branch("t", operator("ConvTranspose", [batched, ...node.inputs.slice(1)], "t")),
      else_branch: branch("e", { ...node, inputs: [batched, ...node.inputs.slice(1)], outputs: ["e"] }),
    }),
    unless(`${output}.other`, `${output}.sum`, output),
  ];
}

/** The same network with every convolution in branches of which one is taken. */
export function branched(model: OnnxModel): OnnxModel {
  const nodes = withNodes(model, (before) =>
    before.flatMap((node) => (node.opType === "Conv" ? atenConvolution(node) : node)),
  );
  const four: Tensor = { dtype: "int64", shape: [], data: BigInt64Array.of(4n) };
  return withConstants(nodes, { four, no: HOLDS_NOT });
}

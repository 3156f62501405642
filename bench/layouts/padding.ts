import { ints, text, tfNode, wholeNumbers } from "../../src/convert/export/tfjs-operators.js";
import type { TfjsGraphModel, TfjsNode } from "../../src/convert/formats/tfjs/model.js";
import { numbers, rewrite, withAttributes } from "./rewrite.js";

/** `SAME` written out. */
export function explicitlyPadded(model: TfjsGraphModel): TfjsGraphModel {
  return rewrite(model, (node, { weight }) => {
    const [height = 1, width = 1] = weight(node.inputs[1])?.tensor.shape ?? [];
    if (node.attributes.get("padding")?.value !== "SAME") return [node];
    const [rows, columns] = [(height - 1) / 2, (width - 1) / 2];
    const sizes = ints(0, 0, rows, rows, columns, columns, 0, 0);
    return [withAttributes(node, { padding: text("EXPLICIT"), explicit_paddings: sizes })];
  });
}

/** Every padding of a convolution as a `Pad` node before it. */
export function prePadded(model: TfjsGraphModel): TfjsGraphModel {
  return rewrite(explicitlyPadded(model), (node, { constant }): readonly TfjsNode[] => {
    const sizes = numbers(node, "explicit_paddings");
    if (node.attributes.get("padding")?.value !== "EXPLICIT" || !sizes) return [node];
    const padded = `${node.name}/padded`;
    const paddings = constant(`${node.name}/paddings`, { ...wholeNumbers(...sizes), shape: [4, 2] });
    const [input = "", ...others] = node.inputs;
    const valid = withAttributes(node, { padding: text("VALID"), explicit_paddings: undefined });
    return [tfNode(padded, "Pad", [input, paddings]), { ...valid, inputs: [padded, ...others] }];
  });
}

/** Activations in NCHW: transposed before and after every operator that works on pixels. */
export function channelsFirst(model: TfjsGraphModel): TfjsGraphModel {
  return rewrite(model, (node, { constant }) => {
    if (!node.attributes.has("data_format")) return [node];
    const [last, first] = [`${node.name}/nhwc`, `${node.name}/nchw`];
    return [
      { ...node, name: last },
      tfNode(first, "Transpose", [last, constant("to_nchw", wholeNumbers(0, 3, 1, 2))]),
      tfNode(node.name, "Transpose", [first, constant("to_nhwc", wholeNumbers(0, 2, 3, 1))]),
    ];
  });
}

import type { TfjsGraphModel, TfjsNode, TfjsWeight } from "../src/convert/formats/tfjs/index.js";
import { tfNode } from "../src/convert/lower/tfjs/fragment.js";
import type { Tensor } from "../src/tensor.js";

/** Other ways to write the same graph, to be timed beside the one that we write. */

/** Every padding of a convolution as a `Pad` node before it. */
export function prePadded(model: TfjsGraphModel): TfjsGraphModel {
  const weights = new Map(model.weights);
  const nodes = model.nodes.flatMap((node): readonly TfjsNode[] => {
    const sizes = paddings(node);
    if (!sizes) return [node];
    const [padded, constant] = [`${node.name}/padded`, `${node.name}/paddings`];
    weights.set(constant, { tensor: { dtype: "int32", shape: [4, 2], data: Int32Array.from(sizes) } });
    const [input = "", ...others] = node.inputs;
    return [
      constantNode(constant),
      tfNode(padded, "Pad", [input, constant]),
      {
        ...withAttributes(node, { padding: { type: "string", value: "VALID" } }),
        inputs: [padded, ...others],
      },
    ];
  });
  return { ...model, nodes, weights };
}

/** TensorFlow's `SAME` wherever it pads as PyTorch does: at a stride of 1. */
export function samePadded(model: TfjsGraphModel): TfjsGraphModel {
  const nodes = model.nodes.map((node) => {
    const strides = node.attributes.get("strides");
    const even = strides?.type === "ints" && strides.value.every((step) => step === 1);
    return paddings(node) && even
      ? withAttributes(node, { padding: { type: "string", value: "SAME" } })
      : node;
  });
  return { ...model, nodes };
}

/** Depthwise convolutions as dense ones, with zeros between channels. */
export function denseDepthwise(model: TfjsGraphModel): TfjsGraphModel {
  const weights = new Map(model.weights);
  const nodes = model.nodes.map((node) => {
    const [, kernel = ""] = node.inputs;
    const weight = model.weights.get(kernel);
    if (node.op !== "FusedDepthwiseConv2dNative" || !weight) return node;
    weights.set(kernel, dense(weight));
    return { ...node, op: "_FusedConv2D" };
  });
  return { ...model, nodes, weights };
}

/** [height, width, channels, 1] to [height, width, channels, channels]. */
function dense({ tensor }: TfjsWeight): TfjsWeight {
  const [height = 1, width = 1, channels = 1] = tensor.shape;
  const data = new Float32Array(height * width * channels * channels);
  for (let index = 0; index < tensor.data.length; index++)
    data[index * channels + (index % channels)] = Number(tensor.data[index]);
  const result: Tensor<"float32"> = { dtype: "float32", shape: [height, width, channels, channels], data };
  return { tensor: result };
}

function paddings({ attributes }: TfjsNode): readonly number[] | undefined {
  const [padding, sizes] = [attributes.get("padding"), attributes.get("explicit_paddings")];
  return padding?.value === "EXPLICIT" && sizes?.type === "ints" ? sizes.value : undefined;
}

function withAttributes(node: TfjsNode, changed: Parameters<typeof tfNode>[3]): TfjsNode {
  const attributes = new Map([...node.attributes, ...Object.entries(changed ?? {})]);
  attributes.delete("explicit_paddings");
  return { ...node, attributes };
}

function constantNode(name: string): TfjsNode {
  return {
    name,
    op: "Const",
    inputs: [],
    attributes: new Map([["dtype", { type: "dtype", value: "DT_INT32" }]]),
  };
}

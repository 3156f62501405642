import { ints, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { IMAGES } from "../families.js";
import type { Mutation, Operator } from "../mutation.js";
import { replaced, wholes } from "../onnx-edits.js";
import { first } from "../tensors.js";

/** The pooled map read in another order: with one pixel, NHWC and NCHW are the same; images and channels are not. */
export const flattening: Operator = (network) => {
  const node = network.graph.nodes.find(({ op }) => op.kind === "flatten");
  if (!node) return [];
  const at = { layers: [node.name], causes: ["layout"], kinds: ["structure", "numeric"] } as const;
  const faulty = (read: (input: RealTensor) => Float64Array): Mutation["network"] => ({
    ...network,
    instead: new Map([
      [
        node.name,
        (inputs): Tensor<"float64"> => {
          const input = first(inputs);
          return { dtype: "float64", shape: input.shape.slice(0, 2), data: read(input) };
        },
      ],
    ]),
  });
  return [
    {
      ...at,
      operator: "NHWC at the flattening",
      says: "the pooled map is transposed to NHWC before it is flattened",
      network: faulty(({ data }) => Float64Array.from(data)),
      onnx: replaced(node.name, (own) => [
        onnxNode(`${node.name}.moved`, "Transpose", own.inputs.slice(0, 1), { perm: ints(0, 2, 3, 1) }),
        { ...own, inputs: [`${node.name}.moved`] },
      ]),
    },
    {
      ...at,
      operator: "images and channels exchanged at the flattening",
      says: "the pooled maps are read channel by channel",
      network: faulty(({ shape: [images = 1, channels = 1], data }) =>
        Float64Array.from(data, (_, i) => data[(i % images) * channels + Math.floor(i / images)] as number),
      ),
      onnx: replaced(
        node.name,
        (own) => [
          onnxNode(`${node.name}.moved`, "Transpose", own.inputs.slice(0, 1), { perm: ints(1, 0, 2, 3) }),
          onnxNode(node.name, "Reshape", [`${node.name}.moved`, `${node.name}.shape`]),
        ],
        { [`${node.name}.shape`]: wholes(IMAGES.batch, -1) },
      ),
    },
  ];
};

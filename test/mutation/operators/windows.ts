import type { Size2d } from "../../../src/arch/index.js";
import { int, ints } from "../../../src/convert/formats/onnx/model.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import { type Mutation, type Operator, spread } from "../mutation.js";
import { type Instead, withNode } from "../network.js";
import { attribute, operator } from "../onnx-edits.js";
import { type Border, bordered, first } from "../tensors.js";

/** Padding that is not the same on all sides: TensorFlow's SAME at a stride of 2, and the reverse. */
export const padding: Operator = (network) => {
  const layers = [
    ...spread(network, "conv", 1),
    ...spread(network, "maxPool", 1),
    ...spread(network, "conv", 1, ({ op }) => op.kind === "conv" && op.groups > 1),
  ];
  return layers.flatMap((node) => {
    const { op } = node;
    if (op.kind !== "conv" && op.kind !== "maxPool") return [];
    const [pad] = op.padding;
    const outside = op.kind === "maxPool" ? Number.NEGATIVE_INFINITY : 0;
    const sides: readonly (readonly [string, Border])[] = [
      ["one less before, one more after", [-1, -1, 1, 1]],
      ["one more before, one less after", [1, 1, -1, -1]],
      ["one less above, one more below", [-1, 0, 1, 0]],
    ];
    return sides.map(([says, border]): Mutation => {
      const [top, left, bottom, right] = border.map((extra) => pad + extra) as unknown as Border;
      const instead: Instead = (inputs, own) =>
        own([bordered(first(inputs), [top, left, bottom, right], outside)], { ...op, padding: [0, 0] });
      return {
        operator: op.kind === "maxPool" ? "SAME padding of the max-pool" : "asymmetric padding",
        says: `${node.name} padded ${says}`,
        layers: [node.name],
        causes: ["same-padding"],
        kinds: ["structure", "numeric"],
        network: { ...network, instead: new Map([[node.name, instead]]) },
        onnx: (model) => {
          // Folded, the convolution is computed under its batch norm's name.
          const value = model.graph.nodes.some(({ outputs }) => outputs.includes(node.name))
            ? node.name
            : (network.graph.nodes.find(({ inputs }) => inputs.includes(node.name))?.name ?? "");
          return attribute(value, "pads", ints(top, left, bottom, right))(model);
        },
      };
    });
  });
};

/** Averages for maxima, and maxima for averages. */
export const pools: Operator = (network) => {
  const gatePools = spread(network, "globalAvgPool", 2, ({ stream }) => stream !== undefined);
  const last = network.graph.nodes.filter(
    ({ name }) => name === "global_avgpool" || name === "global_maxpool",
  );
  const kernel: Size2d = [2, 2];
  return [
    ...[...gatePools, ...last].map(
      (node): Mutation => ({
        operator: "average ↔ maximum",
        says: `${node.name} by the other`,
        layers: [node.name],
        causes: ["pooling"],
        kinds: ["structure", "numeric"],
        ...(node.stream === undefined ? {} : { notInLayers: true as const }),
        network: withNode(network, node.name, (each) => ({
          ...each,
          op: { kind: each.op.kind === "globalAvgPool" ? "globalMaxPool" : "globalAvgPool" },
        })),
      }),
    ),
    ...spread(network, "avgPool", 1).map(
      (node): Mutation => ({
        operator: "average ↔ maximum",
        says: `${node.name} by maxima`,
        layers: [node.name],
        causes: ["pooling"],
        kinds: ["structure", "numeric"],
        network: withNode(network, node.name, (each) => ({
          ...each,
          op: { kind: "maxPool", kernel, stride: kernel, padding: [0, 0] },
        })),
      }),
    ),
    ...spread(network, "maxPool", 1).map(
      (node): Mutation => ({
        operator: "average ↔ maximum",
        says: `${node.name} by averages`,
        layers: [node.name],
        causes: ["pooling"],
        kinds: ["structure", "numeric"],
        network: {
          ...network,
          instead: new Map([[node.name, (inputs) => averaged(first(inputs))]]),
        },
        onnx: operator(node.name, "AveragePool", {
          kernel_shape: ints(3, 3),
          strides: ints(2, 2),
          pads: ints(1, 1, 1, 1),
          count_include_pad: int(1),
        }),
      }),
    ),
  ];
};

/** Averages of 3×3 windows at every second pixel, zeros around. */
function averaged(input: RealTensor): Tensor<"float64"> {
  const { shape, data } = bordered(input, [1, 1, 1, 1], 0);
  const [images = 1, channels = 1, height = 1, width = 1] = shape;
  const [high, wide] = [Math.floor((height - 3) / 2) + 1, Math.floor((width - 3) / 2) + 1];
  const result = new Float64Array(images * channels * high * wide);
  for (let i = 0; i < result.length; i++) {
    const [plane, y, x] = [Math.floor(i / high / wide), Math.floor(i / wide) % high, i % wide];
    for (let tap = 0; tap < 9; tap++)
      result[i] =
        (result[i] as number) +
        (data[(plane * height + 2 * y + Math.floor(tap / 3)) * width + 2 * x + (tap % 3)] as number) / 9;
  }
  return { dtype: "float64", shape: [images, channels, high, wide], data: result };
}

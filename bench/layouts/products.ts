import { type LayerGraph, outputShapes } from "../../src/arch/index.js";
import { VALUE_NAMES } from "../../src/convert/export/tfjs-names.js";
import { bool, dtype, tfNode, wholeNumbers } from "../../src/convert/export/tfjs-operators.js";
import type { TfjsGraphModel, TfjsNode } from "../../src/convert/formats/tfjs/model.js";
import type { Tensor } from "../../src/core/tensor.js";
import { numbers, rewrite, withAttributes } from "./rewrite.js";

/** Depthwise convolutions as dense ones, with zeros between channels. */
export function denseDepthwise(model: TfjsGraphModel): TfjsGraphModel {
  return rewrite(model, (node, { weight, replace }) => {
    const [, kernel = ""] = node.inputs;
    const tensor = weight(kernel)?.tensor;
    if (node.op !== "FusedDepthwiseConv2dNative" || !tensor) return [node];
    replace(kernel, dense(tensor));
    return [{ ...node, op: "_FusedConv2D" }];
  });
}

/** [height, width, channels, 1] to [height, width, channels, channels]. */
function dense(tensor: Tensor): Tensor<"float32"> {
  const [height = 1, width = 1, channels = 1] = tensor.shape;
  const data = new Float32Array(height * width * channels * channels);
  for (let index = 0; index < tensor.data.length; index++)
    data[index * channels + (index % channels)] = Number(tensor.data[index]);
  return { dtype: "float32", shape: [height, width, channels, channels], data };
}

const PRODUCTS: Readonly<Record<string, string>> = { Conv2D: "MatMul", _FusedConv2D: "_FusedMatMul" };

/** Convolutions of one pixel as matrix products of all pixels: everywhere, or in gates, whose maps are one pixel. */
export function pointwiseAsMatMul(graph: LayerGraph, where: "all" | "gates") {
  return (model: TfjsGraphModel): TfjsGraphModel => {
    const { of } = VALUE_NAMES["graph-model"];
    const shapes = new Map(
      Array.from(outputShapes(graph, [1, 3, 256, 128]), ([layer, shape]) => [of(layer), shape] as const),
    );
    return rewrite(model, (node, { weight, replace, constant }): readonly TfjsNode[] => {
      const [input = "", kernel = "", ...bias] = node.inputs;
      const tensor = weight(kernel)?.tensor;
      const [height, width, inputs = 1, outputs = 1] = tensor?.shape ?? [];
      const product = PRODUCTS[node.op];
      const isPointwise = tensor?.shape.length === 2 || (height === 1 && width === 1);
      const isWanted = where === "all" || node.name.includes(".gate-");
      if (!product || !tensor || !isPointwise || !isWanted) return [node];
      const matrix = tensor.shape.length === 2 ? tensor.shape : [inputs, outputs];
      replace(kernel, { ...(tensor as Tensor<"float32">), shape: matrix });
      const [, channels = 1, rows = 1, columns = 1] = shapes.get(node.name) ?? [];
      const part = (suffix: string): string => `${node.name}/${suffix}`;
      const reshape = (name: string, from: string, ...sizes: readonly number[]): TfjsNode =>
        tfNode(name, "Reshape", [from, constant(`${name}/shape`, wholeNumbers(...sizes))], {
          Tshape: dtype("DT_INT32"),
        });
      const attributes = { transpose_a: bool(false), transpose_b: bool(false) };
      return [
        reshape(part("pixels"), input, -1, matrix[0] ?? 1),
        withAttributes(
          { ...node, name: part("product"), op: product, inputs: [part("pixels"), kernel, ...bias] },
          {
            ...attributes,
            padding: undefined,
            strides: undefined,
            dilations: undefined,
            data_format: undefined,
          },
        ),
        reshape(node.name, part("product"), -1, rows, columns, channels),
      ];
    });
  };
}

/** Means over a map as one pool, or as `Mean`, instead of two pools over columns and row. */
export function wholeMeans(how: "pool" | "Mean") {
  return (model: TfjsGraphModel): TfjsGraphModel => {
    const nodes = new Map(model.nodes.map((node) => [node.name, node]));
    return rewrite(model, (node, { constant }) => {
      const columns = nodes.get(`${node.name}/columns`);
      if (!columns) return node.name.endsWith("/columns") ? [] : [node];
      const size = [1, numbers(columns, "ksize")?.[1] ?? 1, numbers(node, "ksize")?.[2] ?? 1, 1];
      const window = { type: "ints", value: size } as const;
      if (how === "pool")
        return [withAttributes({ ...node, inputs: columns.inputs }, { ksize: window, strides: window })];
      const inputs = [...columns.inputs, constant("plane_axes", wholeNumbers(1, 2))];
      return [tfNode(node.name, "Mean", inputs, { Tidx: dtype("DT_INT32"), keep_dims: bool(true) })];
    });
  };
}

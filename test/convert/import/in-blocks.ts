import {
  int,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
  text,
} from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";

/**
 * A model as onnxruntime's optimiser saves it on a processor that takes `size` channels at a time: convolutions, pools and what is
 * computed of them element by element, with a ReLU in the convolution before it. After nchwc_transformer.cc and reorder.cpp.
 */
export function inBlocks(model: OnnxModel, size: 8 | 16): OnnxModel {
  return { ...model, graph: graphInBlocks(model.graph, size), customOpsets: new Map([[NCHWC, 1]]) };
}

const NCHWC = "com.microsoft.nchwc";

function graphInBlocks(graph: OnnxGraph, size: number): OnnxGraph {
  const initializers = new Map(graph.initializers);
  const nodes: OnnxNode[] = [];
  /** Values to what they are in blocks, and how many channels they have. */
  const blocks = new Map<string, { readonly name: string; readonly channels: number }>();
  const produced = new Map<string, OnnxNode>();
  const readers = (value: string): readonly OnnxNode[] =>
    graph.nodes.filter(({ inputs }) => inputs.includes(value));
  const give = (value: string, channels: number, node: OnnxNode): void => {
    const name = `${value}@blocks`;
    blocks.set(value, { name, channels });
    produced.set(value, { ...node, outputs: [name] });
    nodes.push({ ...node, outputs: [name] });
  };
  const inBlocksOf = (value: string, channels: number): string => {
    const known = blocks.get(value);
    if (known) return known.name;
    const name = `${value}@in`;
    nodes.push(onnxNode(name, "ReorderInput", [value], {}, NCHWC));
    blocks.set(value, { name, channels });
    return name;
  };
  const plain = new Set<string>();
  const onNchw = (value: string): string => {
    const known = blocks.get(value);
    if (known && produced.has(value) && !plain.has(value)) {
      plain.add(value);
      nodes.push(onnxNode(value, "ReorderOutput", [known.name], { channels: int(known.channels) }, NCHWC));
    }
    return value;
  };
  for (const node of graph.nodes) {
    const [x = "", w = "", b] = node.inputs;
    const [y = ""] = node.outputs;
    const weight = graph.initializers.get(w);
    if (node.opType === "Conv" && weight) {
      const [out = 0, perGroup = 0] = weight.shape;
      const group = node.attributes.get("group");
      const isDepthwise = group?.type === "int" && group.value > 1;
      const isNchw = !isDepthwise && perGroup < size;
      const takes = isDepthwise ? out % size === 0 : isNchw || perGroup % size === 0;
      if (takes) {
        const filled = Math.ceil(out / size) * size;
        initializers.set(`${w}@blocks`, filterInBlocks(weight, size, filled));
        const bias = b === undefined ? undefined : (graph.initializers.get(b) as Tensor<"float32">);
        if (bias)
          initializers.set(`${b}@blocks`, { ...bias, shape: [filled], data: filledUp(bias.data, filled) });
        const inputs = [
          isNchw ? onNchw(x) : inBlocksOf(x, perGroup),
          `${w}@blocks`,
          ...(bias ? [`${b}@blocks`] : []),
        ];
        give(y, out, { ...node, domain: NCHWC, inputs });
        continue;
      }
    }
    const source = blocks.get(x);
    const isPool = ["MaxPool", "AveragePool", "GlobalAveragePool"].includes(node.opType);
    if (isPool && source && source.channels % size === 0) {
      give(y, source.channels, { ...node, domain: NCHWC, inputs: [source.name] });
      continue;
    }
    const conv = produced.get(x);
    if (node.opType === "Relu" && conv?.opType === "Conv" && readers(x).length === 1 && source) {
      const fused = { ...conv, attributes: new Map(conv.attributes).set("activation", text("Relu")) };
      nodes.splice(
        nodes.findIndex(({ outputs }) => outputs[0] === source.name),
        1,
        fused,
      );
      blocks.set(y, source);
      produced.set(y, fused);
      continue;
    }
    if (["Relu", "Sigmoid"].includes(node.opType) && source) {
      give(y, source.channels, { ...node, inputs: [source.name] });
      continue;
    }
    nodes.push({ ...node, inputs: node.inputs.map((name) => onNchw(name)) });
  }
  for (const { name } of graph.outputs) onNchw(name);
  return { ...graph, nodes, initializers };
}

function filledUp(data: Float32Array, length: number): Float32Array {
  const filled = new Float32Array(length);
  filled.set(data);
  return filled;
}

/** OIHW in blocks of output channels, and of input channels where there are as many. */
function filterInBlocks({ shape, data }: Tensor, size: number, filled: number): Tensor {
  const [out = 0, perGroup = 0, height = 0, width = 0] = shape;
  const area = height * width;
  const block = perGroup >= size ? size : 1;
  const elements: number[] = [];
  for (let o = 0; o < filled; o += size)
    for (let i = 0; i < perGroup; i += block)
      for (let place = 0; place < area; place++)
        for (let bi = 0; bi < block; bi++)
          for (let bo = 0; bo < size; bo++)
            elements.push(o + bo < out ? Number(data[((o + bo) * perGroup + i + bi) * area + place]) : 0);
  return { dtype: "float32", shape: [filled, perGroup, height, width], data: Float32Array.from(elements) };
}

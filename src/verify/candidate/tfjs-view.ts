import type { LayerGraph } from "../../arch/index.js";
import { splitRelu } from "../../convert/export/tfjs/index.js";
import { encodeTfjs } from "../../convert/formats/tfjs/codec.js";
import { nodeOf } from "../../convert/formats/tfjs/graph.js";
import type {
  TfjsFiles,
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsModel,
  TfjsNode,
} from "../../convert/formats/tfjs/model.js";
import { readTopology } from "../../convert/formats/tfjs/topology.js";

/** What a TensorFlow.js model computes, by the names that tfjs has for it: of a node, or of a layer's call. */
export interface TfjsView {
  /** The value that images are fed to. */
  readonly input: string | undefined;
  readonly outputs: readonly string[];
  readonly values: ReadonlySet<string>;
  /** Whether a value is that of a convolution or matrix product, its bias added or not. */
  readonly isProduct: (value: string) => boolean;
  /** The files with each of these values in reach. */
  readonly tapped: (files: TfjsFiles) => TfjsFiles;
}

/**
 * @param graph the network, whose ReLUs a graph model may compute together with the layers before them
 * @throws InputError (`format`, `unsupported`) if the topology of a layers model is none
 */
export function tfjsView(model: TfjsModel, graph: LayerGraph, subject: string): TfjsView {
  return model.format === "graph-model" ? graphView(model, graph) : layersView(model, subject);
}

const GRAPH_PRODUCTS: ReadonlySet<string> = new Set([
  "_FusedConv2D",
  "FusedDepthwiseConv2dNative",
  "_FusedMatMul",
  "Conv2D",
  "DepthwiseConv2dNative",
  "MatMul",
]);

/** A layer whose ReLU is computed with it is read from a copy of the graph that computes the two apart. */
function graphView(model: TfjsGraphModel, graph: LayerGraph): TfjsView {
  const split = { ...model, nodes: splitRelu(model.nodes, graph) };
  const nodes = new Map(split.nodes.map((node) => [node.name, node]));
  const isProduct = (name: string): boolean => {
    const node = nodes.get(name);
    const product = node?.op === "BiasAdd" ? nodes.get(nodeOf(node.inputs[0] ?? "")) : node;
    return product !== undefined && GRAPH_PRODUCTS.has(product.op);
  };
  return {
    input: inputNode(model),
    outputs: [...model.signature.outputs.values()].map(({ name }) => nodeOf(name)),
    values: new Set(nodes.keys()),
    isProduct,
    tapped: () => encodeTfjs(split),
  };
}

/** The signature's, or the only placeholder. */
function inputNode({ signature, nodes }: TfjsGraphModel): string | undefined {
  const [declared] = signature.inputs.values();
  return declared ? nodeOf(declared.name) : nodes.find(({ op }: TfjsNode) => op === "Placeholder")?.name;
}

const LAYERS_PRODUCTS: ReadonlySet<string> = new Set(["Conv2D", "DepthwiseConv2D", "Dense"]);

function layersView(model: TfjsLayersModel, subject: string): TfjsView {
  const { calls, outputs } = readTopology(model, subject);
  const classes = new Map(calls.map(({ value, className }) => [value, className]));
  return {
    input: calls.find(({ className }) => className === "InputLayer")?.value,
    outputs,
    values: new Set(classes.keys()),
    isProduct: (value) => LAYERS_PRODUCTS.has(classes.get(value) ?? ""),
    tapped: (files) => files,
  };
}

import { ancestors, type LayerGraph } from "../arch/index.js";
import {
  encodeTfjs,
  nodeOf,
  type TfjsFiles,
  type TfjsGraphModel,
  type TfjsNode,
} from "../convert/formats/tfjs/index.js";
import { layerName, NORMALIZED_NODE, nodeName, splitRelu } from "../convert/lower/tfjs/index.js";
import { InputError } from "../errors.js";
import type { TfjsBackendName } from "./backend.js";
import { tfjsBackend } from "./backends/tfjs.js";
import type { Candidate } from "./candidate.js";
import { foldedLayers } from "./folded-layers.js";
import type { Party } from "./report.js";

/**
 * A graph model as a candidate in tfjs. Layers are found by exact name. A layer whose ReLU is computed with it is read
 * from a copy of the graph that computes the two apart; a convolution or linear layer that is nowhere counts as folded
 * only if the graph computes the batch norm after it by a convolution or matrix product.
 *
 * @throws InputError (`unsupported`) if none of its outputs is a result of the network
 */
export function tfjsCandidate(
  files: TfjsFiles,
  model: TfjsGraphModel,
  graph: LayerGraph,
  party: Party,
  backendName: TfjsBackendName = "tfjs-wasm",
): Candidate {
  const split = { ...model, nodes: splitRelu(model.nodes, graph) };
  const nodes = new Map(split.nodes.map((node) => [node.name, node]));
  const outputs = [...model.signature.outputs.values()].map(({ name }) => nodeOf(name));
  const layerNames = new Set(graph.nodes.map(({ name }) => name));
  const results = outputs.flatMap((node) => {
    const layer = layerName(node);
    return layer !== undefined && layerNames.has(layer) ? [layer] : [];
  });
  const [result] = results;
  const input = inputNode(model);
  if (result === undefined || input === undefined)
    throw new InputError({
      code: "unsupported",
      subject: party.name,
      found: `outputs ${outputs.join(", ") || "without names"}, none of them a layer of the network`,
      expected: "nodes named after torchreid's modules, in the model's signature",
      remedy: "convert the checkpoint with osnet-convert pth2tfjs",
    });
  const needed = ancestors(graph, ...results);
  // The network's input is a node of its own where the model normalises it.
  const computed = graph.nodes
    .filter(({ name }) => needed.has(name))
    .map(({ name, op }) => [name, op.kind === "input" ? NORMALIZED_NODE : nodeName(name)] as const)
    .filter(([, node]) => nodes.has(node));
  const backend = tfjsBackend(
    backendName,
    {
      plain: { program: { files, input }, output: nodeName(result) },
      tapped: { files: encodeTfjs(split), input },
      nodes: new Map(computed),
    },
    party.name,
  );
  return {
    party,
    backend,
    results,
    folded: foldedLayers(
      graph,
      (layer) => nodes.has(nodeName(layer)),
      (layer) => isProduct(nodes, nodeName(layer)),
    ),
    untapped: async (images) => ({ name: result, tensor: await backend.plain(images) }),
  };
}

/** The node that images are fed to: the signature's, or the only placeholder. */
function inputNode({ signature, nodes }: TfjsGraphModel): string | undefined {
  const [declared] = signature.inputs.values();
  return declared ? nodeOf(declared.name) : nodes.find(({ op }) => op === "Placeholder")?.name;
}

const PRODUCTS: ReadonlySet<string> = new Set([
  "_FusedConv2D",
  "FusedDepthwiseConv2dNative",
  "_FusedMatMul",
  "Conv2D",
  "DepthwiseConv2dNative",
  "MatMul",
]);

/** Whether a node is a convolution or matrix product, its bias added or not. */
function isProduct(nodes: ReadonlyMap<string, TfjsNode>, name: string): boolean {
  const node = nodes.get(name);
  if (node?.op === "BiasAdd") return isProduct(nodes, nodeOf(node.inputs[0] ?? ""));
  return node !== undefined && PRODUCTS.has(node.op);
}

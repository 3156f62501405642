import type { LayerGraph, LayerNode, Op, ParameterRole } from "../../arch/index.js";
import {
  fromTensorFlow,
  kerasCall,
  kerasWeights,
  nodeName,
  splitRelu,
} from "../../convert/export/tfjs/index.js";
import { nodeOf } from "../../convert/formats/tfjs/graph.js";
import type {
  StoredTensor,
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsModel,
  TfjsNode,
  TfjsWeight,
} from "../../convert/formats/tfjs/model.js";
import type { Tensor } from "../../core/tensor.js";
import { isDType } from "../../core/tensor-cast.js";
import type { ConstantsOf } from "./compare-weights.js";

/** The constants of a model of ours, in PyTorch's layout. */
export function tfjsConstants(model: TfjsModel, graph: LayerGraph): ConstantsOf {
  return model.format === "graph-model" ? graphConstants(model, graph) : layersConstants(model, graph);
}

function graphConstants({ nodes, weights }: TfjsGraphModel, graph: LayerGraph): ConstantsOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const owned = nodesByLayer(splitRelu(nodes, graph));
  /** The layer whose operation says how weights are laid out: of a folded batch norm, the layer that it absorbed. */
  const ownerOf = (node: LayerNode): LayerNode => {
    const source = layers.get(node.inputs[0] ?? "");
    const absorbs = node.op.kind === "batchNorm" && source && !owned.has(nodeName(source.name));
    return absorbs ? source : node;
  };
  return (node, roles) => {
    const read = (owned.get(nodeName(node.name)) ?? [])
      .flatMap(({ inputs }) => inputs.map(nodeOf))
      // Axes, shapes and epsilons are the layer's own, and no weights.
      .filter((name) => !name.includes("/") && weights.get(name)?.tensor.dtype === "float32");
    const names = roles.map((role, index) => nameOf(node, role, read) ?? read[index]);
    return new Map(
      roles.flatMap((role, index) => {
        const weight = weights.get(names[index] ?? "");
        return constantOf(role, ownerOf(node).op, weight);
      }),
    );
  };
}

/** The constant under the parameter's own name, if the layer reads it: layers of several nodes read theirs in any order. */
function nameOf(node: LayerNode, role: ParameterRole, read: readonly string[]): string | undefined {
  const path = node.parameters[role];
  return path !== undefined && read.includes(path) ? path : undefined;
}

/** Nodes by the layer they belong to: the one of its name, and the steps `NAME/…` before it. */
function nodesByLayer(nodes: readonly TfjsNode[]): ReadonlyMap<string, readonly TfjsNode[]> {
  const byLayer = new Map<string, TfjsNode[]>();
  for (const node of nodes) {
    const [layer = ""] = node.name.split("/", 1);
    byLayer.set(layer, [...(byLayer.get(layer) ?? []), node]);
  }
  return byLayer;
}

function layersConstants({ weights }: TfjsLayersModel, graph: LayerGraph): ConstantsOf {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  return (node, roles) => {
    const { layer } = kerasCall(node.name);
    const source = layers.get(node.inputs[0] ?? "");
    const absorbed = node.op.kind === "batchNorm" && !weights.has(`${layer}/gamma`) ? source : undefined;
    const { op } = absorbed ?? node;
    const names = kerasWeights(op);
    return new Map(roles.flatMap((role) => constantOf(role, op, weights.get(`${layer}/${names[role]}`))));
  };
}

/** A weight of an operation by its role, in PyTorch's layout; none if it is no weight. */
function constantOf(
  role: ParameterRole,
  op: Op,
  weight: TfjsWeight | undefined,
): readonly (readonly [ParameterRole, StoredTensor])[] {
  const tensor = weight?.tensor as Tensor | undefined;
  if (!tensor || !isDType(tensor, "float32")) return [];
  const stored = weight?.stored ? { stored: weight.stored } : {};
  return [[role, { ...fromTensorFlow(op, role, tensor), ...stored }]];
}

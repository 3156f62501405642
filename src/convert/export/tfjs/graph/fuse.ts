import type { LayerGraph, LayerNode, Op } from "../../../../arch/graph.js";
import type { TfjsNode } from "../../../formats/tfjs/model.js";
import { nodeName } from "../names.js";
import { tfNode } from "./fragment.js";

/** A layer to write, with the ReLU that it computes too. */
export interface FusedLayer {
  readonly node: LayerNode;
  /** Name of the ReLU merged into the node: the name of the value that is there in the end. */
  readonly relu?: string;
}

/**
 * Merges every ReLU into the convolution or linear layer that feeds it and nothing else, where that has a bias: tfjs
 * computes the three as one operation. The merged layer stands where it stood, before anything that reads the ReLU.
 *
 * @param kept layers whose values are results of the model
 */
export function fuseRelu({ nodes }: LayerGraph, kept: ReadonlySet<string>): readonly FusedLayer[] {
  const consumers = new Map<string, LayerNode[]>();
  for (const node of nodes)
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node]);
  const merged = new Set<string>();
  const layers: FusedLayer[] = [];
  for (const node of nodes) {
    if (merged.has(node.name)) continue;
    const [only, ...others] = consumers.get(node.name) ?? [];
    const fusable = others.length === 0 && only?.op.kind === "relu" && hasBias(node.op);
    if (!fusable || !only || kept.has(node.name)) {
      layers.push({ node });
      continue;
    }
    merged.add(only.name);
    layers.push({ node, relu: only.name });
  }
  return layers;
}

function hasBias(op: Op): boolean {
  return op.kind === "linear" || (op.kind === "conv" && op.bias);
}

/**
 * The way back, for reading every layer's value: a node that computes a ReLU too becomes the node of the layer before
 * it, and the ReLU a node of its own; likewise with what another program has put in the ReLU's place. Weights are read as before.
 */
export function splitRelu(nodes: readonly TfjsNode[], { nodes: layers }: LayerGraph): readonly TfjsNode[] {
  const names = new Set(nodes.map(({ name }) => name));
  const sources = new Map(
    layers.flatMap(({ name, op, inputs: [source] }) =>
      op.kind === "relu" && source !== undefined ? [[nodeName(name), nodeName(source)] as const] : [],
    ),
  );
  return nodes.flatMap((node) => {
    const source = sources.get(node.name);
    const fused = node.attributes.get("fused_ops");
    const activation = fused?.type === "strings" ? (fused.value.at(-1) ?? "") : "";
    if (source === undefined || names.has(source) || fused?.type !== "strings" || !ALONE.has(activation))
      return node;
    const attributes = new Map(node.attributes);
    attributes.set("fused_ops", { type: "strings", value: fused.value.slice(0, -1) });
    const slope = node.attributes.get("leakyrelu_alpha");
    const own = tfNode(node.name, activation, [source]);
    const sloped =
      activation === "LeakyRelu" && slope ? new Map([...own.attributes, ["alpha", slope]]) : own.attributes;
    return [
      { ...node, name: source, attributes },
      { ...own, attributes: sloped },
    ];
  });
}

/** Activations that may be fused and read nothing else. */
const ALONE: ReadonlySet<string> = new Set(["Relu", "Relu6", "LeakyRelu", "Elu", "Sigmoid"]);

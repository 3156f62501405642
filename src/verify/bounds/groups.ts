import { INPUT_NAME, type LayerGraph, type LayerNode, type ParameterRole } from "../../arch/index.js";

/** A layer that a candidate shows, with what it takes to recompute it from the nearest layers that it shows. */
export interface LayerGroup {
  readonly layer: LayerNode;
  /** In order of computation, `layer` last; those before it are layers that the candidate computes but does not show. */
  readonly nodes: readonly LayerNode[];
  /** Names of the shown layers that the group reads. */
  readonly sources: readonly string[];
  /** Names of the layers in between, which the candidate does not show. */
  readonly hidden: readonly string[];
}

/**
 * Cuts a network at the layers that a candidate shows: every shown layer with the hidden ones that feed it. A batch norm
 * behind a hidden convolution or linear layer is one step with it, since whoever hides the product has folded the two.
 *
 * @param shown names of layers; the images are always shown
 */
export function layerGroups(graph: LayerGraph, shown: ReadonlySet<string>): readonly LayerGroup[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const isShown = (name: string): boolean => name === INPUT_NAME || shown.has(name);
  return graph.nodes.flatMap((layer) => {
    if (!shown.has(layer.name) || layer.op.kind === "input") return [];
    const members: LayerNode[] = [];
    const sources = new Set<string>();
    const visit = (node: LayerNode): void => {
      const step = foldedStep(node, nodes, isShown);
      for (const name of step.inputs) {
        const source = nodes.get(name);
        if (isShown(name)) sources.add(name);
        else if (source && !members.some((member) => member.name === name)) visit(source);
      }
      members.push(step);
    };
    visit(layer);
    const hidden = members.flatMap(({ name, foldedBatchNorm }) => [
      ...(foldedBatchNorm ? [foldedBatchNorm.from] : []),
      ...(name === layer.name ? [] : [name]),
    ]);
    return [{ layer, nodes: members, sources: [...sources], hidden }];
  });
}

function foldedStep(
  norm: LayerNode,
  nodes: ReadonlyMap<string, LayerNode>,
  isShown: (name: string) => boolean,
): LayerNode {
  const product = nodes.get(norm.inputs[0] ?? "");
  if (norm.op.kind !== "batchNorm" || !product || isShown(product.name)) return norm;
  if (product.op.kind !== "conv" && product.op.kind !== "linear") return norm;
  return {
    ...norm,
    op: product.op.kind === "conv" ? { ...product.op, bias: true } : product.op,
    inputs: product.inputs,
    parameters: product.parameters,
    foldedBatchNorm: {
      from: product.name,
      epsilon: norm.op.epsilon,
      parameters: norm.parameters as Readonly<Record<ParameterRole, string>>,
    },
  };
}

/** What a group reads, and what its source is computed from: a faulty layer may have passed its source by. */
export function neededBy(
  { sources }: LayerGroup,
  groups: ReadonlyMap<string, LayerGroup>,
): ReadonlySet<string> {
  return new Set([...sources, ...(groups.get(sources[0] ?? "")?.sources ?? [])]);
}

/** The layers of blocks that others may be mistaken about: what their streams end in, their gates, sums and their terms. */
export function mistakable(graph: LayerGraph): readonly string[] {
  return graph.nodes.flatMap(({ name, op, inputs }) =>
    op.kind === "scale" ? inputs : op.kind === "add" ? [...inputs, name] : [],
  );
}

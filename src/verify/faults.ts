import type { LayerNode } from "../arch/index.js";
import type { Fault } from "./report.js";

/** A fault at a layer of the network. */
export function layerFault(
  node: Pick<LayerNode, "name" | "stream">,
  kind: Fault["kind"],
  margin: number | null,
  explanation: string,
): Fault {
  return {
    layer: node.name,
    ...(node.stream === undefined ? {} : { stream: node.stream }),
    kind,
    margin,
    explanation,
  };
}

/** Whether a layer that is not there needs no fault of its own: it has one, or its whole stream is gone. */
export function explainedBy(
  structure: readonly Pick<Fault, "layer" | "stream">[],
  nodes: ReadonlyMap<string, LayerNode>,
): (node: LayerNode) => boolean {
  const place = ({ block, stream }: Pick<LayerNode, "block" | "stream">): string => `${block} ${stream}`;
  const layers = new Set(structure.map(({ layer }) => layer));
  const streams = new Set(
    structure.flatMap(({ layer, stream }) => {
      const node = nodes.get(layer);
      return node && stream !== undefined ? [place(node)] : [];
    }),
  );
  return (node) => layers.has(node.name) || (node.stream !== undefined && streams.has(place(node)));
}

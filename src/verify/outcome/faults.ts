import type { LayerNode } from "../../arch/index.js";
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

/** All layers that a fault is in: one, or a gate's in several streams. */
export function faultLayers({
  layer,
  stream,
  streams,
}: Pick<Fault, "layer" | "stream" | "streams">): readonly string[] {
  return streams ? streams.map((each) => layer.replace(`[${stream}]`, `[${each}]`)) : [layer];
}

/** Where a fault is, as reports write it: `conv2.0.gate[1–4].fc2`. */
export function faultName({
  layer,
  stream,
  streams = [],
}: Pick<Fault, "layer" | "stream" | "streams">): string {
  const [first, last] = [streams[0], streams.at(-1)];
  if (first === undefined || last === undefined || first === last) return layer;
  const isRange = streams.length > 2 && last - first === streams.length - 1;
  return layer.replace(`[${stream}]`, `[${isRange ? `${first}–${last}` : streams.join(", ")}]`);
}

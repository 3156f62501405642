import type { LayerGraph, LayerNode } from "./graph.js";

/** The layers that read each layer, in network order. */
export function readersOf({ nodes }: LayerGraph): ReadonlyMap<string, readonly LayerNode[]> {
  const readers = new Map<string, LayerNode[]>();
  for (const node of nodes)
    for (const input of node.inputs) readers.set(input, [...(readers.get(input) ?? []), node]);
  return readers;
}

/**
 * Names of the layers that are absent because nothing would read them: each layer that does is such a one itself, or its
 * own departure explains that it does not.
 */
export function unreadLayers(
  graph: LayerGraph,
  isAbsent: (layer: string) => boolean,
  explains: (reader: string) => boolean,
): ReadonlySet<string> {
  const readers = readersOf(graph);
  const unread = new Set<string>();
  for (const { name } of graph.nodes.toReversed()) {
    const own = readers.get(name) ?? [];
    const isUnread = own.every((reader) => unread.has(reader.name) || explains(reader.name));
    if (own.length > 0 && isUnread && isAbsent(name)) unread.add(name);
  }
  return unread;
}

import type { LayerGraph, LayerNode } from "../../arch/index.js";
import type { ForeignNode } from "./foreign.js";
import type { BlockLandmarks } from "./landmarks.js";

/** Where a layer is, if a landmark tells: at a node, or nowhere, because the block lacks it. */
export type Anchors = ReadonlyMap<string, ForeignNode | "absent">;

/** Layers that landmarks place, or know to be absent. */
export function anchorsOf(layers: LayerGraph, blocks: readonly BlockLandmarks[]): Anchors {
  const anchors = new Map<string, ForeignNode | "absent">();
  const members = new Map<string, LayerNode[]>(blockNames(layers).map((name) => [name, []]));
  for (const layer of layers.nodes) members.get(layer.block ?? "")?.push(layer);
  blockNames(layers).forEach((name, index) => {
    const block = blocks[index];
    const place = (layer: string, node: ForeignNode | undefined): void => {
      anchors.set(layer, node ?? "absent");
    };
    place(`${name}.conv1.conv`, block?.conv1);
    place(`${name}.conv3.conv`, block?.conv3);
    if (block?.downsample) place(`${name}.downsample.conv`, block.downsample);
    place(`${name}.aggregate`, block?.aggregate);
    if (block?.sum) place(`${name}.add`, block.sum);
    const placed = new Map<number, number>();
    for (const { name: layer, stream: t, op } of members.get(name) ?? []) {
      if (t === undefined) continue;
      const stream = block?.streams.get(t);
      if (!stream) place(layer, undefined);
      else if (op.kind === "scale" && stream.product) place(layer, stream.product);
      else if (op.kind === "conv" && !layer.includes(".gate[")) {
        const count = placed.get(t) ?? 0;
        placed.set(t, count + 1);
        place(layer, stream.convs[count]);
      }
    }
  });
  return anchors;
}

/** Paths of the residual blocks, in order. */
export function blockNames({ nodes }: LayerGraph): readonly string[] {
  return [...new Set(nodes.flatMap(({ block }) => block ?? []))];
}

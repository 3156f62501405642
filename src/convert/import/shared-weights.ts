import type { LayerGraph } from "../../arch/index.js";
import { sameShape, type Tensor } from "../../core/tensor.js";
import { type Difference, difference } from "./differences.js";
import type { ForeignNode } from "./foreign.js";

/** The gate is one module: all streams of a block must have the same weights, as far as quantising left them so. */
export function gateDifferences(
  graph: LayerGraph,
  nodes: ReadonlyMap<string, ForeignNode>,
): readonly Difference[] {
  const firsts = new Map<string, { readonly layer: string; readonly node: ForeignNode }>();
  return graph.nodes.flatMap((layer) => {
    const path = layer.parameters.weight;
    const node = nodes.get(layer.name);
    if (path === undefined || !node || layer.stream === undefined) return [];
    const first = firsts.get(path);
    if (!first) {
      firsts.set(path, { layer: layer.name, node });
      return [];
    }
    const same = (["weight", "bias"] as const).every((role) => {
      const rounding = [first.node, node].reduce((sum, { roundings }) => sum + largest(roundings?.[role]), 0);
      return sameTensor(first.node.constants[role], node.constants[role], rounding);
    });
    return same ? [] : [difference(layer, "weights of its own", `those of ${first.layer}`)];
  });
}

function largest(roundings: Float32Array | undefined): number {
  return roundings?.reduce((most, value) => Math.max(most, value), 0) ?? 0;
}

/** Whether two constants hold the same numbers: bit for bit, or as far as rounding allows. */
function sameTensor(a: Tensor | undefined, b: Tensor | undefined, rounding: number): boolean {
  if (a === b) return true;
  if (!a || !b || a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  if (rounding > 0)
    return a.data.every((value, index) => Math.abs(Number(value) - Number(b.data[index])) <= rounding);
  const bytes = ({ data }: Tensor): Uint8Array =>
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const right = bytes(b);
  return bytes(a).every((byte, index) => byte === right[index]);
}

import { type LayerGraph, type LayerNode, outputShapes } from "../../arch/index.js";
import { elementCount, type Shape } from "../../core/tensor.js";
import type { Segment } from "../backends/backend.js";
import { layerGroups, mistakable, neededBy } from "../bounds/recompute.js";

/**
 * Elements of a segment, if no stream has more: 20 MiB of float32. Each segment is another run of the candidate, so
 * there should be few; osnet_x1_0 folded has eleven for two images of 256×128.
 */
const SEGMENT_ELEMENTS = 5 * 2 ** 20;

/** The same where a segment is a part of the model, which goes on from those before it: 8 MiB, so that the runtime needs less memory at a time. */
export const PART_ELEMENTS: number = 2 * 2 ** 20;

/**
 * Cuts the layers with values into segments: a run that outputs one of them needs no memory for the others. Everything
 * that a layer is judged by must come from one run, since another may use other kernels and round differently: so a
 * segment has whole streams, and repeats what it reads from other segments.
 *
 * @param shown names of layers
 * @param images [N, 3, H, W]
 * @throws InputError (`tensor`) if the images are too small for the network
 */
export function segmentsOf(
  graph: LayerGraph,
  shown: readonly string[],
  images: Shape,
  elements: number = SEGMENT_ELEMENTS,
): readonly Segment[] {
  const shapes = outputShapes(graph, images);
  const sizeOf = (layers: readonly string[]): number =>
    layers.reduce((sum, name) => sum + elementCount(shapes.get(name) ?? []), 0);
  let segments: readonly (readonly string[])[] = [];
  for (const part of partsOf(graph, new Set(shown))) {
    const last = segments.at(-1) ?? [];
    const fits = sizeOf(last) + sizeOf(part) <= elements;
    segments = fits ? [...segments.slice(0, -1), [...last, ...part]] : [...segments, part];
  }
  const read = readersOf(graph, new Set(shown));
  return segments.map((layers) => {
    const own = new Set(layers);
    const wanted = new Set(layers.flatMap(read));
    return { layers, others: shown.filter((name) => wanted.has(name) && !own.has(name)) };
  });
}

/** The layers of each stream together, those outside of streams one by one. */
function partsOf(graph: LayerGraph, shown: ReadonlySet<string>): readonly (readonly string[])[] {
  const parts: { readonly first: LayerNode; readonly layers: string[] }[] = [];
  for (const node of graph.nodes) {
    if (!shown.has(node.name)) continue;
    const last = parts.at(-1);
    const isSame = last?.first.block === node.block && last?.first.stream === node.stream;
    if (last && isSame && node.stream !== undefined) last.layers.push(node.name);
    else parts.push({ first: node, layers: [node.name] });
  }
  return parts.map(({ layers }) => layers);
}

/** What a layer is judged by: the inputs of its group, and in a stream the ends and gates of its block's streams. */
function readersOf(graph: LayerGraph, shown: ReadonlySet<string>): (layer: string) => readonly string[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const groups = new Map(layerGroups(graph, shown).map((group) => [group.layer.name, group]));
  const ends = mistakable(graph).flatMap((name) => nodes.get(name) ?? []);
  const inStreams = ends.filter(({ stream }) => stream !== undefined);
  return (layer) => {
    const group = groups.get(layer);
    const { block, stream } = nodes.get(layer) ?? {};
    const others = stream === undefined ? [] : inStreams.filter((end) => end.block === block);
    return [...(group ? neededBy(group, groups) : []), ...others.map(({ name }) => name)];
  };
}

import type { LayerGraph, LayerNode } from "../../arch/index.js";
import type { RealTensor } from "../../core/tensor.js";
import type { Vacuity } from "../report.js";
import {
  type Resolution,
  type StreamLayers,
  sameValues,
  type Watch,
  watchGate,
  watchHiddenUnits,
  watchNorm,
  watchPool,
  watchRelu,
  watchStreams,
} from "./layers.js";

/** Embeddings as they come, image after image, and which images they are of. */
export class Embeddings {
  private readonly rows: Float64Array[] = [];

  /** @param tensor [N, D], or [N, …] where the network has no embedding layer */
  add({ shape: [count = 0], data }: RealTensor): void {
    const width = count > 0 ? data.length / count : 0;
    for (let image = 0; image < count; image++)
      this.rows.push(Float64Array.from(data.subarray(image * width, (image + 1) * width)));
  }

  /** Pairs of different images with one embedding. */
  collapsed(images: RealTensor | undefined, share: number): Vacuity["collapsed"] {
    return this.rows.flatMap((row, image) =>
      this.rows
        .slice(0, image)
        .flatMap((other, earlier) =>
          sameValues(other, row, share) && !sameImage(images, earlier, image)
            ? [[earlier, image] as const]
            : [],
        ),
    );
  }
}

function sameImage(images: RealTensor | undefined, a: number, b: number): boolean {
  if (!images) return false;
  const size = images.data.length / (images.shape[0] ?? 1);
  for (let index = 0; index < size; index++)
    if (images.data[a * size + index] !== images.data[b * size + index]) return false;
  return true;
}

/** Finds what images leave untested, from the layer outputs of one run or of several. */
export interface VacuityObserver {
  /**
   * Shows it a layer's output, NCHW or NC. Tensors need not outlive the call; layers may be missing, and what cannot be
   * told without them is not reported.
   */
  observe(name: string, tensor: RealTensor): void;
  /** What is untested by all that was shown; more may be shown afterwards. */
  finish(): Vacuity;
}

/** What counts as tested. */
export interface VacuityOptions extends Partial<Resolution> {
  /** The images [N, 3, H, W] of the run, so that equal ones do not count as collapsed; else all count as different. */
  readonly images?: RealTensor;
}

/** Honest float32 files differ from the reference by up to 4e-5 of max; closer values cannot be told apart by it. */
export const INDISTINGUISHABLE: number = 2 ** -15;

/** float32. */
export const UNIT_ROUNDOFF: number = 2 ** -24;

/**
 * Watches a run for what its images leave untested: a fault there would not show in the values, however wrong it were.
 *
 * - ReLUs that never clip, or always do; hidden units of a gate that never fire, for any image or stream
 * - pools whose windows are all constant
 * - instance and layer norms whose ε does not show (the rule: `watchNorm`)
 * - streams of a block with the same output, or the same gate vector; gates that are constant
 * - different images with the same embedding
 *
 * Each question keeps a few numbers and is dropped when it is answered, so that most tensors are hardly looked at.
 */
export function observeVacuity(graph: LayerGraph, options: VacuityOptions = {}): VacuityObserver {
  const { indistinguishable = INDISTINGUISHABLE, unitRoundoff = UNIT_ROUNDOFF, images } = options;
  const watches = questions(graph, { indistinguishable, unitRoundoff });
  const byLayer = new Map<string, Watch[]>();
  for (const watch of watches)
    for (const layer of watch.layers) byLayer.set(layer, [...(byLayer.get(layer) ?? []), watch]);
  const embeddings = new Embeddings();
  const order = new Map(graph.nodes.map(({ name }, index) => [name, index]));
  return {
    observe(name, tensor) {
      for (const watch of byLayer.get(name) ?? []) watch.look(name, tensor);
      if (name === graph.outputs.features) embeddings.add(tensor);
    },
    finish() {
      // A gate's shared modules, which are no layers of their own, stand where the first stream has them.
      const place = (layer: string): number =>
        order.get(layer) ?? order.get(layer.replace(".gate.", ".gate[1].")) ?? 0;
      return {
        untested: watches
          .flatMap((watch) => watch.untested())
          .toSorted((a, b) => place(a.layer) - place(b.layer)),
        collapsed: embeddings.collapsed(images, indistinguishable),
      };
    },
  };
}

function questions(graph: LayerGraph, resolution: Resolution): readonly Watch[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const gates: readonly (StreamLayers & { readonly block: string })[] = graph.gates;
  const blocks = [...new Set(gates.map(({ block }) => block))];
  return [
    ...graph.nodes.flatMap((node) => watchesOf(node, resolution)),
    ...gates.map((gate) => watchGate(gate, resolution)),
    ...blocks.flatMap((block) => {
      const own = gates.filter((gate) => gate.block === block);
      const hidden = graph.nodes.filter(
        (node) => node.block === block && node.op.kind === "relu" && node.part === "gate",
      );
      return [
        watchHiddenUnits(block, hidden),
        watchStreams(own, "gate", resolution),
        watchStreams(streamOutputs(graph, block, nodes), "output", resolution),
      ];
    }),
  ];
}

function watchesOf(node: LayerNode, resolution: Resolution): readonly Watch[] {
  const { op } = node;
  switch (op.kind) {
    case "relu":
      return [watchRelu(node)];
    case "maxPool":
    case "avgPool":
    case "globalAvgPool":
    case "globalMaxPool":
      return [watchPool(node, op)];
    case "instanceNorm":
    case "layerNorm":
      return [watchNorm(node, op, resolution)];
    default:
      return [];
  }
}

/** What each stream of a block hands to its gate: the first input of the scaling. */
function streamOutputs(
  graph: LayerGraph,
  block: string,
  nodes: ReadonlyMap<string, LayerNode>,
): readonly StreamLayers[] {
  return graph.nodes.flatMap(({ op, inputs: [layer = ""], stream, ...node }) =>
    op.kind === "scale" && node.block === block && stream !== undefined && nodes.has(layer)
      ? [{ stream, layer }]
      : [],
  );
}

import { InputError } from "../core/errors.js";
import { elementCount, formatShape, type Shape } from "../core/tensor.js";
import type { GateOutput, LayerGraph, LayerNode, Op, OpKind, Size2d } from "./graph.js";

type ShapeRule<K extends OpKind> = (op: Op<K>, inputs: readonly Shape[]) => Shape;

const unchanged = (_op: Op, inputs: readonly Shape[]): Shape => inputs[0] ?? [];
const globalPool = (_op: Op, [input = []]: readonly Shape[]): Shape => [input[0] ?? 0, input[1] ?? 0, 1, 1];

/** Output shape of each operation from those of its inputs, NCHW or NC. */
const SHAPE_RULES: { readonly [K in OpKind]: ShapeRule<K> } = {
  input: unchanged,
  conv: (op, [input = []]) => [input[0] ?? 0, op.outChannels, ...slide(op, input)],
  linear: (op, [input = []]) => [input[0] ?? 0, op.outFeatures],
  batchNorm: unchanged,
  instanceNorm: unchanged,
  layerNorm: unchanged,
  relu: unchanged,
  sigmoid: unchanged,
  maxPool: (op, [input = []]) => [input[0] ?? 0, input[1] ?? 0, ...slide(op, input)],
  avgPool: (op, [input = []]) => [input[0] ?? 0, input[1] ?? 0, ...slide({ ...op, padding: [0, 0] }, input)],
  globalAvgPool: globalPool,
  globalMaxPool: globalPool,
  flatten: (_op, [input = []]) => [input[0] ?? 0, input.slice(1).reduce((size, n) => size * n, 1)],
  scale: unchanged,
  add: unchanged,
};

/** Output height and width of a sliding window: ⌊(size + 2·padding − kernel) / stride⌋ + 1. */
function slide(
  op: { readonly kernel: Size2d; readonly stride: Size2d; readonly padding: Size2d },
  input: Shape,
): [number, number] {
  const along = (axis: 0 | 1): number =>
    Math.floor(((input[axis + 2] ?? 0) + 2 * op.padding[axis] - op.kernel[axis]) / op.stride[axis]) + 1;
  return [along(0), along(1)];
}

/**
 * The shape of every layer's output for images [batch, 3, height, width].
 *
 * @throws InputError (`tensor`) if an image is too small: a layer would have no pixels left, or an instance norm only
 * one, for which PyTorch's variance is undefined.
 */
export function outputShapes(graph: LayerGraph, images: Shape): ReadonlyMap<string, Shape> {
  const shapes = new Map<string, Shape>();
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((name) => shapes.get(name) ?? []);
    const rule = SHAPE_RULES[node.op.kind] as (op: Op, inputs: readonly Shape[]) => Shape;
    const shape = node.op.kind === "input" ? images : rule(node.op, inputs);
    const [, , height = 1, width = 1] = shape;
    if (height < 1 || width < 1 || (node.op.kind === "instanceNorm" && height * width < 2))
      throw new InputError({
        code: "tensor",
        subject: `image size ${images[2]}x${images[3]}`,
        found: `an output of ${formatShape(shape)} at layer ${node.name}`,
        expected: node.op.kind === "instanceNorm" ? "more than one pixel to normalise" : "at least one pixel",
        remedy: "use larger images, such as 256x128",
      });
    shapes.set(node.name, shape);
  }
  return shapes;
}

/**
 * Multiply-adds of one forward pass over images [batch, 3, height, width] to the network's evaluation output: the
 * embedding, or the probabilities of an attribute model.
 *
 * Counted as in `torchreid.utils.compute_model_complexity`, and therefore in the papers' tables: convolutions and
 * linear layers only, a bias as one more per output element (divided by the groups), the gate once per stream.
 */
export function multiplyAdds(graph: LayerGraph, images: Shape): number {
  const shapes = outputShapes(graph, images);
  const needed = ancestors(graph, graph.outputs[graph.outputs.evaluation] ?? graph.outputs.features);
  return graph.nodes
    .filter((node) => needed.has(node.name))
    .reduce((sum, node) => sum + layerMultiplyAdds(node, shapes.get(node.name) ?? []), 0);
}

/** A layer's multiply-adds, for an output of this shape. */
export function layerMultiplyAdds({ op }: LayerNode, output: Shape): number {
  if (op.kind === "conv") {
    const perElement = op.kernel[0] * op.kernel[1] * op.inChannels + (op.bias ? 1 : 0);
    return Math.trunc((perElement * elementCount(output)) / op.groups);
  }
  if (op.kind === "linear") return (op.inFeatures + 1) * elementCount(output);
  return 0;
}

/** Names of the layers that the given ones are computed from, themselves included. */
export function ancestors(graph: LayerGraph, ...names: readonly string[]): ReadonlySet<string> {
  const needed = new Set(names);
  for (const node of graph.nodes.toReversed())
    if (needed.has(node.name)) for (const input of node.inputs) needed.add(input);
  return needed;
}

/** The receptive field of one pixel of a stream's output. */
export interface StreamReceptiveField extends Pick<GateOutput, "block" | "stream"> {
  /** Side in pixels of the block's own input: 2t + 1 for stream t (ICCV 2019, section 3.2). */
  readonly inBlock: number;
  /** Side in pixels of the image. */
  readonly inImage: number;
}

/** The receptive field so far: side length and distance between neighbouring pixels, both in image pixels. */
interface Field {
  readonly side: number;
  readonly jump: number;
}

/**
 * The receptive field of each stream of each block, computed from the graph's windows. Gates, norms and pointwise
 * layers do not change it (a gate sees the whole image, but only scales). All windows of the network are square.
 */
export function receptiveFields(graph: LayerGraph): readonly StreamReceptiveField[] {
  const fields = new Map<string, Field>();
  const streams: StreamReceptiveField[] = [];
  const blockInput = new Map<string, Field>();
  for (const { name, op, inputs, block, stream } of graph.nodes) {
    const incoming = inputs.map((input) => fields.get(input) ?? { side: 1, jump: 1 });
    const widest = incoming.reduce((a, b) => (b.side > a.side ? b : a), { side: 1, jump: 1 });
    const scaled = op.kind === "scale" ? (incoming[0] ?? widest) : widest;
    const field = "kernel" in op ? slideField(scaled, op.kernel[0], op.stride[0]) : scaled;
    fields.set(name, field);
    if (block === undefined) continue;
    if (!blockInput.has(block)) blockInput.set(block, widest);
    const start = blockInput.get(block) ?? widest;
    if (op.kind === "scale" && stream !== undefined)
      streams.push({
        block,
        stream,
        inBlock: (field.side - start.side) / start.jump + 1,
        inImage: field.side,
      });
  }
  return streams;
}

function slideField({ side, jump }: Field, kernel: number, stride: number): Field {
  return { side: side + (kernel - 1) * jump, jump: jump * stride };
}

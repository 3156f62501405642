import { InputError } from "../errors.js";
import { formatShape, type Shape } from "../tensor.js";
import type { LayerGraph } from "./graph.js";
import type { Op, OpKind, Size2d } from "./ops.js";

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
 * @throws InputError (`tensor`) if an image is too small for the network: some layer would have no pixels left, or an
 * instance norm a single one, where the variance PyTorch needs does not exist.
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

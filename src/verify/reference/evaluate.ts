import type { LayerGraph } from "../../arch/graph.js";
import { outputShapes } from "../../arch/shapes.js";
import { InputError } from "../../core/errors.js";
import {
  elementCount,
  formatShape,
  type RealTensor,
  type Shape,
  type StateDict,
  type Tensor,
} from "../../core/tensor.js";
import { toFloat64 } from "../../core/tensor-cast.js";
import type { EngineFactory } from "./engine.js";
import { runLayer, scratchSize } from "./evaluate-layer.js";
import type { Operand } from "./kernels/kernel.js";
import { float64Parameters } from "./parameters.js";
import { vectorEngine } from "./wasm/vector-engine.js";

/** Where each layer's output lies in one block of memory, in elements. */
export interface MemoryPlan {
  readonly offsets: ReadonlyMap<string, number>;
  /** Elements of the whole block. */
  readonly total: number;
}

interface Allocation {
  readonly offset: number;
  readonly end: number;
  /** Index of the last node that reads the tensor; the node's own index if none does. */
  readonly lastUse: number;
}

/**
 * Places every layer's output so that it overlaps no other that is still to be read: for osnet_x1_0 a tenth of the
 * memory that all of them take. Each goes to the first gap that is wide enough.
 *
 * @param shapes The output shape of every layer.
 * @param start Elements to leave free at the beginning of the block.
 */
export function planMemory(graph: LayerGraph, shapes: ReadonlyMap<string, Shape>, start: number): MemoryPlan {
  const lastUses = new Map<string, number>();
  graph.nodes.forEach(({ name, inputs }, index) => {
    for (const used of [name, ...inputs]) lastUses.set(used, index);
  });
  const offsets = new Map<string, number>();
  let live: readonly Allocation[] = [];
  let total = start;
  graph.nodes.forEach(({ name }, index) => {
    live = live.filter(({ lastUse }) => lastUse >= index);
    const size = elementCount(shapes.get(name) ?? []);
    const offset = firstGap(live, start, size);
    const allocation = { offset, end: offset + size, lastUse: lastUses.get(name) ?? index };
    live = [...live, allocation].sort((a, b) => a.offset - b.offset);
    offsets.set(name, offset);
    total = Math.max(total, allocation.end);
  });
  return { offsets, total };
}

/** The lowest offset, from `start`, at which `size` elements are free. Allocations come in order of their offsets. */
function firstGap(live: readonly Allocation[], start: number, size: number): number {
  let offset = start;
  for (const allocation of live) {
    if (allocation.offset - offset >= size) break;
    offset = Math.max(offset, allocation.end);
  }
  return offset;
}

/** What one layer computed. */
export interface EvaluatedLayer {
  /** The layer, as the graph names it. */
  readonly name: string;
  /** Its output: [N, C, H, W], or [N, C] after pooling. */
  readonly tensor: Tensor<"float64">;
}

/** How a network is evaluated; every field has a default. */
export interface EvaluationOptions {
  /**
   * Yields tensors whose memory is used again: each is valid only until the next is asked for. Otherwise every tensor
   * is a copy that belongs to the caller. Default false.
   */
  readonly reuseMemory?: boolean;
  /** What multiplies and adds. Default `vectorEngine`. */
  readonly engine?: EngineFactory;
}

/**
 * Runs a network in float64, layer by layer: the reference that candidates are held against.
 *
 * Yields every node's output, NCHW or NC, in the order of the graph, beginning with the images. Layers are computed as
 * they are asked for, and an activation is released when its last consumer has run, so that the memory in use is a
 * tenth of all activations. Agrees with PyTorch in float64 to rounding.
 *
 * @param graph Unfolded or folded; a folded layer is computed as the convolution and the batch norm that it stands for.
 * @param images [N, 3, H, W].
 * @throws InputError (`tensor`) if the images do not fit the network; (`state-dict`) if a parameter is missing or
 * has the wrong size.
 */
export function* evaluate(
  graph: LayerGraph,
  parameters: StateDict,
  images: RealTensor,
  options: EvaluationOptions = {},
): Generator<EvaluatedLayer, void, undefined> {
  checkImages(images);
  const { reuseMemory = false, engine: makeEngine = vectorEngine } = options;
  const shapes = outputShapes(graph, images.shape);
  const shapeOf = (name: string): Shape => shapes.get(name) ?? [];
  const scratch = graph.nodes.reduce(
    (size, node) => Math.max(size, scratchSize(node, node.inputs.map(shapeOf), shapeOf(node.name))),
    0,
  );
  const plan = planMemory(graph, shapes, scratch);
  const engine = makeEngine(plan.total);
  const operand = (name: string): Operand => {
    const shape = shapeOf(name);
    const offset = plan.offsets.get(name) ?? 0;
    return { shape, data: engine.memory.subarray(offset, offset + elementCount(shape)) };
  };

  const source = float64Parameters(parameters);
  const pixels = toFloat64(images, "images");
  for (const node of graph.nodes) {
    const inputs = node.op.kind === "input" ? [pixels] : node.inputs.map(operand);
    const output = operand(node.name);
    runLayer(node, inputs, source, { engine, scratch: 0, output });
    const data = reuseMemory ? output.data : output.data.slice();
    yield { name: node.name, tensor: { dtype: "float64", shape: output.shape, data } };
  }
}

function checkImages({ dtype, shape, data }: RealTensor): void {
  if (shape.length === 4 && shape[1] === 3 && data.length === elementCount(shape) && data.length > 0) return;
  throw new InputError({
    code: "tensor",
    subject: "images",
    found: `${dtype} ${formatShape(shape)} with ${data.length} elements`,
    expected: "[batch, 3, height, width]",
    remedy: "give images as NCHW",
  });
}

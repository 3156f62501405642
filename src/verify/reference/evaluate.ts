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
import { float64Parameters, IN_PLACE, runLayer, scratchSize } from "./evaluate-layer.js";
import type { Operand } from "./kernel.js";
import { vectorEngine } from "./vector-engine.js";

/** The position of each layer's output in one block of memory, in elements. */
export interface MemoryPlan {
  readonly offsets: ReadonlyMap<string, number>;
  /** Elements of the whole block. */
  readonly total: number;
}

/** Memory that one output takes, or several after another, each computed in the place of the one before. */
interface Allocation {
  readonly names: string[];
  readonly size: number;
  /** Index of the node that writes it first. */
  readonly from: number;
  /** Index of the last node that reads it; the last writer's own index if none does. */
  to: number;
}

/**
 * Places every layer's output so that it overlaps no other that is still to be read: for osnet_x1_0 a twentieth of the
 * memory that all of them take. An operation on single elements computes in the place of its first input, if nothing reads that later. The
 * largest outputs are placed first, each in the first gap that is wide enough for as long as it is needed.
 *
 * @param shapes The output shape of every layer.
 * @param start Elements to leave free at the beginning of the block.
 */
export function planMemory(graph: LayerGraph, shapes: ReadonlyMap<string, Shape>, start: number): MemoryPlan {
  const offsets = new Map<string, number>();
  const placed: { readonly allocation: Allocation; readonly offset: number }[] = [];
  let total = start;
  for (const allocation of allocationsOf(graph, shapes).toSorted((a, b) => b.size - a.size)) {
    const { from, to, size, names } = allocation;
    const live = placed
      .filter(({ allocation: other }) => other.from <= to && from <= other.to)
      .sort((a, b) => a.offset - b.offset);
    let offset = start;
    for (const other of live) {
      if (other.offset - offset >= size) break;
      offset = Math.max(offset, other.offset + other.allocation.size);
    }
    placed.push({ allocation, offset });
    for (const name of names) offsets.set(name, offset);
    total = Math.max(total, offset + size);
  }
  return { offsets, total };
}

function allocationsOf({ nodes }: LayerGraph, shapes: ReadonlyMap<string, Shape>): readonly Allocation[] {
  const sizeOf = (name: string): number => elementCount(shapes.get(name) ?? []);
  const lastUses = new Map<string, number>();
  nodes.forEach(({ name, inputs }, index) => {
    for (const used of [name, ...inputs]) lastUses.set(used, index);
  });
  const allocations = new Map<string, Allocation>();
  nodes.forEach(({ name, op, inputs: [first = "", ...others] }, index) => {
    const size = sizeOf(name);
    const isLast = lastUses.get(first) === index && !others.includes(first);
    const own =
      IN_PLACE.has(op.kind) && isLast && sizeOf(first) === size ? allocations.get(first) : undefined;
    const to = lastUses.get(name) ?? index;
    const allocation = own ?? { names: [], size, from: index, to };
    allocation.names.push(name);
    allocation.to = to;
    allocations.set(name, allocation);
  });
  return [...new Set(allocations.values())];
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
   * Yields tensors whose memory is reused: each is valid only until the next. Otherwise every tensor is a copy that
   * belongs to the caller. Default false.
   */
  readonly reuseMemory?: boolean;
  /** What multiplies and adds. Default `vectorEngine`. */
  readonly engine?: EngineFactory;
}

/**
 * Runs a network in float64, layer by layer: the reference that candidates are compared with.
 *
 * Yields every node's output, NCHW or NC, in the order of the graph, beginning with the images. Layers are computed on
 * demand, and an activation is released when its last consumer has run, so that memory use is a tenth of all
 * activations. Agrees with PyTorch in float64 to within rounding.
 *
 * @param graph Unfolded or folded; a folded layer is computed as the convolution followed by the batch norm.
 * @param images [N, 3, H, W].
 * @throws InputError (`tensor`) if the images do not fit the network; (`state-dict`) if a parameter is missing or has
 * the wrong size.
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
    remedy: "pass images as NCHW",
  });
}

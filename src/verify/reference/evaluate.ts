import type { LayerGraph, LayerNode } from "../../arch/graph.js";
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
import type { Engine, EngineFactory } from "./engine.js";
import { float64Parameters, IN_PLACE, runLayer, scratchSize } from "./evaluate-layer.js";
import type { Operand } from "./kernel.js";
import { vectorEngine } from "./vector-engine.js";

/** The position of each layer's output in one block of memory, in elements. */
interface MemoryPlan {
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
interface EvaluationOptions {
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
  const source = float64Parameters(parameters);
  const pixels = toFloat64(images, "images");
  let operand = (name: string): Operand => {
    throw new Error(`no memory for ${name}`);
  };
  for (const { nodes, given } of partsOf(graph, shapes)) {
    const place = placeOf({ ...graph, nodes }, given, shapes, makeEngine);
    for (const { name } of given) place.operand(name).data.set(operand(name).data);
    operand = place.operand;
    for (const node of nodes) {
      const inputs = node.op.kind === "input" ? [pixels] : node.inputs.map(operand);
      const output = operand(node.name);
      runLayer(node, inputs, source, { engine: place.engine, scratch: 0, output });
      const data = reuseMemory ? output.data : output.data.slice();
      yield { name: node.name, tensor: { dtype: "float64", shape: output.shape, data } };
    }
  }
}

/** An engine for some nodes, and where the values of each of them, and of those before that they read, are in its memory. */
function placeOf(
  graph: LayerGraph,
  given: readonly LayerNode[],
  shapes: ReadonlyMap<string, Shape>,
  makeEngine: EngineFactory,
): { readonly engine: Engine; readonly operand: (name: string) => Operand } {
  const shapeOf = (name: string): Shape => shapes.get(name) ?? [];
  const scratch = graph.nodes.reduce(
    (size, node) => Math.max(size, scratchSize(node, node.inputs.map(shapeOf), shapeOf(node.name))),
    0,
  );
  const before = given.map((node) => ({ ...node, inputs: [] }));
  const plan = planMemory({ ...graph, nodes: [...before, ...graph.nodes] }, shapes, scratch);
  const engine = makeEngine(plan.total);
  return {
    engine,
    operand(name) {
      const shape = shapeOf(name);
      const offset = plan.offsets.get(name) ?? 0;
      return { shape, data: engine.memory.subarray(offset, offset + elementCount(shape)) };
    },
  };
}

/** Nodes that are computed in one block of memory. */
interface Part {
  readonly nodes: readonly LayerNode[];
  /** Nodes of the parts before that these read. */
  readonly given: readonly LayerNode[];
}

/** Elements of a layer for which a smaller block of memory is not worth the copies. */
const SMALL_LAYER = 2 ** 16;

/** Cuts a network where the largest of the layers to come is less than half as large as before: from there on, less memory is enough. */
function partsOf({ nodes }: LayerGraph, shapes: ReadonlyMap<string, Shape>): readonly Part[] {
  const sizeOf = (name: string): number => elementCount(shapes.get(name) ?? []);
  const starts = [0];
  let largest = 0;
  for (let index = nodes.length - 1; index > 0; index--) {
    const { name, inputs } = nodes[index] as LayerNode;
    const size = Math.max(...[name, ...inputs].map(sizeOf));
    const isLast = index === nodes.length - 1;
    if (!isLast && size > 2 * Math.max(largest, SMALL_LAYER)) starts.splice(1, 0, index + 1);
    largest = Math.max(largest, size);
  }
  return starts.map((start, part) => {
    const later = nodes.slice(start);
    const read = new Set(later.flatMap(({ inputs }) => inputs));
    return {
      nodes: nodes.slice(start, starts[part + 1]),
      given: nodes.slice(0, start).filter(({ name }) => read.has(name)),
    };
  });
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

import type { LayerGraph } from "../../arch/graph.js";
import { outputShapes } from "../../arch/shapes.js";
import { InputError } from "../../errors.js";
import type { StateDict } from "../../state-dict.js";
import { elementCount, formatShape, type RealTensor, type Shape, type Tensor } from "../../tensor.js";
import { toFloat64 } from "../../tensor-cast.js";
import type { EngineFactory } from "./engine.js";
import type { Operand } from "./kernels/kernel.js";
import { planMemory } from "./memory-plan.js";
import { float64Parameters } from "./parameters.js";
import { runLayer, scratchSize } from "./run-layer.js";
import { vectorEngine } from "./wasm/vector-engine.js";

/** What one layer computed. */
export interface EvaluatedLayer {
  readonly name: string;
  readonly tensor: Tensor<"float64">;
}

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

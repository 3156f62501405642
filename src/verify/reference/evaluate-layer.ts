import type { LayerNode } from "../../arch/graph.js";
import { elementCount, type RealTensor, type Shape, type Tensor } from "../../tensor.js";
import type { Engine } from "./engine.js";
import type { Operand } from "./kernels/kernel.js";
import type { ParameterSource } from "./parameters.js";
import { runLayer, scratchSize } from "./run-layer.js";
import { scalarEngine } from "./scalar-engine.js";
import { vectorEngine } from "./wasm/vector-engine.js";

/** Memory in which one layer after another is computed; it grows to what the largest needs. */
export class Workspace {
  private engine: Engine | undefined;

  /** An engine with memory for at least so many elements, whose contents are whatever the last layer left. */
  reserve(elements: number): Engine {
    if (!this.engine || this.engine.memory.length < elements) this.engine = vectorEngine(elements);
    return this.engine;
  }
}

/**
 * Computes a single layer in float64 from given inputs, such as those that a candidate fed to its own layer. A folded
 * layer is computed as the convolution or linear layer and the batch norm that it stands for.
 *
 * @param inputs NCHW or NC, in the order of `node.inputs` and of the shapes that the graph gives them; for the `input`
 * node, the images. They may be a workspace's last result.
 * @param parameters `float64Parameters` of a state dict, or any other function of their paths.
 * @param shape The output's shape, as `outputShapes` of src/arch gives it.
 * @param workspace Where to compute, vectorised: the result is valid until the workspace is used for another layer.
 * Without one, the layer is computed in plain TypeScript and the result is the caller's.
 * @throws InputError (`state-dict`) if a parameter is missing or has the wrong size.
 */
export function evaluateLayer(
  node: LayerNode,
  inputs: readonly RealTensor[],
  parameters: ParameterSource,
  shape: Shape,
  workspace?: Workspace,
): Tensor<"float64"> {
  const outputSize = elementCount(shape);
  const inputShapes = inputs.map((tensor) => tensor.shape);
  const working = outputSize + scratchSize(node, inputShapes, shape);
  const total = inputs.reduce((size, { data }) => size + data.length, working);
  const engine = workspace ? workspace.reserve(total) : scalarEngine(total);
  const operands = placeInputs(inputs, engine.memory, working);
  const output = { shape, data: engine.memory.subarray(0, outputSize) };
  runLayer(node, operands, parameters, { engine, scratch: outputSize, output });
  return { dtype: "float64", ...output };
}

/** Copies the inputs, in float64, one after another into memory from `start`. */
function placeInputs(inputs: readonly RealTensor[], memory: Float64Array, start: number): Operand[] {
  // An input in this very memory would be overwritten by its neighbours, so it is set aside first.
  const aside = inputs.map(({ data }) => (data.buffer === memory.buffer ? data.slice() : data));
  let offset = start;
  return inputs.map(({ shape }, index) => {
    const data = aside[index] ?? new Float64Array();
    const place = memory.subarray(offset, offset + data.length);
    place.set(data);
    offset += data.length;
    return { shape, data: place };
  });
}

import type { LayerNode } from "../../arch/index.js";
import type { RealTensor, Tensor } from "../../tensor.js";
import { type BoundCall, errorAt } from "./bound.js";

/**
 * How far each element of a layer's input may put a sum of them off: `growth` of its magnitude, and its own error. Made where
 * the workspace takes the layer's input, so that summing them is running the layer.
 */
export function inputMagnitudes(
  { shape, data: source }: RealTensor,
  { inputErrors: [inputError = 0], output, arithmetic, workspace }: BoundCall,
  node: LayerNode,
  growth: number,
): Tensor<"float64"> {
  const { underflow } = arithmetic;
  const data = workspace.inputOf(node, shape, output.shape);
  if (inputError === 0)
    for (let i = 0; i < data.length; i++) data[i] = growth * Math.abs(source[i] as number) + underflow;
  else
    for (let i = 0; i < data.length; i++)
      data[i] = growth * Math.abs(source[i] as number) + (1 + growth) * errorAt(inputError, i) + underflow;
  return { dtype: "float64", shape, data };
}

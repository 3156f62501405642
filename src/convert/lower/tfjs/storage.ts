import type { Op, ParameterRole } from "../../../arch/ops.js";
import type { Tensor } from "../../../tensor.js";
import {
  chooseQuantization,
  type QuantizedDType,
  roundToStored,
  type TfjsWeight,
} from "../../formats/tfjs/index.js";

/**
 * A weight as a file holds it. In fewer bits are those of convolutions and linear layers: biases and norms are few, and a
 * batch norm's smallest variances would be lost in steps as wide as its range asks for.
 */
export function storedWeight(
  op: Op,
  role: ParameterRole,
  tensor: Tensor<"float32">,
  quantize: QuantizedDType | undefined,
): TfjsWeight {
  const many = role === "weight" && (op.kind === "conv" || op.kind === "linear");
  if (quantize === undefined || !many) return { tensor };
  const stored = chooseQuantization(tensor, quantize);
  return { tensor: roundToStored(tensor, stored), stored };
}

import type { Op } from "../../../arch/ops.js";
import type { Tensor } from "../../../tensor.js";
import { float, int, ints, onnxNode } from "../../formats/onnx/index.js";
import { castNode, type OnnxFragment, type OnnxSite } from "./fragment.js";

/** The operator set that brought `LayerNormalization`. */
const LAYER_NORMALIZATION_OPSET = 17;

/**
 * LayerNorm over channels, height and width of [N, C, 1, 1], weights [C, 1, 1]: `LayerNormalization` (opset 17), whose
 * variance is the biased one as PyTorch's is, or the same arithmetic spelled out for older operator sets:
 * (x − mean) / √(mean((x − mean)²) + ε) · weight + bias. That is float32 in a float16 network too, as runtimes compute the
 * operator: 1e-5 is no normal float16.
 */
export function lowerLayerNorm(op: Op<"layerNorm">, { name, inputs, opset, dtype }: OnnxSite): OnnxFragment {
  if (opset >= LAYER_NORMALIZATION_OPSET)
    return {
      nodes: [onnxNode(name, "LayerNormalization", inputs, { axis: int(1), epsilon: float(op.epsilon) })],
    };
  const [values = "", weight = "", bias = ""] = inputs;
  const part = (suffix: string): string => `${name}.${suffix}`;
  const narrow = dtype !== "float32";
  const x = narrow ? part("float32") : values;
  const normalized = narrow ? part("quotient") : part("normalized");
  // Before opset 18 the axes are an attribute.
  const overLayer = { axes: ints(1, 2, 3), keepdims: int(1) };
  const epsilon: Tensor = { dtype: "float32", shape: [], data: Float32Array.of(op.epsilon) };
  return {
    nodes: [
      ...(narrow ? [castNode(x, values, "float32")] : []),
      onnxNode(part("mean"), "ReduceMean", [x], overLayer),
      onnxNode(part("centered"), "Sub", [x, part("mean")]),
      onnxNode(part("squared"), "Mul", [part("centered"), part("centered")]),
      onnxNode(part("variance"), "ReduceMean", [part("squared")], overLayer),
      onnxNode(part("stabilized"), "Add", [part("variance"), part("epsilon")]),
      onnxNode(part("deviation"), "Sqrt", [part("stabilized")]),
      onnxNode(normalized, "Div", [part("centered"), part("deviation")]),
      ...(narrow ? [castNode(part("normalized"), normalized, dtype)] : []),
      onnxNode(part("scaled"), "Mul", [part("normalized"), weight]),
      onnxNode(name, "Add", [part("scaled"), bias]),
    ],
    initializers: new Map([[part("epsilon"), epsilon]]),
  };
}

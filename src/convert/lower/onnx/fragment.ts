import type { Tensor } from "../../../tensor.js";
import { dtypeToCode, int, type OnnxNode, onnxNode } from "../../formats/onnx/index.js";
import type { OnnxDType } from "./options.js";

/** What one layer becomes: nodes, the last of which outputs the value named after the layer, and own constants. */
export interface OnnxFragment {
  readonly nodes: readonly OnnxNode[];
  readonly initializers?: ReadonlyMap<string, Tensor>;
}

/** Where a layer's nodes go: the value they must produce, and the values they read. */
export interface OnnxSite {
  /** The layer's name: that of its last node and of that node's output. */
  readonly name: string;
  /** Activations first, then the layer's weights in the order weight, bias, runningMean, runningVar. */
  readonly inputs: readonly string[];
  readonly opset: number;
  /** Element type of the activations. */
  readonly dtype: OnnxDType;
}

/** A value in another element type. */
export function castNode(output: string, input: string, dtype: OnnxDType): OnnxNode {
  return onnxNode(output, "Cast", [input], { to: int(dtypeToCode(dtype)) });
}

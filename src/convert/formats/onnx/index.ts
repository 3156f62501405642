export { appendOutputs, decodeOnnx, encodeOnnx } from "./codec.js";
export type {
  OnnxAttribute,
  OnnxAttributeType,
  OnnxAttributeValues,
  OnnxDimension,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxValue,
} from "./model.js";

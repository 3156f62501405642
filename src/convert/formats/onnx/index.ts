export { decodeOnnx } from "./decode.js";
export { appendOutputs, encodeOnnx } from "./encode.js";
export type { OnnxSource, SidecarReader } from "./external.js";
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

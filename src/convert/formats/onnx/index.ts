export { decodeOnnx } from "./decode.js";
export { appendOutputs, encodeOnnx, encodeOnnxFiles, type OnnxFiles } from "./encode.js";
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
export {
  codeToDType,
  dtypeToCode,
  float,
  int,
  ints,
  type OnnxAttributeRecord,
  onnxNode,
  text,
} from "./model.js";

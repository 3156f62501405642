export { decodeOnnx } from "./decode.js";
export { appendOutputs, encodeOnnx, encodeOnnxFiles, type OnnxFiles } from "./encode.js";
export type { OnnxSource, SidecarReader } from "./external.js";
export {
  codeToDType,
  dtypeToCode,
  float,
  int,
  ints,
  type OnnxAttribute,
  type OnnxAttributeRecord,
  type OnnxAttributeType,
  type OnnxAttributeValues,
  type OnnxDimension,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  onnxNode,
  text,
} from "./model.js";

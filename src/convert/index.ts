export { type Checkpoint, type CheckpointOptions, openCheckpoint } from "./checkpoint.js";
export { type NpzArchive, openNpz } from "./formats/npz/archive.js";
export { decodeNpy } from "./formats/npz/npy.js";
export { appendOutputs, decodeOnnx, encodeOnnx, type OnnxModel } from "./formats/onnx/index.js";
export { type DecodedCheckpoint, type DecodePthOptions, decodePth } from "./formats/pth/index.js";
export { foldBatchNorm } from "./lower/fold.js";
export {
  DEFAULT_OPSET,
  lowerToOnnx,
  type OnnxOptions,
  type OnnxOutputSelection,
  OPSET_RANGE,
} from "./lower/onnx/index.js";

export { castStateDict } from "./cast.js";
export { type Checkpoint, type CheckpointOptions, identifyCheckpoint, openCheckpoint } from "./checkpoint.js";
export { compareBits } from "./compare.js";
export { type DecodedWeights, type DecodeWeightsOptions, decodeWeights } from "./decode-weights.js";
export { encodeWeights } from "./encode-weights.js";
export { decodeNpz, type NpzArchive, openNpz } from "./formats/npz/archive.js";
export { encodeNpz } from "./formats/npz/encode.js";
export { decodeNpy, encodeNpy } from "./formats/npz/npy.js";
export { appendOutputs, decodeOnnx, encodeOnnx, type OnnxModel } from "./formats/onnx/index.js";
export { type DecodedCheckpoint, type DecodePthOptions, decodePth, encodePth } from "./formats/pth/index.js";
export {
  type DecodedSafetensors,
  decodeSafetensors,
  encodeSafetensors,
} from "./formats/safetensors/index.js";
export {
  type AnomalousTensor,
  type Anomaly,
  type AnomalyKind,
  fingerprintWeights,
  type Inspection,
  inspectCheckpoint,
  renderInspection,
} from "./inspect/index.js";
export { foldBatchNorm } from "./lower/fold.js";
export {
  DEFAULT_OPSET,
  lowerToOnnx,
  type OnnxOptions,
  type OnnxOutputSelection,
  OPSET_RANGE,
} from "./lower/onnx/index.js";
export { type FileFormat, sniffFormat, type WeightsFormat } from "./sniff.js";

export { castStateDict } from "./cast.js";
export { type Checkpoint, type CheckpointOptions, identifyCheckpoint, openCheckpoint } from "./checkpoint.js";
export { compareBits } from "./compare.js";
export { type DecodedWeights, type DecodeWeightsOptions, decodeWeights } from "./decode-weights.js";
export { encodeWeights } from "./encode-weights.js";
export { decodeNpz, type NpzArchive, openNpz } from "./formats/npz/archive.js";
export { encodeNpz } from "./formats/npz/encode.js";
export { decodeNpy, encodeNpy } from "./formats/npz/npy.js";
export {
  appendOutputs,
  decodeOnnx,
  encodeOnnx,
  encodeOnnxFiles,
  type OnnxFiles,
  type OnnxModel,
} from "./formats/onnx/index.js";
export { type DecodedCheckpoint, type DecodePthOptions, decodePth, encodePth } from "./formats/pth/index.js";
export {
  type DecodedSafetensors,
  decodeSafetensors,
  encodeSafetensors,
} from "./formats/safetensors/index.js";
export {
  decodeTfjs,
  encodeTfjs,
  type TfjsFiles,
  type TfjsGraphModel,
  type TfjsModel,
  tfjsShardPaths,
} from "./formats/tfjs/index.js";
export {
  type AnomalousTensor,
  type Anomaly,
  type AnomalyKind,
  fingerprintFolded,
  fingerprintWeights,
  type Inspection,
  inspectCheckpoint,
  inspectOnnx,
  inspectTfjs,
  type OnnxInspection,
  renderInspection,
  renderOnnxInspection,
  renderTfjsInspection,
  type TfjsInspection,
} from "./inspect/index.js";
export {
  type Difference,
  type GraphMatch,
  type LiftedStateDict,
  liftStateDict,
  type MatchedOutput,
  type MatchOptions,
  matchGraph,
} from "./lift/index.js";
export { matchTfjs, type TfjsMatch, translateTfjs } from "./lift/tfjs/index.js";
export type { LiftOptions } from "./lifted-checkpoint.js";
export { foldBatchNorm } from "./lower/fold.js";
export {
  DEFAULT_OPSET,
  lowerToOnnx,
  type OnnxOptions,
  type OnnxOutputSelection,
  OPSET_RANGE,
} from "./lower/onnx/index.js";
export {
  lowerToTfjs,
  lowerToTfjsLayers,
  type TfjsLayersOptions,
  type TfjsOptions,
} from "./lower/tfjs/index.js";
export { type OnnxCheckpointOptions, openOnnxCheckpoint } from "./onnx-checkpoint.js";
export { type OnnxInterface, openOnnxInterface } from "./onnx-interface.js";
export { type FileFormat, sniffFormat, type WeightsFormat } from "./sniff.js";
export { openTfjsCheckpoint, type TfjsCheckpoint } from "./tfjs-checkpoint.js";

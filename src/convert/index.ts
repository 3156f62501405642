export type { FilesBeside, NamedBytes } from "../core/bytes.js";
export {
  DEFAULT_OPSET,
  lowerToOnnx,
  type OnnxOptions,
  type OnnxOutputSelection,
  OPSET_RANGE,
} from "./export/onnx.js";
export { lowerToTfjs, type TfjsOptions } from "./export/tfjs-graph-model.js";
export { lowerToTfjsLayers, type TfjsLayersOptions } from "./export/tfjs-layers-model.js";
export { castStateDict, foldBatchNorm } from "./export/weights.js";
export { compareBits, encodeWeights } from "./export/write.js";
export { decodeNpy, decodeNpz, encodeNpy, encodeNpz, type NpzArchive, openNpz } from "./formats/npz.js";
export { decodeOnnx } from "./formats/onnx/decode.js";
export { appendOutputs, encodeOnnx, encodeOnnxFiles, type OnnxFiles } from "./formats/onnx/encode.js";
export type { OnnxModel } from "./formats/onnx/model.js";
export { type DecodedCheckpoint, type DecodePthOptions, decodePth } from "./formats/pth/decode.js";
export { encodePth } from "./formats/pth/encode.js";
export type { FileFormat, ModelFormat, WeightsFormat } from "./formats/registry.js";
export { type DecodedSafetensors, decodeSafetensors, encodeSafetensors } from "./formats/safetensors.js";
export { sniffFormat } from "./formats/sniff.js";
export { decodeTfjs, encodeTfjs, tfjsShardPaths } from "./formats/tfjs/codec.js";
export type { TfjsFiles, TfjsGraphModel, TfjsModel } from "./formats/tfjs/model.js";
export type { Difference } from "./import/differences.js";
export { type GraphMatch, type MatchedOutput, type MatchOptions, matchGraph } from "./import/match.js";
export { matchTfjs, type TfjsMatch, translateTfjs } from "./import/tfjs/translate.js";
export type { AnomalousTensor, Anomaly, AnomalyKind } from "./inspect/anomalies.js";
export {
  fingerprintFolded,
  fingerprintWeights,
  type Inspection,
  inspectCheckpoint,
} from "./inspect/inspection.js";
export {
  inspectModel,
  type ModelInspectionOptions,
  type ModelInspections,
  type OnnxInspection,
  type TfjsInspection,
} from "./inspect/model-inspection.js";
export { renderInspection, renderModelInspection } from "./inspect/text.js";
export {
  type Checkpoint,
  type CheckpointOptions,
  type DecodedWeights,
  type DecodeWeightsOptions,
  decodeWeights,
  identifyCheckpoint,
  openCheckpoint,
} from "./open/checkpoint.js";
export {
  type LiftedStateDict,
  type LiftOptions,
  liftCheckpoint,
  liftStateDict,
  type ModelCheckpoint,
} from "./open/lift.js";
export { type OnnxInterface, openOnnxInterface } from "./open/onnx-interface.js";
export {
  type Document,
  type FileOptions,
  type Model,
  type OpenFile,
  openFile,
  openModel,
  type SourceFile,
} from "./open/open-file.js";

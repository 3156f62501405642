export { expand } from "../arch/expand.js";
export type { LayerGraph, LayerNode } from "../arch/graph.js";
export type { BlockSpec, OsnetSpec, StageSpec } from "../arch/spec.js";
export { describeNetwork } from "../arch/variants.js";
export type { Target } from "../convert/export/write.js";
export {
  type FileFormat,
  FORMATS,
  isModelFormat,
  MODEL_FORMATS,
  type ModelFormat,
  WEIGHTS_FORMATS,
  type WeightsFormat,
} from "../convert/formats/registry.js";
export { sniffFormat } from "../convert/formats/sniff.js";
export type { AnomalousTensor, Anomaly } from "../convert/inspect/anomalies.js";
export type { Inspection } from "../convert/inspect/inspection.js";
export type { OnnxInspection, TfjsInspection } from "../convert/inspect/model-inspection.js";
export type { ByteSource, NamedBytes } from "../core/bytes.js";
export { InputError, type InputErrorCode, type InputProblem } from "../core/errors.js";
export type { RealTensor, Tensor } from "../core/tensor.js";
export type { RuntimeName } from "../verify/backends/backend.js";
export { type Embedder, type EmbedderOptions, openEmbedder } from "../verify/candidate/embedder.js";
export { decodePhoto, photoTensor } from "../verify/inputs/photos.js";
export type { OpenOptions } from "../verify/open.js";
export type { Fault, GateResult, LayerResult, ParityReport } from "../verify/outcome/report.js";
export { faultLayers, faultName } from "../verify/outcome/report.js";
export { evaluate } from "../verify/reference/evaluate.js";
export { formatMargin, worstLayer } from "../verify/reports/facts.js";
export { renderHtml } from "../verify/reports/html.js";
export { gateColour } from "../verify/reports/html-charts.js";
export { marginClass } from "../verify/reports/html-page.js";
export {
  type Conversion,
  type ConversionOptions,
  type ConvertOptions,
  compareWritten,
  convert,
  inspect,
  openSource,
  resultName,
  type Source,
  type SourceOptions,
  type Verified,
  type VerifyOptions,
  verifyConversion,
  verifyFiles,
} from "./convert.js";
export {
  BlobSource,
  type ChosenFile,
  type ChosenModel,
  canReadRanges,
  groupFiles,
  isRecording,
  openChosen,
} from "./files.js";

/**
 * What a page in a browser needs, from the files that its user chose to bytes, verdict and report; no `node:` module is
 * reachable from here, and no runtime is loaded before a model is run. Long work belongs into a worker, where files are read by
 * ranges.
 */

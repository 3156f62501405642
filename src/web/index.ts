/**
 * What a page in a browser needs, from the files that its user chose to bytes, verdict and report; no `node:` module is
 * reachable from here, and no runtime is loaded before a model is run. Long work belongs into a worker, where files are read by
 * ranges.
 */
export { expand } from "../arch/expand.js";
export { multiplyAdds, outputShapes } from "../arch/shapes.js";
export type { BlockSpec, OsnetSpec, StageSpec } from "../arch/spec.js";
export type { FileFormat, WeightsFormat } from "../convert/formats/registry.js";
export { sniffFormat } from "../convert/formats/sniff.js";
export type {
  AnomalousTensor,
  Anomaly,
  Inspection,
  OnnxInspection,
  TfjsInspection,
} from "../convert/inspect/index.js";
export { InputError, type InputErrorCode, type InputProblem } from "../core/errors.js";
export type { Embedder, EmbedderOptions } from "../verify/embedder.js";
export { openEmbedder } from "../verify/embedder.js";
export type { OpenOptions } from "../verify/open.js";
export type { NamedBytes } from "../verify/open-file.js";
export type { Fault, GateResult, LayerResult, ParityReport } from "../verify/report.js";
export { renderHtml } from "../verify/reports/html/report.js";
export { BlobSource, canReadRanges } from "./blob-source.js";
export {
  type Conversion,
  type ConvertOptions,
  compareWritten,
  convert,
  inspect,
  resultName,
  type SourceOptions,
  type Target,
} from "./convert.js";
export { type ChosenFile, type ChosenModel, groupFiles, openChosen } from "./files.js";
export {
  type ConversionOptions,
  type Verified,
  type VerifyOptions,
  verifyConversion,
  verifyFiles,
} from "./verify.js";

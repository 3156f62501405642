export type { Backend, BackendName, LayerOutput, ModelBackend, RuntimeName } from "./backends/backend.js";
export { type OnnxFile, onnxruntimeBackend } from "./backends/onnxruntime.js";
export { openRecording, type Recording, referenceBackend } from "./backends/references.js";
export { BACKENDS, type Engine, RUNTIMES } from "./backends/registry.js";
export type { Candidate, Side } from "./candidate/candidate.js";
export { DEFAULT_TOLERANCE, type Verification } from "./candidate/candidate.js";
export { type Embedder, type EmbedderOptions, openEmbedder } from "./candidate/embedder.js";
export { type ChooseImagesOptions, type ChosenImages, chooseImages } from "./inputs/choose-images.js";
export type { Pixels } from "./inputs/images.js";
export { defaultSize, seededImages } from "./inputs/images.js";
export { decodePhoto, photoTensor } from "./inputs/photos.js";
export { observeVacuity, type VacuityObserver, type VacuityOptions } from "./inputs/vacuity.js";
export { type OpenOptions, openVerification } from "./open.js";
export { type BaselineOptions, compareToBaseline } from "./outcome/baseline.js";
export { measure, type TensorMetrics } from "./outcome/metrics.js";
export type {
  BaselineComparison,
  Coverage,
  Fault,
  GateResult,
  LayerResult,
  OutputResult,
  ParityReport,
  Party,
  RelativeTolerance,
  Status,
  Tolerance,
  Vacuity,
  WeightsResult,
} from "./outcome/report.js";
export {
  type CompareOptions,
  compareRankings,
  type RankingComparison,
  type RankingLabels,
  type RankingParity,
} from "./ranking/compare.js";
export {
  type DistanceMetric,
  type DistanceRows,
  distanceRows,
  type RerankOptions,
  rerankedRows,
} from "./ranking/distances.js";
export { evaluateRanking, type Labels, type QueryResult, type RankingFigures } from "./ranking/evaluate.js";
export type { RankingReport } from "./ranking/report.js";
export { evaluate } from "./reference/evaluate.js";
export { renderHtml } from "./reports/html.js";
export { REPORT_FORMATS, type ReportFormat, renderJson, renderReport, renderSuite } from "./reports/index.js";
export { renderJunit } from "./reports/junit.js";
export { renderMarkdown } from "./reports/markdown.js";
export { renderSarif } from "./reports/sarif.js";
export { renderText } from "./reports/text.js";
export type { SuiteEntry, SuiteReport } from "./suite/report.js";
export { verify } from "./verify.js";

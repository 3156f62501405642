export type { Backend, BackendName, LayerOutput, TfjsBackendName } from "./backend.js";
export { onnxruntimeBackend } from "./backends/onnxruntime.js";
export { openRecording, type Recording } from "./backends/recorded.js";
export { referenceBackend } from "./backends/reference.js";
export { seededImages } from "./images.js";
export { measure, type TensorMetrics } from "./metrics.js";
export { type NamedBytes, type OpenOptions, openVerification } from "./open.js";
export { evaluate } from "./reference/index.js";
export type {
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
  WeightsResult,
} from "./report.js";
export { renderJson } from "./reports/json.js";
export { renderText } from "./reports/text.js";
export { type Candidate, DEFAULT_TOLERANCE, type Side, type Verification, verify } from "./verify.js";

export {
  ANOMALIES,
  type AnomalousTensor,
  type Anomaly,
  type AnomalyKind,
  type Severity,
} from "./anomalies.js";
export { FINGERPRINT_SCHEME, FOLDED_SCHEME, fingerprintFolded, fingerprintWeights } from "./fingerprint.js";
export { type DTypeCount, type Inspection, inspectCheckpoint } from "./inspection.js";
export type { ModelFacts, NetworkFacts } from "./model-facts.js";
export type { ModelInspection } from "./model-inspection.js";
export {
  inspectOnnx,
  type OnnxFacts,
  type OnnxInspection,
  type OnnxInspectionOptions,
} from "./onnx-inspection.js";
export { renderOnnxInspection } from "./onnx-text.js";
export { renderInspection } from "./text.js";
export {
  inspectTfjs,
  type TfjsFacts,
  type TfjsInspection,
  type TfjsInspectionOptions,
} from "./tfjs-inspection.js";
export { renderTfjsInspection } from "./tfjs-text.js";

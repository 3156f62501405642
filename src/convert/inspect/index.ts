export {
  ANOMALIES,
  type AnomalousTensor,
  type Anomaly,
  type AnomalyKind,
  type Severity,
} from "./anomalies.js";
export { FINGERPRINT_SCHEME, FOLDED_SCHEME, fingerprintFolded, fingerprintWeights } from "./fingerprint.js";
export { type DTypeCount, type Inspection, inspectCheckpoint } from "./inspection.js";
export type { ModelFacts, ModelInspection, NetworkFacts } from "./model-inspection.js";
export {
  inspectOnnx,
  inspectTfjs,
  type OnnxFacts,
  type OnnxInspection,
  type OnnxInspectionOptions,
  type TfjsFacts,
  type TfjsInspection,
  type TfjsInspectionOptions,
} from "./model-inspection.js";
export { renderInspection, renderOnnxInspection, renderTfjsInspection } from "./text.js";

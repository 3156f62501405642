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
  inspectModel,
  type ModelInspectionOptions,
  type ModelInspections,
  type OnnxFacts,
  type OnnxInspection,
  type TfjsFacts,
  type TfjsInspection,
} from "./model-inspection.js";
export { renderInspection, renderModelInspection } from "./text.js";

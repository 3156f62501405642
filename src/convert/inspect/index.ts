export type {
  AnomalousTensor,
  Anomaly,
  AnomalyKind,
} from "./anomalies.js";
export { fingerprintFolded, fingerprintWeights } from "./fingerprint.js";
export { type Inspection, inspectCheckpoint } from "./inspection.js";
export {
  inspectModel,
  type ModelInspectionOptions,
  type ModelInspections,
  type OnnxInspection,
  type TfjsInspection,
} from "./model-inspection.js";
export { renderInspection, renderModelInspection } from "./text.js";

export {
  ANOMALIES,
  type AnomalousTensor,
  type Anomaly,
  type AnomalyKind,
  type Severity,
} from "./anomalies.js";
export { FINGERPRINT_SCHEME, fingerprintWeights } from "./fingerprint.js";
export { type DTypeCount, type Inspection, inspectCheckpoint } from "./inspection.js";
export { renderInspection } from "./text.js";

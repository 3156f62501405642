/** The network in float64, straight from the definitions: what every candidate is held against. */
export { type EvaluatedLayer, type EvaluationOptions, evaluate } from "./evaluate.js";
export { evaluateLayer, Workspace, workspaceSize } from "./evaluate-layer.js";
export { float64Parameters, type ParameterSource } from "./parameters.js";

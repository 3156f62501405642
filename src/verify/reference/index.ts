/** The network in float64, straight from the definitions: what every candidate is held against. */
export { type EvaluationOptions, evaluate, type LayerOutput } from "./evaluate.js";
export { evaluateLayer, Workspace } from "./evaluate-layer.js";
export { float64Parameters, type ParameterSource } from "./parameters.js";

export { expand, INPUT_NAME } from "./expand.js";
export type { FoldedBatchNorm, GateOutput, GraphOutputs, LayerGraph, LayerNode, Part } from "./graph.js";
export { type Identified, identify } from "./identify.js";
export { describeNetwork, type NearestVariant, nearestVariant } from "./nearest.js";
export type { Op, OpKind, OpTable, ParameterRole, Size2d } from "./ops.js";
export {
  compareStateDict,
  PARAMETER_SHAPES,
  type ParameterSpec,
  parameterCount,
  parametersOf,
  type StateDictProblems,
} from "./parameters.js";
export {
  ancestors,
  layerMultiplyAdds,
  multiplyAdds,
  outputShapes,
  receptiveFields,
  type StreamReceptiveField,
} from "./shapes.js";
export type {
  BlockSpec,
  Dialect,
  GateSpec,
  HeadSpec,
  InstanceNormPlacement,
  OsnetSpec,
  StageSpec,
} from "./spec.js";
export { GATE_ACTIVATIONS, NORM_EPSILON, parseSpec } from "./spec.js";
export { isVariantName, VARIANT_NAMES, type VariantName, variant, variantOf } from "./variants.js";

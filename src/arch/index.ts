export { compareStateDict, type StateDictProblems } from "./compare.js";
export { ancestors, layerMultiplyAdds, multiplyAdds } from "./complexity.js";
export { expand, INPUT_NAME } from "./expand.js";
export type { FoldedBatchNorm, GateOutput, GraphOutputs, LayerGraph, LayerNode } from "./graph.js";
export { type Identified, identify } from "./identify.js";
export { describeNetwork, type NearestVariant, nearestVariant } from "./nearest.js";
export type { Op, OpKind, OpTable, ParameterRole, Size2d } from "./ops.js";
export { PARAMETER_SHAPES, type ParameterSpec, parameterCount, parametersOf } from "./parameters.js";
export { parseSpec } from "./parse-spec.js";
export { receptiveFields, type StreamReceptiveField } from "./receptive-field.js";
export { outputShapes } from "./shapes.js";
export type {
  BlockSpec,
  Dialect,
  GateSpec,
  HeadSpec,
  InstanceNormPlacement,
  OsnetSpec,
  StageSpec,
} from "./spec.js";
export { NORM_EPSILON } from "./spec.js";
export { isVariantName, VARIANT_NAMES, type VariantName, variant, variantOf } from "./variants.js";

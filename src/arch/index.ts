export {
  expand,
  INPUT_NAME,
} from "./expand.js";
export type {
  FoldedBatchNorm,
  GateOutput,
  GraphOutputs,
  LayerGraph,
  LayerNode,
  Op,
  OpKind,
  OpTable,
  ParameterRole,
  Part,
  Size2d,
} from "./graph.js";
export { type Identified, identify } from "./identify.js";
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
export {
  describeNetwork,
  isVariantName,
  type NearestVariant,
  nearestVariant,
  VARIANT_NAMES,
  type VariantName,
  variant,
  variantOf,
} from "./variants.js";

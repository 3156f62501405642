export { splitRelu } from "./graph/fuse.js";
export { lowerToTfjs } from "./graph/graph-model.js";
export { lowerToTfjsLayers, type TfjsLayersOptions } from "./layers/layers-model.js";
export { kerasWeights } from "./layers/operators.js";
export { fromTensorFlow, kerasCall, nodeName, toTensorFlow, VALUE_NAMES } from "./names.js";
export type { TfjsOptions } from "./options.js";

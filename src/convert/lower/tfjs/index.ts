export { splitRelu } from "./fuse.js";
export { lowerToTfjs } from "./graph-model.js";
export { kerasWeights } from "./keras.js";
export { lowerToTfjsLayers, type TfjsLayersOptions } from "./layers-model.js";
export { fromTensorFlow, toTensorFlow } from "./layout.js";
export { kerasCall, nodeName, tapName, VALUE_NAMES } from "./names.js";
export type { TfjsOptions } from "./options.js";

export { splitRelu } from "./fuse.js";
export { lowerToTfjs } from "./graph-model.js";
export { kerasWeights } from "./keras.js";
export { lowerToTfjsLayers, type TfjsLayersOptions } from "./layers-model.js";
export { fromTensorFlow, toTensorFlow } from "./layout.js";
export { TFJS_METADATA } from "./metadata.js";
export { type KerasCall, kerasCall, layerName, nodeName, tapName } from "./names.js";
export type { TfjsOptions } from "./options.js";
export { NORMALIZED_LAYER, NORMALIZED_NODE } from "./preprocess.js";

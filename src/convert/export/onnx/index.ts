export type { ImageSize } from "../options.js";
export { lowerToOnnx } from "./lower.js";
export type { OnnxOptions, OnnxOutputSelection } from "./options.js";
export { DEFAULT_OPSET, OPSET_RANGE } from "./options.js";
export { NORMALIZED } from "./preprocess.js";

export { lowerToOnnx } from "./lower.js";
export { DEFAULT_OPSET, OPSET_RANGE } from "./opsets.js";
export type { ImageSize, OnnxOptions, OnnxOutputSelection } from "./options.js";

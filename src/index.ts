/** Everything public; `osnet-convert/arch`, `/convert` and `/verify` give the parts by themselves. */
export * from "./arch/index.js";
export type { ByteSource, Bytes } from "./byte-source.js";
export * from "./convert/index.js";
export { InputError, type InputErrorCode, type InputProblem } from "./errors.js";
export type { StateDict } from "./state-dict.js";
export type { DType, RealTensor, Shape, Tensor, TensorData } from "./tensor.js";
export * from "./verify/index.js";

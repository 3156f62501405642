/** Everything public; `osnet-convert/arch`, `/convert` and `/verify` export the parts separately. */
export * from "./arch/index.js";
export * from "./convert/index.js";
export type { ByteSource, Bytes } from "./core/bytes.js";
export { InputError, type InputErrorCode, type InputProblem } from "./core/errors.js";
export type { DType, RealTensor, Shape, StateDict, Tensor, TensorData } from "./core/tensor.js";
export * from "./verify/index.js";

export { type DecodedSafetensors, decodeSafetensors } from "./decode.js";
export { encodeSafetensors } from "./encode.js";

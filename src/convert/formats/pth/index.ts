export { type DecodedCheckpoint, type DecodePthOptions, decodePth } from "./decode.js";
export { encodePth } from "./encode.js";

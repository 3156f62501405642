/** File helpers for Node, the only part of the library that imports `node:`. */
export { fileError } from "./errors.js";
export { expectNotInputs } from "./inputs.js";
export { isFolder, type OpenInput, openInput, readInput, sidecarReader } from "./read.js";
export type { ReadProgress } from "./source.js";
export {
  expectFolderWritable,
  expectWritable,
  sweepTemporaries,
  writeChecked,
  writeFilesChecked,
  writeFolderChecked,
} from "./write.js";

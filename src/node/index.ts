/** File helpers for Node, the only part of the library that imports `node:`. */
export { fileError } from "./errors.js";
export { expectNotInputs } from "./inputs.js";
export { filesBeside, isFolder, type OpenInput, openInput, readInput, readPlainFile } from "./read.js";
export type { ReadProgress } from "./source.js";
export {
  type Appended,
  createAppended,
  expectWritable,
  sweepTemporaries,
  writeChecked,
  writeFilesChecked,
} from "./write.js";
export { expectFolderWritable, writeFolderChecked } from "./write-folder.js";

/** File helpers for Node, the only part of the library that imports `node:`. */
export { isFolder, type OpenInput, openInput, readInput, sidecarReader } from "./files/read.js";
export type { ReadProgress } from "./files/source.js";
export {
  expectFolderWritable,
  expectWritable,
  sweepTemporaries,
  writeChecked,
  writeFilesChecked,
  writeFolderChecked,
} from "./files/write.js";

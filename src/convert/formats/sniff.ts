import { type ByteSource, type Bytes, headOf, toSource } from "../../core/bytes.js";
import { FILE_FORMATS, type FileFormat, FORMATS } from "./registry.js";
import { listZipNames } from "./zip.js";

/**
 * Recognises a format by content, never by suffix. Everything that no other format claims is `pth`, whose reader says
 * what is wrong with it.
 */
export function sniffFormat(file: Bytes): FileFormat {
  const source = toSource(file);
  const head = headOf(source, HEAD_BYTES);
  const isFormat = (format: FileFormat): boolean => {
    const { starts, member } = FORMATS[format];
    return starts?.(head) === true && (member === undefined || hasMember(source, member));
  };
  return FILE_FORMATS.find(isFormat) ?? "pth";
}

/** Enough for every signature: of a JSON document, the white space before it. */
const HEAD_BYTES = 4096;

function hasMember(source: ByteSource, suffix: string): boolean {
  try {
    const names = listZipNames(source, { subject: "", part: "the file" });
    return names.some((name) => name.endsWith(suffix));
  } catch {
    // A damaged zip is refused by the checkpoint reader, in words.
    return false;
  }
}

import { type ByteSource, headOf } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { HEAD_BYTES, headText, otherKind, type Signature } from "../other-kinds.js";
import { isZip } from "../registry.js";
import { isTar } from "./tar.js";

/** The containers of PyTorch checkpoints, told apart by their first bytes. */
export type Encoding = "zip" | "tar" | "pickle";

/** Files that other readers of the project read. */
const OTHER_READERS: readonly Signature[] = [
  {
    // The length of a JSON header, far below 2^32, then the header.
    found: "a safetensors file",
    remedy: "convert it as safetensors",
    matches: (head) => head.slice(4, 9) === "\0\0\0\0{",
  },
  {
    // ModelProto: ir_version, then opset_import, producer_name or the graph.
    found: "an ONNX model",
    remedy: "give the checkpoint it was exported from",
    matches: (head) =>
      head.startsWith("\x08") && head.charCodeAt(1) <= 32 && "\x12\x3aB".includes(head.charAt(2)),
  },
  {
    found: "a JSON document",
    remedy: "download the checkpoint itself",
    matches: (head) => /^\s*[{[]\s*["{[\d\]}]/.test(head),
  },
];

/**
 * Tells which container a file is, by content and never by name.
 * Throws `InputError` of code `format` for an empty file and for files of other kinds.
 */
export function sniff(source: ByteSource, subject: string): Encoding {
  const refuse = (found: string, remedy: string) =>
    new InputError({ code: "format", subject, found, expected: "a PyTorch checkpoint", remedy });
  if (source.length === 0) throw refuse("an empty file", "download or copy the file again");
  const bytes = headOf(source, HEAD_BYTES);
  if (isZip(bytes)) return "zip";
  if (isTar(bytes)) return "tar";
  const head = headText(bytes);
  const other = otherKind(bytes) ?? OTHER_READERS.find(({ matches }) => matches(head));
  if (other !== undefined) throw refuse(other.found, other.remedy);
  // Protocols 0 and 1 are mostly text themselves, but no other text ends in STOP without a line break.
  if (isText(head) && !(FIRST_OPCODES.includes(head.charAt(0)) && lastOf(source) === STOP)) {
    throw refuse("a text file", "download the checkpoint itself");
  }
  if (!FIRST_OPCODES.includes(head.charAt(0)))
    throw refuse("a file of an unknown kind", "give a file that torch.save wrote");
  return "pickle";
}

/** PROTO, which pickles since protocol 2 start with, and what the first value of older ones can start with. */
const FIRST_OPCODES = "\x80(c]})lditSUVXNIJKMLFG";
const STOP = 0x2e;

function lastOf(source: ByteSource): number | undefined {
  return source.read(source.length - 1, source.length)[0];
}

/** Printable ASCII and line breaks throughout. */
function isText(head: string): boolean {
  return /^[\t\n\r -~]*$/.test(head);
}

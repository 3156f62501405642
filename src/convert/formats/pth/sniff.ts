import { type ByteSource, headOf } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { isZip } from "../zip.js";
import { isTar } from "./tar.js";

/** The containers of PyTorch checkpoints, told apart by their first bytes. */
export type Encoding = "zip" | "tar" | "pickle";

/** What a file that is no checkpoint turned out to be, and what to do about it. */
interface Impostor {
  readonly found: string;
  readonly remedy: string;
  readonly matches: (head: string) => boolean;
}

const DOWNLOAD = "download the checkpoint itself";
const OTHER_FORMAT = "give a file that torch.save wrote";

/** In order: the particular before the general. `head` is the beginning of the file as Latin-1. */
const IMPOSTORS: readonly Impostor[] = [
  {
    found: "a Git LFS pointer",
    remedy: "run git lfs pull where the file came from",
    matches: (head) => head.startsWith("version https://git-lfs.github.com/spec/"),
  },
  {
    found: "an HTML page",
    remedy: `${DOWNLOAD}, not the page that offers it`,
    matches: (head) => /^(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype|html|head|body)\b/is.test(head),
  },
  {
    found: "an XML document",
    remedy: DOWNLOAD,
    matches: (head) => /^(?:\xef\xbb\xbf)?\s*<\?xml/.test(head),
  },
  {
    // The length of a JSON header, far below 2^32, then the header.
    found: "a safetensors file",
    remedy: "convert it as safetensors",
    matches: (head) => head.slice(4, 9) === "\0\0\0\0{",
  },
  {
    found: "a gzip file",
    remedy: "unpack it first, with gunzip or tar xzf",
    matches: startsWith("\x1f\x8b"),
  },
  {
    found: "a compressed archive",
    remedy: "unpack it first",
    matches: startsWith("7z\xbc\xaf\x27\x1c", "Rar!\x1a\x07", "\xfd7zXZ\0", "BZh", "\x28\xb5\x2f\xfd"),
  },
  { found: "an HDF5 file, as Keras writes", remedy: OTHER_FORMAT, matches: startsWith("\x89HDF\r\n") },
  { found: "a GGUF file", remedy: OTHER_FORMAT, matches: startsWith("GGUF") },
  { found: "a NumPy .npy array", remedy: OTHER_FORMAT, matches: startsWith("\x93NUMPY") },
  {
    found: "a TensorFlow Lite model",
    remedy: OTHER_FORMAT,
    matches: (head) => head.slice(4, 8) === "TFL3",
  },
  { found: "an image", remedy: OTHER_FORMAT, matches: startsWith("\x89PNG\r\n", "\xff\xd8\xff", "GIF8") },
  {
    // ModelProto: ir_version, then opset_import, producer_name or the graph.
    found: "an ONNX model",
    remedy: "give the checkpoint it was exported from",
    matches: (head) =>
      head.startsWith("\x08") && head.charCodeAt(1) <= 32 && "\x12\x3aB".includes(head.charAt(2)),
  },
  {
    found: "a JSON document",
    remedy: DOWNLOAD,
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
  const head = String.fromCharCode(...bytes);
  const impostor = IMPOSTORS.find(({ matches }) => matches(head));
  if (impostor !== undefined) throw refuse(impostor.found, impostor.remedy);
  // Protocols 0 and 1 are mostly text themselves, but no other text ends in STOP without a line break.
  if (isText(head) && !(FIRST_OPCODES.includes(head.charAt(0)) && lastOf(source) === STOP)) {
    throw refuse("a text file", DOWNLOAD);
  }
  if (!FIRST_OPCODES.includes(head.charAt(0))) throw refuse("a file of an unknown kind", OTHER_FORMAT);
  return "pickle";
}

/** As much tells every kind. */
const HEAD_BYTES = 512;

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

function startsWith(...signatures: readonly string[]): (head: string) => boolean {
  return (head) => signatures.some((signature) => head.startsWith(signature));
}

import { InputError } from "../../../errors.js";
import { isTar } from "./tar.js";
import { isZip } from "./zip/directory.js";

/** The containers of PyTorch checkpoints, told apart by their first bytes. */
export type Encoding = "zip" | "tar" | "pickle";

/** What a file that is no checkpoint turned out to be, and what to do about it. */
interface Impostor {
  readonly found: string;
  readonly remedy: string;
  readonly matches: (bytes: Uint8Array, head: string) => boolean;
}

const DOWNLOAD = "download the checkpoint itself";
const OTHER_FORMAT = "give a file that torch.save wrote";

/** In order: the particular before the general. `head` is the beginning of the file as Latin-1. */
const IMPOSTORS: readonly Impostor[] = [
  {
    found: "a Git LFS pointer",
    remedy: "run git lfs pull where the file came from",
    matches: (_, head) => head.startsWith("version https://git-lfs.github.com/spec/"),
  },
  {
    found: "an HTML page",
    remedy: `${DOWNLOAD}, not the page that offers it`,
    matches: (_, head) =>
      /^(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype|html|head|body)\b/is.test(head),
  },
  {
    found: "an XML document",
    remedy: DOWNLOAD,
    matches: (_, head) => /^(?:\xef\xbb\xbf)?\s*<\?xml/.test(head),
  },
  {
    found: "a safetensors file",
    remedy: "convert it as safetensors",
    matches: (bytes, head) =>
      bytes.length >= 10 &&
      bytes[4] === 0 &&
      bytes[5] === 0 &&
      bytes[6] === 0 &&
      bytes[7] === 0 &&
      head[8] === "{",
  },
  {
    found: "a gzip file",
    remedy: "unpack it first, with gunzip or tar xzf",
    matches: (_, head) => head.startsWith("\x1f\x8b"),
  },
  {
    found: "a compressed archive",
    remedy: "unpack it first",
    matches: (_, head) => /^(?:7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\xfd7zXZ\0|BZh\d|\x28\xb5\x2f\xfd)/.test(head),
  },
  {
    found: "an HDF5 file, as Keras writes",
    remedy: OTHER_FORMAT,
    matches: (_, head) => head.startsWith("\x89HDF\r\n"),
  },
  { found: "a GGUF file", remedy: OTHER_FORMAT, matches: (_, head) => head.startsWith("GGUF") },
  { found: "a NumPy .npy array", remedy: OTHER_FORMAT, matches: (_, head) => head.startsWith("\x93NUMPY") },
  {
    found: "a TensorFlow Lite model",
    remedy: OTHER_FORMAT,
    matches: (_, head) => head.slice(4, 8) === "TFL3",
  },
  {
    found: "an image",
    remedy: OTHER_FORMAT,
    matches: (_, head) => /^(?:\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....WEBP)/s.test(head),
  },
  {
    // ModelProto's first field, ir_version, then producer_name or the graph.
    found: "an ONNX model",
    remedy: "give the checkpoint it was exported from",
    matches: (_, head) => /^\x08[\x01-\x20][\x12\x3a\x42]/.test(head),
  },
  { found: "a JSON document", remedy: DOWNLOAD, matches: (_, head) => /^\s*[{[]\s*["{[\d\]}]/.test(head) },
  { found: "a text file", remedy: DOWNLOAD, matches: isText },
];

/**
 * Tells which container a file is, by content and never by name.
 * Throws `InputError` of code `format` for an empty file and for files of other kinds.
 */
export function sniff(bytes: Uint8Array, subject: string): Encoding {
  const refuse = (found: string, remedy: string) =>
    new InputError({ code: "format", subject, found, expected: "a PyTorch checkpoint", remedy });
  if (bytes.length === 0) throw refuse("an empty file", "download or copy the file again");
  if (isZip(bytes)) return "zip";
  if (isTar(bytes)) return "tar";
  // PROTO, which every pickle since protocol 2 starts with. A safetensors header can be 128 bytes long and start alike.
  const head = String.fromCharCode(...bytes.subarray(0, 512));
  const impostor = IMPOSTORS.find(({ matches }) => matches(bytes, head));
  if (impostor !== undefined) throw refuse(impostor.found, impostor.remedy);
  if (!mayStartPickle(bytes)) throw refuse("a file of an unknown kind", OTHER_FORMAT);
  return "pickle";
}

/** Printable ASCII throughout, and not a pickle of protocol 0, which is text too but ends with its STOP opcode. */
function isText(bytes: Uint8Array, head: string): boolean {
  return !/[^\t\n\r\x20-\x7e]/.test(head) && !(bytes.at(-1) === 0x2e && mayStartPickle(bytes));
}

/** Opcodes that a pickle's first value can start with. */
function mayStartPickle(bytes: Uint8Array): boolean {
  return "\x80(c]})lditSUVXNIJKMLFG\x88\x89\x8c\x95".includes(String.fromCharCode(bytes[0] ?? 0));
}

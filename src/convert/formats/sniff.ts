import { type ByteSource, type Bytes, headOf, toSource } from "../../core/bytes.js";
import { FILE_FORMATS, type FileFormat, FORMATS } from "./registry.js";
import { listZipNames } from "./zip.js";

/**
 * Detects a format from content, never from the suffix. Anything that no other format recognises is `pth`, whose reader
 * reports the problem.
 */
export function sniffFormat(file: Bytes): FileFormat {
  const source = toSource(file);
  const head = headOf(source, SNIFFED_BYTES);
  const isFormat = (format: FileFormat): boolean => {
    const { starts, member } = FORMATS[format];
    return starts?.(head) === true && (member === undefined || hasMember(source, member));
  };
  return FILE_FORMATS.find(isFormat) ?? "pth";
}

/** Enough for every signature: for a JSON document, including leading white space. */
const SNIFFED_BYTES = 4096;

function hasMember(source: ByteSource, suffix: string): boolean {
  try {
    const names = listZipNames(source, { subject: "", part: "the file" });
    return names.some((name) => name.endsWith(suffix));
  } catch {
    // A damaged zip is refused by the checkpoint reader, with a message.
    return false;
  }
}

/** A file of a format that is not supported: what it is, and what to do about it. */
export interface OtherKind {
  readonly found: string;
  readonly remedy: string;
}

/** How to detect a format. `head` is the beginning of the file as Latin-1. */
export interface Signature extends OtherKind {
  readonly matches: (head: string) => boolean;
}

const DOWNLOAD = "download the file itself";
/** The remedy for a model that another format was exported to. */
export const MADE_FROM = "use the ONNX model or the checkpoint it was made from";
const OTHER_FORMAT = "use a checkpoint, or an ONNX or TensorFlow.js model";
/** The remedy for a model of Keras or TensorFlow. */
export const EXPORT_KERAS =
  "export the model to ONNX with tf2onnx, or to TensorFlow.js with tensorflowjs_converter";

/** The remedy for a checkpoint of several files. */
export const MERGE_SHARDS =
  "load all of its parts, and save one file, with torch.save or safetensors.torch.save_file";

/** A varint of protobuf. */
const VARINT = "[\\x80-\\xff]{0,9}[\\0-\\x7f]";

/** Version, levels and version again, all 0; the length of a TensorDesc; its type; its first dimension. */
const DENSE_TENSOR = "^\\0{16}[\\x01-\\x40]\\0{3}\\x08[\\0-\\x20]\\x10";

/** In order: specific signatures before general ones. */
const SIGNATURES: readonly Signature[] = [
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
    found: "an OpenVINO model",
    remedy: MADE_FROM,
    matches: (head) =>
      /^(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<net\s[^>]*\bversion=/s.test(head),
  },
  {
    found: "an XML document",
    remedy: DOWNLOAD,
    matches: (head) => /^(?:\xef\xbb\xbf)?\s*<\?xml/.test(head),
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
  { found: "an HDF5 file, as Keras writes it", remedy: EXPORT_KERAS, matches: startsWith("\x89HDF\r\n") },
  { found: "a GGUF file", remedy: OTHER_FORMAT, matches: startsWith("GGUF") },
  { found: "a NumPy .npy array", remedy: OTHER_FORMAT, matches: startsWith("\x93NUMPY") },
  {
    // FlatBuffers: the offset of the root, then the file identifier.
    found: "a TensorFlow Lite model",
    remedy: "export the model to ONNX with tf2onnx",
    matches: (head) => head.slice(4, 8) === "TFL3",
  },
  {
    found: "an onnxruntime model (.ort)",
    remedy: "use the .onnx file it was made from",
    matches: (head) => head.slice(4, 8) === "ORTM",
  },
  {
    // ProgramDesc of framework.proto: its first block, of index 0 and the parent -1; or the JSON of Paddle 3.
    found: "a PaddlePaddle model",
    remedy: "export the model to ONNX with paddle2onnx",
    matches: (head) =>
      new RegExp(`^\n${VARINT}\x08\\0\x10\xff{9}\x01`).test(head) || /^\s*\{\s*"base_code"/.test(head),
  },
  {
    // LoDTensors: versions and levels of zero, then the length of a TensorDesc that begins with its type.
    found: "parameters of a PaddlePaddle model",
    remedy: "export the model to ONNX with paddle2onnx",
    matches: (head) => new RegExp(DENSE_TENSOR).test(head),
  },
  {
    // Model of Model.proto: the version, then the description, which begins with an input, which begins with its name.
    found: "a Core ML model",
    remedy: MADE_FROM,
    matches: (head) => new RegExp(`^\x08[\x01-\x1f]\x12${VARINT}\n${VARINT}\n`).test(head),
  },
  {
    // SavedModel of saved_model.proto: version 1, then a MetaGraphDef of which the MetaInfoDef is first.
    found: "a TensorFlow SavedModel",
    remedy: EXPORT_KERAS,
    matches: (head) => new RegExp(`^\x08\x01\x12${VARINT}\n${VARINT}[\x0a\x12\x1a\x22]`).test(head),
  },
  { found: "an ncnn model", remedy: MADE_FROM, matches: (head) => /^7767517\s/.test(head) },
  { found: "a TensorRT engine", remedy: MADE_FROM, matches: startsWith("ftrt", "ptrt") },
  { found: "an image", remedy: OTHER_FORMAT, matches: startsWith("\x89PNG\r\n", "\xff\xd8\xff", "GIF8") },
];

/** Enough to recognise every kind. */
export const HEAD_BYTES = 512;

/** The beginning of a file as Latin-1 text, for matching signatures. */
export function headText(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, HEAD_BYTES));
}

/** The known but unsupported format of a file, by its first bytes and never by its name; undefined if unknown. */
export function otherKind(bytes: Uint8Array): OtherKind | undefined {
  const head = headText(bytes);
  return SIGNATURES.find(({ matches }) => matches(head));
}

function startsWith(...signatures: readonly string[]): (head: string) => boolean {
  return (head) => signatures.some((signature) => head.startsWith(signature));
}

import { type ByteSource, type Bytes, headOf, toSource } from "../../core/bytes.js";
import type { Region } from "./refusals.js";
import { isZip, listZipNames } from "./zip.js";

/** The formats that files of weights and models have. */
export type FileFormat = WeightsFormat | "onnx" | "tfjs";

/** Those that hold a state dict and nothing of how to run it. */
export type WeightsFormat = (typeof WEIGHTS_FORMATS)[number];

export const WEIGHTS_FORMATS = ["pth", "safetensors", "npz"] as const;

/**
 * Tells formats apart by content, never by suffix; `pth` is what everything else is not, and its reader says what is
 * wrong with it. The zip archives of numpy and PyTorch differ by what they hold. A pickle of protocol 2 or later starts
 * with 0x80, which no protobuf message of ours can.
 */
export function sniffFormat(file: Bytes): FileFormat {
  const source = toSource(file);
  const bytes = headOf(source, HEAD_BYTES);
  if (isSafetensors(bytes)) return "safetensors";
  if (isJson(bytes)) return "tfjs";
  if (isZip(bytes)) return holdsArrays(source) ? "npz" : "pth";
  // IR version, the first field of every exporter's ModelProto: field 1, varint.
  return bytes[0] === 0x08 ? "onnx" : "pth";
}

/** As much tells every format but archives apart. */
const HEAD_BYTES = 4096;

/** The length of a JSON header, as a u64 of which no file needs the upper two bytes, then the header's brace. */
function isSafetensors(bytes: Uint8Array): boolean {
  return bytes[6] === 0 && bytes[7] === 0 && bytes[8] === 0x7b;
}

/** A `model.json`: a brace after white space only. A pickle cannot start with one. */
function isJson(bytes: Uint8Array): boolean {
  return bytes[bytes.findIndex((byte) => !WHITE_SPACE.has(byte))] === 0x7b;
}

/** JSON's: tab, line feed, carriage return, space. */
const WHITE_SPACE: ReadonlySet<number> = new Set([0x09, 0x0a, 0x0d, 0x20]);

function holdsArrays(source: ByteSource): boolean {
  const region: Region = { subject: "", part: "the file" };
  try {
    return listZipNames(source, region).some((name) => name.endsWith(".npy"));
  } catch {
    // A damaged zip is refused by the checkpoint reader, in words.
    return false;
  }
}

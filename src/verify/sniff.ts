import { unzipSync } from "fflate";

/** The formats that a side of a verification can have. */
export type SideFormat = "onnx" | "pth" | "npz";

/**
 * Tells formats apart by content, never by suffix. ONNX has no magic number, so it is what everything else is not: its
 * reader decides. A pickle of protocol 2 or later starts with 0x80, which no protobuf message of ours can; the zip
 * archives of numpy and PyTorch differ by what they hold.
 */
export function sniffFormat(bytes: Uint8Array): SideFormat {
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) return holdsArrays(bytes) ? "npz" : "pth";
  // IR version, the first field of every exporter's ModelProto: field 1, varint.
  return bytes[0] === 0x08 ? "onnx" : "pth";
}

function holdsArrays(bytes: Uint8Array): boolean {
  let found = false;
  try {
    unzipSync(bytes, {
      filter({ name }) {
        found ||= name.endsWith(".npy");
        return false;
      },
    });
  } catch {
    // A damaged zip is refused by the checkpoint reader, in words.
  }
  return found;
}

/**
 * The .npz format: a zip of .npy arrays (numpy.savez, numpy.savez_compressed), read through fflate.
 */
import { type UnzipFileInfo, unzipSync } from "fflate";
import { InputError } from "../../../errors.js";
import type { Tensor } from "../../../tensor.js";
import { decodeNpy } from "./npy.js";

/** An open archive: arrays are inflated one at a time, when they are read. */
export interface NpzArchive {
  /** Array names without `.npy`, in archive order. */
  readonly names: readonly string[];
  /** @throws InputError (`format`, `unsupported`) if there is no such array or it does not decode */
  read(name: string): Tensor;
}

/** DEFLATE expands no more than 1032 to 1 (RFC 1951: 258 bytes from two bits), so a larger claim is a lie. */
const MAX_INFLATION = 1032;

/**
 * Opens an .npz archive.
 *
 * @param subject what messages call the archive, usually the file's name
 * @throws InputError (`format`) if the bytes are not a zip of .npy arrays
 */
export function openNpz(bytes: Uint8Array, subject: string): NpzArchive {
  const entries = new Map<string, UnzipFileInfo>();
  inflate(bytes, subject, (entry) => {
    if (!entry.name.endsWith(".npy")) return false;
    const name = entry.name.slice(0, -".npy".length);
    if (entries.has(name)) throw malformed(subject, `two arrays called ${JSON.stringify(name)}`);
    if (entry.size > bytes.length || entry.originalSize > entry.size * MAX_INFLATION)
      throw malformed(subject, `an array ${JSON.stringify(name)} that claims ${entry.originalSize} bytes`);
    entries.set(name, entry);
    return false;
  });
  if (entries.size === 0) throw malformed(subject, "no .npy arrays");
  return {
    names: [...entries.keys()],
    read(name) {
      const entry = entries.get(name);
      const data = entry && inflate(bytes, subject, ({ name: file }) => file === entry.name)[entry.name];
      if (!data) throw malformed(subject, `no array called ${JSON.stringify(name)}`);
      return decodeNpy(data, `${subject}[${JSON.stringify(name)}]`);
    },
  };
}

function inflate(
  bytes: Uint8Array,
  subject: string,
  filter: (entry: UnzipFileInfo) => boolean,
): Record<string, Uint8Array> {
  try {
    return unzipSync(bytes, { filter });
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw malformed(subject, "bytes that do not parse as a zip archive", cause);
  }
}

function malformed(subject: string, found: string, cause?: unknown): InputError {
  return new InputError(
    {
      code: "format",
      subject,
      found,
      expected: "an .npz archive of numpy arrays",
      remedy: "record it again with python/record_activations.py or numpy.savez",
    },
    { cause },
  );
}

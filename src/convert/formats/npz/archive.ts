/**
 * The .npz format: a zip of .npy arrays (numpy.savez, numpy.savez_compressed). The zip is read as strictly as
 * PyTorch's: no entry twice, none that overlaps another, none larger than four times the file.
 */
import { type Bytes, headOf, toSource } from "../../../byte-source.js";
import { InputError } from "../../../errors.js";
import type { StateDict } from "../../../state-dict.js";
import type { Tensor } from "../../../tensor.js";
import { type Budget, createBudget } from "../budget.js";
import { quote, type Region } from "../refusals.js";
import { readZipEntry } from "../zip/data.js";
import { isZip, readZipDirectory } from "../zip/directory.js";
import type { ZipEntry } from "../zip/entry.js";
import { decodeNpy } from "./npy.js";

/** An open archive: arrays are inflated one at a time, when they are read. */
export interface NpzArchive {
  /** Array names without `.npy`, in archive order. */
  readonly names: readonly string[];
  /** @throws InputError (`format`, `unsupported`) if there is no such array or it does not decode */
  read(name: string): Tensor;
}

const SUFFIX = ".npy";

/**
 * Opens an .npz archive.
 *
 * @param subject what messages call the archive, usually the file's name
 * @param allowance the memory that a read array may take; by default each the same, for what was read before may be gone
 * @throws InputError (`format`) if the bytes are not a zip of .npy arrays
 */
export function openNpz(
  bytes: Bytes,
  subject: string,
  allowance: () => Budget = () => createBudget(subject, bytes.length),
): NpzArchive {
  const source = toSource(bytes);
  if (!isZip(headOf(source, 4))) throw malformed(subject, "bytes that are no zip archive");
  const region: Region = { subject, part: "the file" };
  const entries = new Map<string, ZipEntry>();
  for (const [name, entry] of readZipDirectory(source, region))
    if (name.endsWith(SUFFIX)) entries.set(name.slice(0, -SUFFIX.length), entry);
  if (entries.size === 0) throw malformed(subject, "no .npy arrays");
  return {
    names: [...entries.keys()],
    read(name) {
      const entry = entries.get(name);
      if (!entry) throw malformed(subject, `no array called ${quote(name)}`);
      const data = readZipEntry(source, entry, allowance(), region);
      return decodeNpy(data, `${subject}[${quote(name)}]`);
    },
  };
}

/**
 * Reads an .npz of weights: each array's name is its parameter's path.
 *
 * @throws InputError (`format`, `unsupported`) if an array cannot be read
 */
export function decodeNpz(bytes: Bytes, subject: string): StateDict {
  const budget = createBudget(subject, bytes.length);
  const archive = openNpz(bytes, subject, () => budget);
  return new Map(archive.names.map((name) => [name, archive.read(name)]));
}

function malformed(subject: string, found: string): InputError {
  return new InputError({
    code: "format",
    subject,
    found,
    expected: "an .npz archive of numpy arrays",
    remedy: "save it again with numpy.savez, or record it with python/record_activations.py",
  });
}

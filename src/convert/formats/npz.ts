import { type Bytes, headOf, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { type Budget, createBudget } from "./budget.js";
import { decodeNpy, encodeNpy } from "./npy.js";
import { quote, type Region } from "./refusals.js";
import { isZip } from "./registry.js";
import { crc32, encodeStoredZip, readZipDirectory, readZipEntry, type ZipEntry } from "./zip.js";

/**
 * The .npz format: a zip of .npy arrays (numpy.savez, numpy.savez_compressed). The zip is read as strictly as
 * PyTorch's (no entry twice, none that overlaps another, none larger than four times the file), and as in numpy every
 * array's checksum must be right. Refused: an entry `NAME` beside `NAME.npy`, both of which numpy calls NAME; which of
 * the two it reads depends on its version.
 */

/** An open archive: arrays are inflated one at a time, when they are read. */
export interface NpzArchive {
  /** Array names without `.npy`, in archive order. */
  readonly names: readonly string[];
  /**
   * Inflates and decodes one array, row-major whatever its order in the file.
   *
   * @throws InputError (`format`, `unsupported`) if there is no such array or it does not decode
   */
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
  if (!isZip(headOf(source, 4))) throw malformed(subject, "bytes that are not a zip archive");
  const region: Region = { subject, part: "the file" };
  const entries = new Map<string, ZipEntry>();
  const directory = readZipDirectory(source, region);
  for (const [name, entry] of directory) {
    if (!name.endsWith(SUFFIX)) continue;
    const path = name.slice(0, -SUFFIX.length);
    if (directory.has(path)) throw malformed(subject, `two entries that numpy calls ${quote(path)}`);
    entries.set(path, entry);
  }
  if (entries.size === 0) throw malformed(subject, "no .npy arrays");
  return {
    names: [...entries.keys()],
    read(name) {
      const entry = entries.get(name);
      if (!entry) throw malformed(subject, `no array called ${quote(name)}`);
      const data = readZipEntry(source, entry, allowance(), region);
      if (crc32(data) !== entry.checksum)
        throw malformed(subject, `an array ${quote(name)} whose checksum is wrong`);
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

/**
 * The bytes of an .npz archive as numpy.savez writes it, one array for each tensor under its path.
 * `numpy.load(allow_pickle=False)` reads it.
 *
 * @throws InputError (`unsupported`) for bfloat16, which numpy does not have; (`format`) if a tensor's data does not
 * fill its shape
 */
export function encodeNpz(stateDict: StateDict, { subject }: { readonly subject: string }): Uint8Array {
  const foreign = [...stateDict].filter(([, { dtype }]) => dtype === "bfloat16").map(([path]) => path);
  if (foreign.length > 0)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${foreign.length} bfloat16 ${foreign.length === 1 ? "tensor" : "tensors"} (${foreign[0]}${foreign.length > 1 ? ", …" : ""})`,
      expected: "element types that numpy has",
      remedy: "add --dtype float32, which keeps every value",
    });
  return encodeStoredZip(
    new Map([...stateDict].map(([path, tensor]) => [`${path}.npy`, encodeNpy(tensor, subject)])),
    { subject },
  );
}

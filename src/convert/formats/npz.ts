import { type Bytes, bytesOf, headOf, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import {
  DTYPES,
  type DType,
  elementCount,
  formatShape,
  type Shape,
  type StateDict,
  type Tensor,
} from "../../core/tensor.js";
import { plural } from "../../core/text.js";
import { type Budget, createBudget, printable, quote, type Region } from "./refusals.js";
import { isZip } from "./registry.js";
import { encodeStoredZip, readZipDirectory, readZipEntry, type ZipEntry } from "./zip.js";

/**
 * The .npz format: a zip of .npy arrays (numpy.savez, numpy.savez_compressed). The zip is read as strictly as PyTorch's
 * (no duplicate or overlapping entries, none larger than four times the file), and as in numpy every array's checksum
 * must be right. Refused: entries without `.npy`, which numpy reads by their content, and an entry `NAME.npy.npy` beside
 * `NAME.npy`, both of which numpy calls NAME.npy; which of the two it reads depends on its version.
 */

/** An open archive; each array is inflated when it is read. */
export interface NpzArchive {
  /** Array names without `.npy`, in archive order. */
  readonly names: readonly string[];
  /**
   * Inflates and decodes one array, row-major whatever its order in the file.
   *
   * @throws InputError (`format`, `unsupported`) if the array does not exist or cannot be decoded
   */
  read(name: string): Tensor;
}

const SUFFIX = ".npy";

/**
 * Opens an .npz archive.
 *
 * @param subject name of the archive in messages, usually the file's name
 * @param allowance the memory that reading an array may take; by default separate for each array, since earlier ones
 * may have been released
 * @throws InputError (`format`) if the bytes are not a zip of .npy arrays
 */
export function openNpz(
  bytes: Bytes,
  subject: string,
  allowance: () => Budget = () => createBudget(subject, bytes.length),
): NpzArchive {
  const source = toSource(bytes);
  if (!isZip(headOf(source, 4))) throw badArchive(subject, "bytes that are not a zip archive");
  const region: Region = { subject, part: "the file" };
  const entries = new Map<string, ZipEntry>();
  const directory = readZipDirectory(source, region);
  for (const [name, entry] of directory) {
    if (!name.endsWith(SUFFIX)) throw badArchive(subject, `an entry ${quote(name)} without ${SUFFIX}`);
    const path = name.slice(0, -SUFFIX.length);
    if (directory.has(path)) throw badArchive(subject, `two entries with the numpy name ${quote(path)}`);
    entries.set(path, entry);
  }
  if (entries.size === 0) throw badArchive(subject, "no .npy arrays");
  return {
    names: [...entries.keys()],
    read(name) {
      const entry = entries.get(name);
      if (!entry) throw badArchive(subject, `no array called ${quote(name)}`);
      const data = readZipEntry(source, entry, allowance(), region);
      if (crc32(data) !== entry.checksum)
        throw badArchive(subject, `an array ${quote(name)} with a wrong checksum`);
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

function badArchive(subject: string, found: string): InputError {
  return new InputError({
    code: "format",
    subject,
    found,
    expected: "an .npz archive of numpy arrays",
    remedy: "save it again with numpy.savez, or record it with python/record_activations.py",
  });
}

/**
 * The bytes of an .npz archive as numpy.savez writes it, one array per tensor under its path, for
 * `numpy.load(allow_pickle=False)`.
 *
 * @throws InputError (`unsupported`) for bfloat16, which numpy does not have; (`format`) if a tensor's data does not
 * match its shape
 */
export function encodeNpz(stateDict: StateDict, { subject }: { readonly subject: string }): Uint8Array {
  const foreign = [...stateDict].filter(([, { dtype }]) => dtype === "bfloat16").map(([path]) => path);
  if (foreign.length > 0)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${plural(foreign.length, "bfloat16 tensor")} (${foreign[0]}${foreign.length > 1 ? ", …" : ""})`,
      expected: "element types that numpy supports",
      remedy: "add --dtype float32, which represents every value exactly",
    });
  return encodeStoredZip(
    new Map([...stateDict].map(([path, tensor]) => [`${path}.npy`, encodeNpy(tensor, subject)])),
    { subject },
  );
}

/**
 * The .npy format, version 1.0 to 3.0 (numpy.lib.format): magic, a Python literal with dtype, order and shape, then the
 * elements. Numbers of the format itself are little-endian.
 *
 * Accepted: little-endian or single-byte bool, int8–int64, uint8, float16, float32, float64, C or Fortran order.
 * Refused: headers in any form that writers do not use, object arrays (they are pickles), strings, structures, complex
 * numbers, big-endian data, data whose length does not match its shape. Written: version 1.0, C order, the bytes of
 * numpy.save.
 */

/** The same array row-major, from elements in Fortran order, whose first index runs fastest. */
function fromFortranOrder({ dtype, shape, data }: Tensor): Tensor {
  const ordered = new DTYPES[dtype](data.length);
  const strides: number[] = [];
  shape.reduce((stride, size) => {
    strides.push(stride);
    return stride * size;
  }, 1);
  const index = shape.map(() => 0);
  for (let position = 0; position < data.length; position++) {
    const source = index.reduce((sum, at, axis) => sum + at * (strides[axis] ?? 0), 0);
    // Both are arrays of the same type, which TypeScript cannot infer.
    (ordered as Float64Array)[position] = data[source] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      index[axis] = next < (shape[axis] ?? 0) ? next : 0;
      if (index[axis] !== 0) break;
    }
  }
  return { dtype, shape, data: ordered };
}

/** numpy's type codes; single bytes have no byte order. */
const NPY_CODES = {
  float64: "<f8",
  float32: "<f4",
  float16: "<f2",
  int64: "<i8",
  int32: "<i4",
  int16: "<i2",
  int8: "|i1",
  uint8: "|u1",
  bool: "|b1",
} as const satisfies Record<NpyDType, string>;

/** The element types that numpy supports too. */
type NpyDType = Exclude<DType, "bfloat16">;

/** By the code without its byte order. */
const BY_CODE: ReadonlyMap<string, DType> = new Map(
  (Object.keys(NPY_CODES) as NpyDType[]).map((dtype) => [NPY_CODES[dtype].slice(1), dtype]),
);

/** Magic number and version 1.0, before the header's length in two bytes. */
const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0] as const;
const LENGTH_BYTES = 2;

/** Since version 2.0 the length has four bytes. */
const LONG_LENGTH_BYTES = 4;

/** Of the data within the file (numpy/lib/_format_impl.py, `ARRAY_ALIGN`). */
const ALIGNMENT = 64;

/** Digits that numpy leaves room for, so that the first dimension can grow in place (`GROWTH_AXIS_MAX_DIGITS`). */
const GROWTH_DIGITS = 21;

/**
 * Decodes one .npy array into a row-major tensor, a view over the bytes if they are aligned.
 *
 * @param subject name of the array in messages
 * @throws InputError (`format`, `unsupported`)
 */
export function decodeNpy(bytes: Uint8Array, subject: string): Tensor {
  const { shape, descr, fortranOrder, dataOffset } = readHeader(bytes, subject);
  // `<` little-endian, `|` not applicable, `=` native, which is little-endian wherever JavaScript runs.
  const dtype = BY_CODE.get(descr.replace(/^[<|=]/, ""));
  if (dtype === undefined) throw unsupported(subject, `elements of numpy type ${printable(descr)}`);
  const array = DTYPES[dtype];
  const raw = bytes.subarray(dataOffset);
  const needed = elementCount(shape) * array.BYTES_PER_ELEMENT;
  if (needed !== raw.length)
    throw badArray(subject, `${raw.length} bytes for ${dtype} of the shape ${formatShape(shape)}`);
  // A Node Buffer's slice() shares memory where a Uint8Array's copies.
  const shared = raw.byteOffset % array.BYTES_PER_ELEMENT === 0 && dtype !== "bool";
  const aligned = shared ? raw : new Uint8Array(raw);
  // A bool is 0 or 1; numpy reads any other byte as true.
  if (dtype === "bool") for (const [index, byte] of aligned.entries()) aligned[index] = byte === 0 ? 0 : 1;
  const tensor: Tensor = {
    dtype,
    shape,
    data: new array(aligned.buffer, aligned.byteOffset, elementCount(shape)),
  };
  return fortranOrder ? fromFortranOrder(tensor) : tensor;
}

/**
 * The bytes of an .npy file, the same that numpy.save writes.
 *
 * @throws InputError (`unsupported`) for bfloat16, (`format`) if the data does not fill the shape
 */
export function encodeNpy({ dtype, shape, data }: Tensor, subject: string): Uint8Array {
  if (dtype === "bfloat16") throw unsupported(subject, "elements of type bfloat16");
  if (data.length !== elementCount(shape))
    throw badArray(subject, `${data.length} elements for the shape ${formatShape(shape)}`);
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const literal = `{'descr': '${NPY_CODES[dtype]}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const [first] = shape;
  const growth = first === undefined ? 0 : GROWTH_DIGITS - String(first).length;
  const fixed = MAGIC.length + LENGTH_BYTES;
  const least = fixed + literal.length + growth + 1;
  // numpy pads by 1 to 64 spaces.
  const dataOffset = least + ALIGNMENT - (least % ALIGNMENT);
  const bytes = new Uint8Array(dataOffset + data.byteLength);
  bytes.set(MAGIC);
  new DataView(bytes.buffer).setUint16(MAGIC.length, dataOffset - fixed, true);
  bytes.set(new TextEncoder().encode(`${literal.padEnd(dataOffset - fixed - 1)}\n`), fixed);
  bytes.set(bytesOf(data), dataOffset);
  return bytes;
}

/** numpy's own limit (`_MAX_HEADER_SIZE`). */
const MAX_HEADER_BYTES = 10_000;

/** numpy's own limit was 32 until version 2. With `MAX_SIZE` it keeps products of sizes finite. */
const MAX_RANK = 32;
const MAX_SIZE = 2 ** 48;

interface NpyHeader {
  readonly shape: Shape;
  /** The element type in numpy's notation, such as `<f4`. */
  readonly descr: string;
  readonly fortranOrder: boolean;
  readonly dataOffset: number;
}

/**
 * The forms of the three values in a header, each in its own group: a plain string, True or False, and a tuple of
 * sizes, which Python 2 writes with an L.
 */
const FIELD = String.raw`(?:'(\w+)'|"(\w+)") ?: ?(?:'([^'\\]*)'|"([^"\\]*)"|(True|False)|\(((?:\d+L?, ?)*(?:\d+L?)?)\))`;

/**
 * The header as a whole: a dict of three fields, each once, and white space. numpy evaluates it as a Python literal,
 * which uses the last of two equal keys and allows many other forms; what writers do not write is refused.
 */
const HEADER = new RegExp(String.raw`^\{ ?${FIELD}, ?${FIELD}, ?${FIELD},? ?\}[ \n]*$`);

/** Groups of one field in that expression: key in either kind of quotes, string in either kind, order, sizes. */
const FIELD_GROUPS = 6;

function readHeader(bytes: Uint8Array, subject: string): NpyHeader {
  const { start, end, major } = headerBounds(bytes, subject);
  const header = String.fromCharCode(...bytes.subarray(start, end));
  const groups: readonly (string | undefined)[] = HEADER.exec(header)?.slice(1) ?? [];
  let descr: string | undefined;
  let order: string | undefined;
  let sizes: string | undefined;
  for (let at = 0; at < groups.length; at += FIELD_GROUPS) {
    const key = groups[at] ?? groups[at + 1];
    if (key === "descr") descr = groups[at + 2] ?? groups[at + 3];
    else if (key === "fortran_order") order = groups[at + 4];
    else if (key === "shape") sizes = groups[at + 5];
  }
  if (descr === undefined || order === undefined || sizes === undefined)
    throw badArray(subject, "a header without exactly one element type, order and shape");
  const items = sizes.split(",").map((size) => size.trim());
  // `(3)` is a number in Python, not a tuple.
  const isTuple = items.length !== 1 || items[0] === "";
  const shape = items.filter((size) => size !== "").map((size) => Number(size.replace(/L$/, "")));
  // Python 2 did not write version 3.0.
  const isPlain = items.every((size) =>
    (major < 3 ? /^(?:(?:0|[1-9]\d*)L?)?$/ : /^(?:0|[1-9]\d*)?$/).test(size),
  );
  if (!isTuple || !isPlain || shape.length > MAX_RANK || !shape.every((size) => size < MAX_SIZE))
    throw badArray(subject, `the shape (${printable(sizes)})`);
  return { shape, descr, fortranOrder: order === "True", dataOffset: end };
}

/** The position of the header; its length has two bytes in version 1.0 and four in 2.0 and 3.0. */
function headerBounds(
  bytes: Uint8Array,
  subject: string,
): { readonly start: number; readonly end: number; readonly major: number } {
  const fixed = MAGIC.length + LONG_LENGTH_BYTES;
  // The magic number proper is six bytes; the version follows.
  if (bytes.length < fixed || MAGIC.slice(0, 6).some((byte, index) => bytes[index] !== byte))
    throw badArray(subject, "bytes that are not an .npy file");
  const [major = 0, minor = 0] = bytes.subarray(6, 8);
  if (major < 1 || major > 3 || minor !== 0) throw badArray(subject, `format version ${major}.${minor}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = major >= 2;
  const length = long ? view.getUint32(MAGIC.length, true) : view.getUint16(MAGIC.length, true);
  const start = MAGIC.length + (long ? LONG_LENGTH_BYTES : LENGTH_BYTES);
  if (length > MAX_HEADER_BYTES || start + length > bytes.length)
    throw badArray(subject, `a header of ${length} bytes in ${bytes.length}`);
  return { start, end: start + length, major };
}

function badArray(subject: string, found: string): InputError {
  return new InputError({
    code: "format",
    subject,
    found,
    expected: "a complete numpy array",
    remedy: "save it again with numpy.save or numpy.savez",
  });
}

function unsupported(subject: string, found: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found,
    expected: "float16 to float64, int8 to int64, uint8 or bool, little-endian",
    remedy: "convert it, for instance with array.astype('float32')",
  });
}

/** Tables of CRC-32 (reflected, polynomial 0xEDB88320): the n-th is for a byte followed by n bytes of zeros. */
const CRC_TABLES = crcTables();

function crcTables(): readonly [Uint32Array, Uint32Array, Uint32Array, Uint32Array] {
  const tables: Uint32Array[] = [];
  for (let zeros = 0; zeros < 4; zeros++) {
    const previous = tables[zeros - 1];
    tables.push(
      Uint32Array.from({ length: 256 }, (_, byte) => {
        if (previous === undefined) {
          let crc = byte;
          for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb88320;
          return crc;
        }
        const crc = previous[byte] ?? 0;
        return (crc >>> 8) ^ (tables[0]?.[crc & 0xff] ?? 0);
      }),
    );
  }
  const [one = new Uint32Array(), two = one, three = one, four = one] = tables;
  return [one, two, three, four];
}

/** The checksum of an entry's unpacked data (APPNOTE 4.4.7), four bytes at a time. */
function crc32(data: Uint8Array): number {
  const [one, two, three, four] = CRC_TABLES;
  let crc = -1;
  let index = 0;
  for (; index + 4 <= data.length; index += 4) {
    crc ^=
      (data[index] as number) |
      ((data[index + 1] as number) << 8) |
      ((data[index + 2] as number) << 16) |
      ((data[index + 3] as number) << 24);
    crc =
      (four[crc & 0xff] as number) ^
      (three[(crc >>> 8) & 0xff] as number) ^
      (two[(crc >>> 16) & 0xff] as number) ^
      (one[crc >>> 24] as number);
  }
  for (; index < data.length; index++)
    crc = (crc >>> 8) ^ (one[(crc ^ (data[index] as number)) & 0xff] as number);
  return ~crc >>> 0;
}

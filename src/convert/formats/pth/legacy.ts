import { type ByteSource, type Bytes, type ReadRange, sliceOf } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { Cursor } from "../cursor.js";
import { type Budget, corrupt, position, printable, quote, type Region, unsupported } from "../refusals.js";
import { runPickle } from "./pickle/machine.js";
import {
  inertObject,
  isGlobal,
  isStorage,
  keyText,
  type PickleEnvironment,
  type PickleValue,
  type Storage,
  typeName,
} from "./pickle/values.js";
import { createStorageTable, type DeclaredStorage, partOf, scalarOf, type Unpickled } from "./storages.js";
import { storageElement, storageElementName } from "./tensor-ref.js";

/**
 * The format of torch.save before 1.6, and bare pickles. Source: torch/serialization.py (`_legacy_save`,
 * `_legacy_load`).
 *
 * A legacy file is five pickles in sequence (magic number, protocol version, information on the system, the object, the
 * keys of its storages), then each storage in the order of the keys: its length as a 64-bit count of elements, and its
 * elements. All little-endian, on any machine.
 */

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;

/** Reads a file that starts with a pickle: a legacy container if its first object is the magic number. */
export function readPickles(source: ByteSource, region: Region, budget: Budget): Unpickled {
  return read(source, region, pickleEnvironment(budget));
}

/** For bare pickles: there is nothing outside them that a persistent id could refer to. */
export function pickleEnvironment(budget: Budget): PickleEnvironment {
  const inner: PickleEnvironment = {
    budget,
    isScript: false,
    numberOf: (value) => scalarOf(value, budget),
    persistentLoad: (_id, region) => {
      throw unsupported(
        region,
        `an external reference in the pickle of ${printable(region.part)}`,
        "all data inside the pickle",
      );
    },
    loadStorage: (_file, region) => {
      throw unsupported(region, "storage files nested in a storage file", "one level of nesting");
    },
  };
  // A storage shared by many tensors is one value in the pickle, and must not be read again for each.
  const loaded = new Map<Uint8Array, Storage>();
  const loadStorage = (file: Uint8Array, region: Region): Storage => {
    const known = loaded.get(file);
    if (known !== undefined) return known;
    const { root } = read(file, { ...region, part: "a pickled storage" }, inner);
    if (!isStorage(root)) throw corrupt(region, `a pickled storage of type ${typeName(root)}`, "a storage");
    loaded.set(file, root);
    return root;
  };
  return { ...inner, loadStorage };
}

function read(bytes: Bytes, region: Region, environment: PickleEnvironment): Unpickled {
  const cursor = new Cursor(bytes, region);
  const first = runPickle(cursor, environment);
  return first === MAGIC ? readLegacy(cursor, environment) : { container: "pickle", root: first };
}

function readLegacy(cursor: Cursor, environment: PickleEnvironment): Unpickled {
  const { region } = cursor;
  const version = runPickle(cursor, environment);
  if (version !== PROTOCOL_VERSION) {
    throw unsupported(region, "another version of the legacy format", `version ${PROTOCOL_VERSION}`);
  }
  runPickle(cursor, environment); // information on the system that wrote it

  const declarations = new Map<string, DeclaredStorage>();
  const located = new Map<string, ReadRange>();
  const storageTable = createStorageTable(region, "legacy", (declared) => {
    declarations.set(declared.key, declared);
    const read: ReadRange = (start, end) => {
      const data = located.get(declared.key);
      if (data === undefined)
        throw corrupt(region, `no data for storage ${quote(declared.key)}`, "all storages");
      return data(start, end);
    };
    return { read, bigEndian: false };
  });
  const root = runPickle(cursor, {
    ...environment,
    // A module's class comes with its source code; only the class is used.
    persistentLoad: (id) =>
      Array.isArray(id) && id[0] === "module" && id.length === 4 ? (id[1] ?? null) : storageTable(id),
  });

  for (const key of storageKeys(runPickle(cursor, environment), cursor)) {
    const declared = declarations.get(key);
    if (declared === undefined)
      throw corrupt(region, `data for the unused storage ${quote(key)}`, "data for used storages only");
    located.set(key, passStorage(cursor, declared));
  }
  return { container: "legacy", root };
}

function storageKeys(keys: PickleValue, { region, offset }: Cursor): string[] {
  if (!Array.isArray(keys)) {
    throw corrupt(region, `no list of storages before ${position(region, offset)}`, "a complete file");
  }
  const isList = keys.every((key) => typeof key === "string");
  if (isList && new Set(keys).size === keys.length) return keys;
  throw corrupt(
    region,
    `a storage list with unknown or duplicate keys before ${position(region, offset)}`,
    "each storage once",
  );
}

/** Moves past a storage, whose elements may be read later. */
function passStorage(cursor: Cursor, { key, length, elementBytes }: DeclaredStorage): ReadRange {
  const { offset, region } = cursor;
  const stored = cursor.uint64();
  if (stored !== length) {
    throw corrupt(
      region,
      `${stored} elements for storage ${quote(key)} at ${position(region, offset)}`,
      `the ${length} that the pickle declares`,
    );
  }
  return cursor.defer(length * elementBytes);
}

/**
 * The format of torch.save before 0.1.9: a tar archive of the files `storages`, `tensors` and `pickle`. Source:
 * torch/serialization.py (`legacy_load` in `_legacy_load`), POSIX.1-1988 ustar; little-endian.
 *
 * `storages` is a count, then for each storage a pickle (key, location, class), its length and its elements, then a
 * pickle of views (key, root key, offset, length). `tensors` is a count, then for each tensor a pickle (key, storage
 * key, class), its rank in 8 bytes of which 4 count, sizes, strides and offset. `pickle` refers to tensors by key. Keys
 * are addresses, integers, and unique. Refused: duplicate members, links, sparse or extended members, and names with a
 * prefix, which readers interpret differently.
 */

const BLOCK_BYTES = 512;

/** Types of members (POSIX.1-1988, 10.1.1), and where the name's prefix begins. */
const FILE = 0x30;
const FOLDER = 0x35;
const PREFIX = 345;
const CHECKSUM = 148;

/**
 * Whether bytes, of which 512 are enough, are what Python may recognise as a tar archive: POSIX's by its magic, and older
 * ones, which have none, by the checksum of their first header. Python reads numbers with white space, signs, prefixes and
 * underscores: any octal digits of the field count.
 */
export function isTar(head: Uint8Array): boolean {
  if (isPosix(head)) return true;
  const block = head.subarray(0, BLOCK_BYTES);
  const field = block.subarray(CHECKSUM, CHECKSUM + 8);
  const [first = 0] = field;
  // Base 256 after a mark, which is 0xff for negative numbers.
  const base256 = (mask: number): number =>
    field.subarray(1).reduce((sum, byte) => sum * 256 + (byte ^ mask), 0);
  const stated =
    first === 0x80
      ? base256(0)
      : first === 0xff
        ? base256(0xff) + 1
        : Number.parseInt(`0${text(field).replace(/[^0-7]/g, "")}`, 8);
  const signed = block.reduce(
    (sum, byte, at) => sum - (byte > 127 && !isChecksum(at) ? 256 : 0),
    checksum(block),
  );
  return block.length === BLOCK_BYTES && [checksum(block), Math.abs(signed)].includes(stated);
}

function isPosix(header: Uint8Array): boolean {
  return text(header.subarray(257, 262)) === "ustar";
}

/** Reads the tar container; tensors are not read. Throws `InputError`. */
export function readTar(source: ByteSource, region: Region, budget: Budget): Unpickled {
  const files = readFiles(source, region);
  if (!files.has("storages"))
    throw new InputError({
      code: "unsupported",
      subject: region.subject,
      found: `a tar archive of other files (${listed(files.keys()) || "empty"})`,
      expected: "a PyTorch archive",
      remedy: "unpack it, and use the checkpoint or the model inside",
    });
  const open = (name: string) => {
    const file = files.get(name);
    if (file === undefined) {
      const found = `a tar archive without ${quote(name)} (${listed(files.keys())})`;
      throw unsupported(region, found, "a PyTorch archive");
    }
    return new Cursor(file, { ...region, part: name });
  };
  const environment = pickleEnvironment(budget);
  const storages = readStorages(open("storages"), environment);
  const tensors = readTensors(open("tensors"), storages, environment);
  const persistentLoad = (id: PickleValue, pickleRegion: Region): PickleValue => {
    // A module's class comes with its source code; only the class is used.
    if (Array.isArray(id)) return id[0] ?? null;
    const value = tensors.get(keyOf(id, pickleRegion)) ?? storages.get(keyOf(id, pickleRegion));
    if (value === undefined)
      throw corrupt(
        pickleRegion,
        `a reference to tensor ${quote(keyText(id))}`,
        "one that the archive describes",
      );
    return value;
  };
  return { container: "tar", root: runPickle(open("pickle"), { ...environment, persistentLoad }) };
}

function listed(names: Iterable<string>): string {
  return [...names].slice(0, 3).map(quote).join(", ");
}

/** The regular files of the archive by name. Members of other kinds are refused, if it is PyTorch's. */
function readFiles(source: ByteSource, region: Region): ReadonlyMap<string, ByteSource> {
  const files = new Map<string, ByteSource>();
  let other: string | undefined;
  const cursor = new Cursor(source, region);
  while (cursor.remaining >= BLOCK_BYTES) {
    const { offset } = cursor;
    const header = cursor.take(BLOCK_BYTES);
    // The archive ends with blocks of zeros.
    if (header.every((byte) => byte === 0)) break;
    const size = octal(header.subarray(124, 136));
    if (octal(header.subarray(CHECKSUM, CHECKSUM + 8)) !== checksum(header) || size === undefined) {
      throw corrupt(region, `a broken tar header at byte ${offset}`, "a header that matches its checksum");
    }
    const name = text(header.subarray(0, 100)).replace(/^\.\//, "");
    const start = cursor.offset;
    cursor.skip(size);
    const type = header[156] ?? 0;
    const isFile = (type === 0 || type === FILE) && !/^$|\/$/.test(name);
    // Python reads data after a folder's header as further members.
    const isFolder = type === FOLDER && size === 0;
    const hasPrefix = header.subarray(PREFIX, BLOCK_BYTES).some((byte) => byte !== 0);
    if (!(isFile || isFolder) || hasPrefix || !isPosix(header)) other ??= name;
    else if (files.has(name)) throw corrupt(region, `two tar members named ${quote(name)}`, "one");
    else if (isFile) files.set(name, sliceOf(source, start, size));
    cursor.skip(Math.min(cursor.remaining, (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES));
  }
  if (other !== undefined && files.has("storages"))
    throw unsupported(region, `a tar member ${quote(other)} that is not a regular file`, "regular files");
  return files;
}

function readStorages(cursor: Cursor, environment: PickleEnvironment): ReadonlyMap<string, Storage> {
  const storages = new Map<string, Storage & { readonly elementBytes: number }>();
  const count = readCount(cursor, environment);
  for (let index = 0; index < count; index++) {
    const [key, , storageClass] = readList(cursor, environment);
    const element = isGlobal(storageClass) ? storageElementName(storageClass.path) : undefined;
    const elementBytes = element === undefined ? undefined : storageElement(element)?.bytes;
    if (element === undefined || elementBytes === undefined) {
      throw unsupported(cursor.region, `a storage of type ${typeName(storageClass)}`, "a PyTorch type");
    }
    const { offset } = cursor;
    const length = cursor.uint64();
    cursor.seek(offset);
    const declared = {
      key: newKey(key, storages, cursor.region),
      element,
      elementBytes,
      length,
      view: undefined,
    };
    const read = passStorage(cursor, declared);
    const byteLength = length * elementBytes;
    storages.set(declared.key, {
      kind: "storage",
      element,
      elementBytes,
      byteLength,
      bigEndian: false,
      read,
    });
  }
  for (const view of readList(cursor, environment)) {
    const [key, rootKey, offset, length] = Array.isArray(view) ? view : [];
    const root = storages.get(keyOf(rootKey, cursor.region));
    if (root === undefined || typeof offset !== "number" || typeof length !== "number") {
      throw corrupt(cursor.region, "a view of an unknown storage", "views of storages in the file");
    }
    const start = offset * root.elementBytes;
    const byteLength = length * root.elementBytes;
    if (!isPart(start, byteLength, root.byteLength)) {
      throw corrupt(
        cursor.region,
        `a view of ${length} elements from element ${offset} of storage ${quote(keyText(rootKey))}`,
        `a view within its ${root.byteLength / root.elementBytes} elements`,
      );
    }
    storages.set(newKey(key, storages, cursor.region), { ...root, ...partOf(root, start, byteLength) });
  }
  return storages;
}

/** Whether numbers from a file are a part of `length` bytes; false for fractions, NaN and unsafe integers. */
function isPart(start: number, count: number, length: number): boolean {
  return (
    [start, count].every((value) => Number.isSafeInteger(value) && value >= 0) && start + count <= length
  );
}

function readTensors(
  cursor: Cursor,
  storages: ReadonlyMap<string, Storage>,
  environment: PickleEnvironment,
): ReadonlyMap<string, PickleValue> {
  const tensors = new Map<string, PickleValue>();
  const count = readCount(cursor, environment);
  for (let index = 0; index < count; index++) {
    const [key, storageKey] = readList(cursor, environment);
    const storage = storages.get(keyOf(storageKey, cursor.region));
    if (storage === undefined)
      throw corrupt(cursor.region, `a tensor of storage ${quote(keyText(storageKey))}`, "a storage");
    const rank = cursor.int32();
    cursor.skip(4);
    const sizes = readSizes(cursor, rank);
    const strides = readSizes(cursor, rank);
    const offset = cursor.uint64();
    if (storages.has(keyOf(key, cursor.region)))
      throw corrupt(cursor.region, `two definitions of ${quote(keyText(key))}`, "one");
    tensors.set(
      newKey(key, tensors, cursor.region),
      inertObject("torch._utils._rebuild_tensor", [storage, offset, sizes, strides]),
    );
  }
  return tensors;
}

/** A key, or its text: an integer. */
function keyOf(value: PickleValue | undefined, region: Region): string {
  const key = keyText(value);
  if (/^-?\d{1,20}$/.test(key) || typeof value === "bigint")
    return typeof value === "bigint" ? `${value}` : key;
  throw corrupt(region, `a key of type ${typeName(value)} in ${printable(region.part)}`, "a whole number");
}

/** A key that nothing has yet. */
function newKey(value: PickleValue | undefined, taken: ReadonlyMap<string, unknown>, region: Region): string {
  const key = keyOf(value, region);
  if (taken.has(key))
    throw corrupt(region, `two definitions of ${quote(key)} in ${printable(region.part)}`, "one");
  return key;
}

function readSizes(cursor: Cursor, rank: number): number[] {
  // Limits the array by the available bytes; a negative rank reads as none and fails as a tensor.
  const sizes = new Cursor(cursor.take(8 * Math.max(rank, 0)), cursor.region);
  return Array.from({ length: Math.max(rank, 0) }, () => sizes.uint64());
}

function readCount(cursor: Cursor, environment: PickleEnvironment): number {
  const count = runPickle(cursor, environment);
  if (typeof count === "number") return count;
  throw corrupt(
    cursor.region,
    `a count of type ${typeName(count)} in ${printable(cursor.region.part)}`,
    "a number",
  );
}

function readList(cursor: Cursor, environment: PickleEnvironment): readonly PickleValue[] {
  const list = runPickle(cursor, environment);
  if (Array.isArray(list)) return list;
  throw corrupt(
    cursor.region,
    `a value of type ${typeName(list)} in ${printable(cursor.region.part)}`,
    "a list",
  );
}

/** Header bytes counted with the checksum field as spaces (POSIX.1-1988, 10.1.1). */
function checksum(header: Uint8Array): number {
  return header.reduce((sum, byte, index) => sum + (isChecksum(index) ? 0x20 : byte), 0);
}

function isChecksum(index: number): boolean {
  return index >= CHECKSUM && index < CHECKSUM + 8;
}

function octal(field: Uint8Array): number | undefined {
  const digits = text(field).trim();
  return /^[0-7]{1,11}$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}

/** Up to the first NUL, as Latin-1. */
function text(field: Uint8Array): string {
  const end = field.indexOf(0);
  return String.fromCharCode(...(end < 0 ? field : field.subarray(0, end)));
}

import type { ReadRange } from "../../../core/bytes.js";
import { DTYPES, elementCount, type Tensor } from "../../../core/tensor.js";
import { type Budget, corrupt, printable, quote, type Region, unsupported } from "../refusals.js";
import { isGlobal, type PickleValue, type Storage, typeName } from "./pickle/values.js";
import {
  isTensor,
  malformed,
  storageElement,
  storageElementName,
  type TensorProblem,
  type TensorRef,
  tensorRef,
} from "./tensor-ref.js";

/** The content of a container: the pickled object, with its storages not yet read. */
export interface Unpickled {
  /** `pickle` is a bare one, with its arrays inside. */
  readonly container: "zip" | "torchscript" | "legacy" | "tar" | "pickle";
  readonly root: PickleValue;
  /** Whether tensors of a zip archive are compressed, as PyTorch never writes them. */
  readonly isDeflated?: boolean;
  /** The additional content of a TorchScript archive; undefined for others. */
  readonly script?: {
    /** The code of its classes, by the path of a module of code. */
    readonly code: (path: string) => string | undefined;
    /** The tuple of tensors that the code calls `CONSTANTS`. */
    readonly constants: () => PickleValue;
  };
}

/** A range of a storage's elements, under its own key. */
interface StorageView {
  readonly key: string;
  readonly offset: number;
  readonly length: number;
}

/** A storage as declared in a pickle: the persistent id that torch.save writes for each block of elements. */
export interface DeclaredStorage {
  readonly key: string;
  readonly element: string;
  readonly elementBytes: number;
  /** The number of elements. */
  readonly length: number;
  /** The part of it that this reference denotes, in elements (legacy files of PyTorch 0.x). */
  readonly view: StorageView | undefined;
}

/** The number of parts of a storage's persistent id; in a legacy container the last one may describe a view. */
const ID_LENGTHS = { zip: 5, legacy: 6 } as const;

/**
 * Reads the persistent id `("storage", class, key, location, length)`, followed by a view in a legacy container
 * (torch/serialization.py, `persistent_id` in `_save` and `_legacy_save`). Throws `InputError` for anything else.
 */
function declaredStorage(
  id: PickleValue,
  container: keyof typeof ID_LENGTHS,
  region: Region,
): DeclaredStorage {
  const parts = Array.isArray(id) && id.length === ID_LENGTHS[container] ? id : [];
  const [tag, storageClass, key, location, length, view] = parts;
  if (tag !== "storage" || !isGlobal(storageClass) || typeof key !== "string") {
    throw corrupt(
      region,
      `a persistent id of type ${typeName(id)} in ${printable(region.part)}`,
      "a storage",
    );
  }
  if (location === "meta")
    throw unsupported(region, `storage ${quote(key)} of a meta tensor`, "tensors with data");
  const element = storageElementName(storageClass.path);
  const elementBytes = element === undefined ? undefined : storageElement(element)?.bytes;
  if (element === undefined || elementBytes === undefined) {
    throw unsupported(region, `storage ${quote(key)} of type ${quote(storageClass.path)}`, "a PyTorch type");
  }
  if (!isSize(length)) throw badLength(region, key, length);
  return { key, element, elementBytes, length, view: viewOf(view, length, key, region) };
}

/**
 * One storage per key. Every reference must declare it alike, so that a check of one applies to all. PyTorch stores
 * views under their own keys beside those of storages, and uses the first meaning of a duplicate key.
 */
export function createStorageTable(
  region: Region,
  container: keyof typeof ID_LENGTHS,
  locate: (declared: DeclaredStorage) => { readonly read: ReadRange; readonly bigEndian: boolean },
): (id: PickleValue) => Storage {
  const storages = new Map<string, { readonly declared: DeclaredStorage; readonly storage: Storage }>();
  const views = new Map<string, string>();
  return (id) => {
    const declared = declaredStorage(id, container, region);
    const { view, key } = declared;
    const meaning = view === undefined ? undefined : `${key} ${view.offset} ${view.length}`;
    if (view !== undefined && meaning !== undefined) {
      if (storages.has(view.key) || view.key === key || (views.get(view.key) ?? meaning) !== meaning)
        throw corrupt(region, `two definitions of the storage ${quote(view.key)}`, "one");
      views.set(view.key, meaning);
    }
    if (views.has(key)) throw corrupt(region, `two definitions of the storage ${quote(key)}`, "one");
    const known = storages.get(declared.key);
    if (known === undefined) {
      const { read, bigEndian } = locate(declared);
      const byteLength = declared.length * declared.elementBytes;
      const storage: Storage = { kind: "storage", element: declared.element, byteLength, bigEndian, read };
      storages.set(declared.key, { declared, storage });
      return viewed(storage, declared);
    }
    if (known.declared.element !== declared.element || known.declared.length !== declared.length) {
      throw corrupt(
        region,
        `storage ${quote(declared.key)} declared as ${describe(known.declared)} and as ${describe(declared)}`,
        "one declaration",
      );
    }
    return viewed(known.storage, declared);
  };
}

function viewed(storage: Storage, { view, elementBytes }: DeclaredStorage): Storage {
  if (view === undefined) return storage;
  return partOf(storage, view.offset * elementBytes, view.length * elementBytes);
}

/** A storage that is a range of another's bytes. */
export function partOf(storage: Storage, start: number, byteLength: number): Storage {
  return { ...storage, byteLength, read: (from, to) => storage.read(start + from, start + to) };
}

/** `[key, offset, length]`, or None. */
function viewOf(
  view: PickleValue | undefined,
  length: number,
  key: string,
  region: Region,
): StorageView | undefined {
  if (view === undefined || view === null) return undefined;
  const [viewKey, offset, viewLength] = Array.isArray(view) && view.length === 3 ? view : [];
  if (typeof viewKey !== "string" || !isSize(offset) || !isSize(viewLength) || offset + viewLength > length) {
    throw corrupt(region, `a view outside storage ${quote(key)}`, `a view within its ${length} elements`);
  }
  return { key: viewKey, offset, length: viewLength };
}

/** Small enough that its bytes can be counted exactly in a number. */
function isSize(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 48;
}

function badLength(region: Region, key: string, length: PickleValue | undefined): Error {
  const found = typeof length === "number" ? `${length} elements` : `a length of type ${typeName(length)}`;
  return corrupt(region, `storage ${quote(key)} with ${found}`, "a number of elements");
}

function describe({ element, length }: DeclaredStorage): string {
  return `${length} × ${element}`;
}

/** How tensors may be made. */
interface MaterializeOptions {
  readonly budget: Budget;
  /** Whether a tensor may be a view over the storage's bytes, which then live as long as the tensor. */
  readonly share: boolean;
  /** Whether reading a storage's bytes allocates memory: then no other array shares them. */
  readonly copied: boolean;
}

/** The number that a tensor or array without dimensions is; undefined for any other value. */
export function scalarOf(value: PickleValue, budget: Budget): number | bigint | undefined {
  const ref = isTensor(value) ? tensorRef(value, budget) : undefined;
  if (ref === undefined || "text" in ref || ref.shape.length > 0) return undefined;
  const made = materialize(ref, { budget, share: false, copied: false });
  if ("text" in made || made.dtype === "float16" || made.dtype === "bfloat16") return undefined;
  return made.data[0];
}

/** The number of storage elements from a tensor's first to its last, or 0 for an empty tensor. */
function spanOf({ shape, strides }: TensorRef): number {
  if (shape.includes(0)) return 0;
  return 1 + shape.reduce((last, dimension, axis) => last + (dimension - 1) * (strides[axis] ?? 0), 0);
}

/**
 * Makes a tensor from a reference: row-major, contiguous, in the machine's byte order. Bytes are shared if `share`
 * allows it and they are aligned for typed arrays, otherwise copied once. (Typed arrays are little-endian on every
 * platform of JavaScript engines.) Returns the problem if a reference leaves its storage; throws `InputError` if the
 * storage's bytes are missing or the budget is exceeded.
 */
export function materialize(ref: TensorRef, options: MaterializeOptions): Tensor | TensorProblem {
  const { dtype, shape, storage, elementBytes } = ref;
  const count = elementCount(shape);
  const span = spanOf(ref);
  const end = (ref.offset + span) * elementBytes;
  // Also false for sums beyond 2^53, which are inexact: no storage is that long.
  if (!(end <= storage.byteLength) && span > 0) {
    return malformed(
      `elements ${ref.offset} to ${ref.offset + span} of a storage of ${storage.byteLength / elementBytes}`,
    );
  }
  const start = ref.offset * elementBytes;
  if (options.copied) options.budget.spend(span * elementBytes, "copies of tensors");
  const bytes = span === 0 ? new Uint8Array(0) : storage.read(start, end);
  const contiguous = span === count && isContiguous(ref);

  const needsCopy =
    bytes.byteOffset % elementBytes !== 0 ||
    storage.bigEndian ||
    (contiguous && !options.share) ||
    dtype === "bool";
  let source = bytes;
  if (needsCopy) {
    options.budget.spend(bytes.length, "copies of tensors");
    source = bytes.slice();
  }
  if (storage.bigEndian) swapBytes(source, elementBytes);
  if (dtype === "bool") normalizeBooleans(source);
  if (contiguous) return { dtype, shape, data: new DTYPES[dtype](source.buffer, source.byteOffset, count) };

  options.budget.spend(count * elementBytes, "copies of tensors");
  const target = new DTYPES[dtype](count);
  gather(ref, source, new Uint8Array(target.buffer));
  return { dtype, shape, data: target };
}

/** Whether elements are contiguous in row-major order; a dimension of 1 may have any stride. */
function isContiguous({ shape, strides }: TensorRef): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const dimension = shape[axis] ?? 1;
    if (dimension > 1 && strides[axis] !== expected) return false;
    expected *= dimension;
  }
  return true;
}

/** Copies strided elements into row-major order. Elements are moved as integers: floats would lose a NaN's payload. */
function gather({ shape, strides, elementBytes }: TensorRef, source: Uint8Array, target: Uint8Array): void {
  const unit = Math.min(elementBytes, 4);
  const from = unsignedView(source, unit);
  const to = unsignedView(target, unit);
  const units = elementBytes / unit;
  const index = shape.map(() => 0);
  let element = 0;
  for (let position = 0; position < to.length; position += units) {
    for (let part = 0; part < units; part++) to[position + part] = from[element * units + part] ?? 0;
    // Advances the index as an odometer, the last axis first.
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] ?? 0;
      const next = (index[axis] ?? 0) + 1;
      if (next < (shape[axis] ?? 0)) {
        index[axis] = next;
        element += stride;
        break;
      }
      index[axis] = 0;
      element -= (next - 1) * stride;
    }
  }
}

function unsignedView({ buffer, byteOffset, byteLength }: Uint8Array, unit: number) {
  if (unit === 4) return new Uint32Array(buffer, byteOffset, byteLength / 4);
  if (unit === 2) return new Uint16Array(buffer, byteOffset, byteLength / 2);
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Reverses the bytes of each element in place. */
function swapBytes(bytes: Uint8Array, elementBytes: number): void {
  for (let start = 0; start < bytes.length; start += elementBytes) {
    for (let low = start, high = start + elementBytes - 1; low < high; low++, high--) {
      const byte = bytes[low] ?? 0;
      bytes[low] = bytes[high] ?? 0;
      bytes[high] = byte;
    }
  }
}

/** A bool is 0 or 1; PyTorch reads any other byte as true. */
function normalizeBooleans(bytes: Uint8Array): void {
  bytes.forEach((byte, index) => {
    bytes[index] = byte === 0 ? 0 : 1;
  });
}

import type { ReadRange } from "../../../core/bytes.js";
import { corrupt, printable, quote, type Region, unsupported } from "../refusals.js";
import { isGlobal, type PickleValue, type Storage, typeName } from "./pickle/values.js";
import { storageElement, storageElementName } from "./tensor-ref.js";

/** What a container holds: the pickled object, its storages still where they are. */
export interface Unpickled {
  /** `pickle` is a bare one, with its arrays inside. */
  readonly container: "zip" | "torchscript" | "legacy" | "tar" | "pickle";
  readonly root: PickleValue;
  /** Reads the code of a TorchScript archive's classes, by the path of a module of code; undefined for others. */
  readonly code?: (path: string) => string | undefined;
}

/** Some elements of a storage, under a key of their own. */
interface StorageView {
  readonly key: string;
  readonly offset: number;
  readonly length: number;
}

/** A storage as a pickle declares it: the persistent id that torch.save writes for each block of elements. */
export interface DeclaredStorage {
  readonly key: string;
  readonly element: string;
  readonly elementBytes: number;
  /** The number of elements. */
  readonly length: number;
  /** The part of it that this reference means, in elements (legacy files of PyTorch 0.x). */
  readonly view: StorageView | undefined;
}

/** How many parts a storage's persistent id has: that of a legacy container may be a view, and says so. */
const ID_LENGTHS = { zip: 5, legacy: 6 } as const;

/**
 * Reads the persistent id `("storage", class, key, location, length)`, in a legacy container with a view behind it
 * (torch/serialization.py, `persistent_id` in `_save` and `_legacy_save`). Throws `InputError` when it is anything else.
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
 * One storage for each key. Every reference to it must declare it alike: what one checks must hold for all. PyTorch keeps
 * views under keys of their own beside those of storages, and of a key that comes twice the first meaning.
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
        throw corrupt(region, `two meanings of the storage ${quote(view.key)}`, "one");
      views.set(view.key, meaning);
    }
    if (views.has(key)) throw corrupt(region, `two meanings of the storage ${quote(key)}`, "one");
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

/** The storage that is some bytes of another. */
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

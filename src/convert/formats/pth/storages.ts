import type { ReadRange } from "../../../core/bytes.js";
import { corrupt, printable, quote, type Region, unsupported } from "../refusals.js";
import { isGlobal, type PickleValue, type Storage, typeName } from "./pickle/values.js";
import { storageElement, storageElementName } from "./tensor-ref.js";

/** What a container holds: the pickled object, its storages still where they are. */
export interface Unpickled {
  /** `pickle` is a bare one, with its arrays inside. */
  readonly container: "zip" | "torchscript" | "legacy" | "tar" | "pickle";
  readonly root: PickleValue;
}

/** A storage as a pickle declares it: the persistent id that torch.save writes for each block of elements. */
export interface DeclaredStorage {
  readonly key: string;
  readonly element: string;
  readonly elementBytes: number;
  /** The number of elements. */
  readonly length: number;
  /** The part of it that this reference means, in elements (legacy files of PyTorch 0.x). */
  readonly view: { readonly offset: number; readonly length: number } | undefined;
}

/**
 * Reads the persistent id `("storage", class, key, location, length[, view])` (torch/serialization.py,
 * `persistent_id` in `_save` and `_legacy_save`). Throws `InputError` when it is anything else.
 */
function declaredStorage(id: PickleValue, region: Region): DeclaredStorage {
  const [tag, storageClass, key, , length, view] = Array.isArray(id) ? id : [];
  if (tag !== "storage" || !isGlobal(storageClass) || !isKey(key)) {
    throw corrupt(
      region,
      `a persistent id of type ${typeName(id)} in ${printable(region.part)}`,
      "a storage",
    );
  }
  const element = storageElementName(storageClass.path);
  const elementBytes = element === undefined ? undefined : storageElement(element)?.bytes;
  if (element === undefined || elementBytes === undefined) {
    throw unsupported(
      region,
      `storage ${quote(String(key))} of type ${quote(storageClass.path)}`,
      "a PyTorch type",
    );
  }
  if (!isSize(length)) throw badLength(region, key, length);
  return { key: String(key), element, elementBytes, length, view: viewOf(view, length, key, region) };
}

/** One storage for each key. Every reference to it must declare it alike: what one checks must hold for all. */
export function createStorageTable(
  region: Region,
  locate: (declared: DeclaredStorage) => { readonly read: ReadRange; readonly bigEndian: boolean },
): (id: PickleValue) => Storage {
  const storages = new Map<string, { readonly declared: DeclaredStorage; readonly storage: Storage }>();
  return (id) => {
    const declared = declaredStorage(id, region);
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
function viewOf(view: PickleValue | undefined, length: number, key: string | number, region: Region) {
  if (view === undefined || view === null) return undefined;
  const [, offset, viewLength] = Array.isArray(view) ? view : [];
  if (!isSize(offset) || !isSize(viewLength) || offset + viewLength > length) {
    throw corrupt(
      region,
      `a view outside storage ${quote(String(key))}`,
      `a view within its ${length} elements`,
    );
  }
  return { offset, length: viewLength };
}

/** Small enough that its bytes can be counted exactly in a number. */
function isSize(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 48;
}

function isKey(value: PickleValue | undefined): value is string | number {
  return typeof value === "string" || typeof value === "number";
}

function badLength(region: Region, key: string | number, length: PickleValue | undefined): Error {
  const found = typeof length === "number" ? `${length} elements` : `a length of type ${typeName(length)}`;
  return corrupt(region, `storage ${quote(String(key))} with ${found}`, "a number of elements");
}

function describe({ element, length }: DeclaredStorage): string {
  return `${length} × ${element}`;
}

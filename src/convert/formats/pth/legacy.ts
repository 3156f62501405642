/**
 * What torch.save wrote before 1.6, and files that are nothing but a pickle. Source: torch/serialization.py
 * (`_legacy_save`, `_legacy_load`).
 *
 * A legacy file is five pickles one after the other (magic number, protocol version, information on the system, the
 * object, the keys of its storages), then each storage in the order of the keys: its length as a 64-bit count of
 * elements, and its elements. All little-endian, on any machine.
 */

import type { ByteSource, Bytes, ReadRange } from "../../../core/bytes.js";
import type { Budget } from "../budget.js";
import { Cursor } from "../cursor.js";
import { corrupt, position, printable, quote, type Region, unsupported } from "../refusals.js";
import { runPickle } from "./pickle/machine.js";
import type { PickleEnvironment } from "./pickle/stack.js";
import { isStorage, type PickleValue, type Storage, typeName } from "./pickle/values.js";
import type { Unpickled } from "./storages.js";
import { createStorageTable, type DeclaredStorage } from "./storages.js";

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;

/** Reads a file that starts with a pickle: a legacy container if its first object is the magic number. */
export function readPickles(source: ByteSource, region: Region, budget: Budget): Unpickled {
  return read(source, region, pickleEnvironment(budget));
}

/** For pickles that stand alone: there is no place outside them that a persistent id could point to. */
export function pickleEnvironment(budget: Budget): PickleEnvironment {
  const inner: PickleEnvironment = {
    budget,
    persistentLoad: (_id, region) => {
      throw unsupported(
        region,
        `a reference out of the pickle in ${printable(region.part)}`,
        "all data in the pickle",
      );
    },
    loadStorage: (_file, region) => {
      throw unsupported(
        region,
        "a storage in a file inside a storage's file",
        "at most one file in the other",
      );
    },
  };
  // A storage that many tensors share is one value in the pickle, and must not be read again for each.
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

function readLegacy(cursor: Cursor, plain: PickleEnvironment): Unpickled {
  const { region } = cursor;
  const version = runPickle(cursor, plain);
  if (version !== PROTOCOL_VERSION) {
    throw unsupported(region, "another version of the legacy format", `version ${PROTOCOL_VERSION}`);
  }
  runPickle(cursor, plain); // information on the system that wrote it

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
    ...plain,
    // A module's class comes with its source code, of which only the class is of use.
    persistentLoad: (id) =>
      Array.isArray(id) && id[0] === "module" && id.length === 4 ? (id[1] ?? null) : storageTable(id),
  });

  for (const key of storageKeys(runPickle(cursor, plain), cursor)) {
    const declared = declarations.get(key);
    if (declared === undefined)
      throw corrupt(region, `data for storage ${quote(key)}`, "only storages in use");
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
    `a list of other keys, or one twice, before ${position(region, offset)}`,
    "each storage once",
  );
}

/** Moves past a storage, whose elements may be read later. */
export function passStorage(cursor: Cursor, { key, length, elementBytes }: DeclaredStorage): ReadRange {
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

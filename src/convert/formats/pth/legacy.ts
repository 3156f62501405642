/**
 * What torch.save wrote before 1.6, and files that are nothing but a pickle. Source: torch/serialization.py
 * (`_legacy_save`, `_legacy_load`).
 *
 * A legacy file is five pickles one after the other (magic number, protocol version, information on the system, the
 * object, the keys of its storages), then each storage in the order of the keys: its length as a 64-bit count of
 * elements, and its elements. All little-endian, on any machine.
 */

import type { Unpickled } from "./archive.js";
import type { Budget } from "./budget.js";
import { Cursor } from "./cursor.js";
import { type PickleEnvironment, runPickle } from "./pickle/machine.js";
import type { PickleValue } from "./pickle/values.js";
import { corrupt, position, quote, type Region, unsupported } from "./refusals.js";
import { createStorageTable, type DeclaredStorage } from "./storages.js";

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;

/** Reads a file that starts with a pickle: a legacy container if its first object is the magic number. */
export function readPickles(bytes: Uint8Array, region: Region, budget: Budget): Unpickled {
  const cursor = new Cursor(bytes, region);
  const first = runPickle(cursor, plainEnvironment(budget));
  return first === MAGIC ? readLegacy(cursor, budget) : { container: "pickle", root: first };
}

/** For pickles that stand alone: there is no place outside them that a persistent id could point to. */
export function plainEnvironment(budget: Budget): PickleEnvironment {
  return {
    budget,
    persistentLoad: (_id, region) => {
      throw unsupported(region, `a reference out of the pickle in ${region.part}`, "all data in the pickle");
    },
  };
}

function readLegacy(cursor: Cursor, budget: Budget): Unpickled {
  const { region } = cursor;
  const plain = plainEnvironment(budget);
  const version = runPickle(cursor, plain);
  if (version !== PROTOCOL_VERSION) {
    throw unsupported(region, "another version of the legacy format", `version ${PROTOCOL_VERSION}`);
  }
  runPickle(cursor, plain); // information on the system that wrote it

  const declarations = new Map<string, DeclaredStorage>();
  const located = new Map<string, Uint8Array>();
  const storageTable = createStorageTable(region, (declared) => {
    declarations.set(declared.key, declared);
    const locate = () => {
      const data = located.get(declared.key);
      if (data === undefined)
        throw corrupt(region, `no data for storage ${quote(declared.key)}`, "all storages");
      return data;
    };
    return { bytes: locate, bigEndian: false };
  });
  const root = runPickle(cursor, {
    budget,
    // A module's class comes with its source code, of which only the class is of use.
    persistentLoad: (id) => (Array.isArray(id) && id[0] === "module" ? (id[1] ?? null) : storageTable(id)),
  });

  for (const key of storageKeys(runPickle(cursor, plain), cursor)) {
    const declared = declarations.get(key);
    if (declared === undefined)
      throw corrupt(region, `data for storage ${quote(key)}`, "only storages in use");
    located.set(key, readStorage(cursor, declared));
  }
  return { container: "legacy", root };
}

function storageKeys(keys: PickleValue, { region, offset }: Cursor): string[] {
  if (!Array.isArray(keys)) {
    throw corrupt(region, `no list of storages before ${position(region, offset)}`, "a complete file");
  }
  return keys.map(String);
}

/** A storage's elements, as a view. */
export function readStorage(cursor: Cursor, { key, length, elementBytes }: DeclaredStorage): Uint8Array {
  const { offset, region } = cursor;
  const stored = cursor.uint64();
  if (stored !== length) {
    throw corrupt(
      region,
      `${stored} elements for storage ${quote(key)} at ${position(region, offset)}`,
      `the ${length} that the pickle declares`,
    );
  }
  return cursor.take(length * elementBytes);
}

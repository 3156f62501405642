/**
 * What values take in memory, for the budget: estimates from above for V8 with 64-bit pointers, measured by building a
 * million of each. Looking through a container for state dicts afterwards is included.
 */

import type { PickleValue } from "./values.js";

/** One item added to a list, as a slot below; one of a set; a key and its value of a dict. */
export const ITEM_BYTES = 20;
export const MEMBER_BYTES = 40;
export const PAIR_BYTES = 48;

/**
 * A stack slot or memo entry, in arrays that grow alike: 8 bytes in the array, and 12 in the one of half as many again that
 * it is copied to. Memos that skip numbers take more and are charged as dicts.
 */
export const SLOT_BYTES = 20;

const LIST_BYTES = 64;
/** One item of a list made at its full length. */
const ELEMENT_BYTES = 8;
const DICT_BYTES = 280;
const SET_BYTES = 240;
/** A view over the file's bytes. */
const BYTES_BYTES = 160;
/** Its characters come on top, and are at most two bytes for each byte of the file. */
const STRING_BYTES = 24;
const NUMBER_BYTES = 16;
/** Records of objects, names and storages; a path is made from two names. */
const RECORD_BYTES = 200;

/** The memory of a new value, without that of the values in it. */
export function bytesOf(value: PickleValue): number {
  if (typeof value === "string") return STRING_BYTES + value.length;
  if (typeof value === "number") return Number.isInteger(value) ? 0 : NUMBER_BYTES;
  if (typeof value === "bigint") return STRING_BYTES;
  if (typeof value !== "object" || value === null) return 0;
  if (Array.isArray(value)) return LIST_BYTES + ELEMENT_BYTES * value.length;
  if (value instanceof Map) return DICT_BYTES + PAIR_BYTES * value.size;
  if (value instanceof Set) return SET_BYTES + MEMBER_BYTES * value.size;
  return value instanceof Uint8Array ? BYTES_BYTES : RECORD_BYTES;
}

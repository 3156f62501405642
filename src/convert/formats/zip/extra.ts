import { Cursor } from "../cursor.js";
import type { Region } from "../refusals.js";

const ZIP64_EXTRA = 0x0001;

/** What a 32-bit field reads when the number is in the zip64 field. */
const WIDE = 0xffffffff;

/**
 * Replaces 32-bit fields that read 0xFFFFFFFF with those of the zip64 extra field, which holds only these, in the
 * order size, compressed size, header offset (APPNOTE 4.5.3).
 */
export function widen<F extends { readonly size: number; readonly compressedSize: number }>(
  fields: F & { readonly headerOffset?: number },
  extra: Uint8Array,
  region: Region,
): F {
  if (fields.size !== WIDE && fields.compressedSize !== WIDE && fields.headerOffset !== WIDE) return fields;
  const full = { ...fields };
  const cursor = new Cursor(extra, { ...region, part: "a zip64 field" });
  while (cursor.remaining >= 4) {
    const id = cursor.uint16();
    const body = new Cursor(cursor.take(cursor.uint16()), cursor.region);
    if (id !== ZIP64_EXTRA) continue;
    for (const field of ["size", "compressedSize", "headerOffset"] as const) {
      if (full[field] === WIDE) Object.assign(full, { [field]: body.uint64() });
    }
  }
  return full;
}

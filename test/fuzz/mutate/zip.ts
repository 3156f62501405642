/** Mutations of a zip archive's records. Source of the layouts: PKWARE APPNOTE.TXT 6.3.10. */

import { pickFrom, type Random } from "../random.js";
import { integer, type Mutator, mutateBytes, occurrences, replaced } from "./bytes.js";

interface RecordKind {
  readonly signature: readonly number[];
  readonly length: number;
  /** Offset and size of each field. */
  readonly fields: readonly (readonly [offset: number, size: number])[];
}

const LOCAL: RecordKind = {
  signature: [0x50, 0x4b, 3, 4],
  length: 30,
  // flags, method, crc, compressed size, size, name length, extra length
  fields: [
    [6, 2],
    [8, 2],
    [14, 4],
    [18, 4],
    [22, 4],
    [26, 2],
    [28, 2],
  ],
};
const CENTRAL: RecordKind = {
  signature: [0x50, 0x4b, 1, 2],
  length: 46,
  // flags, method, crc, compressed size, size, name, extra and comment length, disk, offset
  fields: [
    [8, 2],
    [10, 2],
    [16, 4],
    [20, 4],
    [24, 4],
    [28, 2],
    [30, 2],
    [32, 2],
    [34, 2],
    [42, 4],
  ],
};
const END: RecordKind = {
  signature: [0x50, 0x4b, 5, 6],
  length: 22,
  fields: [
    [4, 2],
    [6, 2],
    [8, 2],
    [10, 2],
    [12, 4],
    [16, 4],
    [20, 2],
  ],
};
const END64: RecordKind = {
  signature: [0x50, 0x4b, 6, 6],
  length: 56,
  fields: [
    [4, 8],
    [24, 8],
    [32, 8],
    [40, 8],
    [48, 8],
  ],
};
const LOCATOR: RecordKind = {
  signature: [0x50, 0x4b, 6, 7],
  length: 20,
  fields: [
    [4, 4],
    [8, 8],
    [16, 4],
  ],
};
const KINDS = [LOCAL, CENTRAL, CENTRAL, END, END64, LOCATOR] as const;

/** A zip64 extra field for one size, and the end records that say "look there". */
const ZIP64_EXTRA = Uint8Array.from([1, 0, 16, 0, ...new Uint8Array(16).fill(0xff, 0, 2)]);

const MUTATORS: readonly [Mutator, ...Mutator[]] = [
  inRecord((bytes, start, kind, random) => {
    const [offset, size] = pickFrom(kind.fields, random) ?? [4, 2];
    return written(bytes, start + offset, integer(random, size));
  }),
  // The same field of another record: two entries at one place, one entry with another's size.
  inRecord((bytes, start, kind, random) => {
    const other = pickFrom(occurrences(bytes, kind.signature), random) ?? start;
    const [offset, size] = pickFrom(kind.fields, random) ?? [4, 2];
    return written(bytes, start + offset, bytes.slice(other + offset, other + offset + size));
  }),
  // A number that is nearly right.
  inRecord((bytes, start, kind, random) => {
    const [offset] = pickFrom(kind.fields, random) ?? [4, 2];
    const near = (bytes[start + offset] ?? 0) + random.pick([-1, 1, 2, 30, 46]);
    return written(bytes, start + offset, Uint8Array.of(near & 0xff));
  }),
  // A whole record twice, or gone.
  inRecord((bytes, start, { length }) => replaced(bytes, start, 0, bytes.slice(start, start + length + 12))),
  inRecord((bytes, start, { length }) => replaced(bytes, start, length, new Uint8Array(0))),
  // Another name in one of the two places.
  inRecord((bytes, start, { length }, random) =>
    written(
      bytes,
      start + length + random.below(12),
      Uint8Array.of(random.pick([0, 0x2e, 0x2f, 0x5c, 0xff, 0x41])),
    ),
  ),
  // A zip64 extra field without its length being told.
  inRecord((bytes, start, { length }) => replaced(bytes, start + length, 0, ZIP64_EXTRA)),
  mutateBytes,
];

/** One mutation of an archive. */
export const mutateZip: Mutator = (bytes, random) => random.pick(MUTATORS)(bytes, random);

function inRecord(
  change: (bytes: Uint8Array, start: number, kind: RecordKind, random: Random) => Uint8Array,
): Mutator {
  return (bytes, random) => {
    const kind = random.pick(KINDS);
    const start = pickFrom(occurrences(bytes, kind.signature), random);
    return start === undefined ? mutateBytes(bytes, random) : change(bytes, start, kind, random);
  };
}

function written(bytes: Uint8Array, at: number, value: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy.set(value.slice(0, Math.max(0, copy.length - at)), Math.min(at, copy.length));
  return copy;
}

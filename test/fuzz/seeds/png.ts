/** Pictures to start from. */

import { zlibSync } from "fflate";
import type { Seed } from "../mutate/index.js";

/** A chunk; its checksum, which no reader of ours looks at, is 0. */
function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  new DataView(bytes.buffer).setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  return bytes;
}

function header(
  width: number,
  height: number,
  depth: number,
  colourType: number,
  interlace: 0 | 1,
): Uint8Array {
  return Uint8Array.of(0, 0, 0, width, 0, 0, 0, height, depth, colourType, 0, 0, interlace);
}

/** Rows of so many bytes, each with one of the five filters before it. */
function rows(...lengths: readonly number[]): Uint8Array {
  return Uint8Array.from(
    lengths.flatMap((length, row) => [row % 5, ...Array.from({ length }, (_, index) => (37 * index) % 256)]),
  );
}

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

const PICTURES: readonly (readonly [
  name: string,
  header: Uint8Array,
  palette: Uint8Array,
  rows: Uint8Array,
])[] = [
  ["RGB", header(5, 6, 8, 2, 0), new Uint8Array(), rows(15, 15, 15, 15, 15, 15)],
  ["grey of 16 bits", header(3, 5, 16, 0, 0), new Uint8Array(), rows(6, 6, 6, 6, 6)],
  // Adam7's seven passes over 9×9 pixels.
  [
    "interlaced palette",
    header(9, 9, 4, 3, 1),
    new Uint8Array(48).fill(7),
    rows(1, 1, 1, 1, 2, 1, 1, 1, 3, 3, 2, 2, 2, 2, 2, 5, 5, 5, 5),
  ],
];

export const PNG_SEEDS: readonly Seed[] = PICTURES.map(([name, head, palette, data]) => ({
  name,
  kind: "bytes",
  parts: [head, palette, data].map((bytes) => ({ kind: "bytes", bytes })),
  assemble: ([start = head, colours = palette, pixels = data]) => {
    const chunks = [
      SIGNATURE,
      chunk("IHDR", start),
      ...(colours.length > 0 ? [chunk("PLTE", colours)] : []),
      chunk("IDAT", zlibSync(pixels)),
      chunk("IEND", new Uint8Array()),
    ];
    return Uint8Array.from(chunks.flatMap((bytes) => [...bytes]));
  },
}));

/** Arrays and archives of arrays to start from. */

import { crc32 } from "node:zlib";
import { deflateSync } from "fflate";
import { bytesOf, le, zip } from "../../convert/formats/pth/build.js";
import type { Seed } from "../mutate/index.js";

/** An .npy file. */
function npy(descr: string, shape: string, data: Uint8Array, fortran = false, version = 1): Uint8Array {
  const header = `{'descr': '${descr}', 'fortran_order': ${fortran ? "True" : "False"}, 'shape': (${shape}), }`;
  const before = 8 + (version === 1 ? 2 : 4);
  const padded = `${header.padEnd(64 * Math.ceil((before + header.length + 1) / 64) - before - 1)}\n`;
  return bytesOf(`\x93NUMPY${le(version, 1)}\0${le(padded.length, version === 1 ? 2 : 4)}`, padded, data);
}

const ARRAYS: readonly Uint8Array[] = [
  npy("<f4", "2, 3", new Uint8Array(24)),
  npy("<f8", "2, 2", new Uint8Array(32), true),
  npy("<i8", "", new Uint8Array(8)),
  npy("|b1", "5,", new Uint8Array(5).fill(7), false, 2),
  npy("<f2", "0, 4", new Uint8Array(0), false, 3),
];

export const NPY_SEEDS: readonly Seed[] = ARRAYS.map((bytes, index) => ({
  name: `array ${index}`,
  kind: "npy",
  parts: [{ kind: "npy", bytes }],
  assemble: ([array]) => array ?? new Uint8Array(0),
}));

export const NPZ_SEEDS: readonly Seed[] = [
  {
    name: "stored",
    kind: "zip",
    parts: ARRAYS.slice(0, 3).map((bytes) => ({ kind: "npy", bytes })),
    assemble: (arrays) => zip(arrays.map((data, index) => ({ name: `conv${index}.npy`, data }))),
  },
  {
    name: "deflated",
    kind: "zip",
    parts: ARRAYS.slice(2).map((bytes) => ({ kind: "npy", bytes })),
    assemble: (arrays) =>
      zip(
        arrays.map((array, index) => ({
          name: `conv${index}.npy`,
          data: deflateSync(array),
          method: 8,
          size: array.length,
          crc: crc32(array),
        })),
      ),
  },
];

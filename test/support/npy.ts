import { zipSync } from "fflate";
import type { Tensor } from "../../src/core/tensor.js";

/** numpy's type codes of what these tests write. */
const CODES = { float32: "<f4", float64: "<f8", int64: "<i8" } as const;

/** What `numpy.save` writes for a row-major array: version 1.0, the header padded to 64 bytes. */
export function encodeNpy({ dtype, shape, data }: Tensor<keyof typeof CODES>): Uint8Array {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  return npyOf(
    `{'descr': '${CODES[dtype]}', 'fortran_order': False, 'shape': (${sizes}), }`,
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
}

/** An .npy file with any header over any bytes; versions above 1 have four bytes for the header's length. */
export function npyOf(header: string, data: Uint8Array, version: 1 | 2 | 3 = 1): Uint8Array {
  const fixed = version === 1 ? 10 : 12;
  const length = Math.ceil((fixed + header.length + 1) / 64) * 64 - fixed;
  const start = Buffer.alloc(fixed);
  start.write("\x93NUMPY", "latin1");
  start.writeUInt8(version, 6);
  start.writeUInt16LE(length, 8);
  return new Uint8Array(Buffer.concat([start, Buffer.from(`${header.padEnd(length - 1)}\n`), data]));
}

/** What `numpy.savez` writes. */
export function encodeNpz(arrays: Readonly<Record<string, Tensor<keyof typeof CODES>>>): Uint8Array {
  return zipSync(
    Object.fromEntries(Object.entries(arrays).map(([name, tensor]) => [`${name}.npy`, encodeNpy(tensor)])),
    { level: 0 },
  );
}

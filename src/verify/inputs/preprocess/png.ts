/**
 * PNG pictures (PNG specification, third edition), big-endian, unpacked by fflate.
 *
 * Accepted: every colour type and bit depth, interlaced or not; of an animation the default picture. Read as Pillow's
 * `convert("RGB")`: alpha, transparent colours, profiles and gamma are ignored. Refused: chunks that run over the end, image data
 * of another length than the header says, palette entries that are not there. Checksums are not verified: what they
 * guard against shows in the data.
 */
import { Unzlib } from "fflate";
import type { Pixels } from "./pixels.js";
import { type PngHeader, rawLength, toRgb, unfilter } from "./png-samples.js";
import { broken, expectSize, unsupported } from "./refusals.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a] as const;

/** Length and type before a chunk's data; a checksum after it. */
const CHUNK_START = 8;
const CHECKSUM = 4;

const HEADER_BYTES = 13;

/** Bit depths that each colour type may have (section 11.2.1), and its samples per pixel. */
const COLOUR_TYPES: Readonly<
  Record<number, { readonly depths: readonly number[]; readonly samples: 1 | 2 | 3 | 4 }>
> = {
  0: { depths: [1, 2, 4, 8, 16], samples: 1 },
  2: { depths: [8, 16], samples: 3 },
  3: { depths: [1, 2, 4, 8], samples: 1 },
  4: { depths: [8, 16], samples: 2 },
  6: { depths: [8, 16], samples: 4 },
};

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, index) => bytes[index] === byte);
}

/** @throws InputError (`format`, `unsupported`) if it is broken or too large */
export function decodePng(bytes: Uint8Array, subject: string): Pixels {
  let header: PngHeader | undefined;
  let palette: Uint8Array | undefined;
  const parts: Uint8Array[] = [];
  for (const { type, data } of chunks(bytes, subject)) {
    if (header === undefined) {
      if (type !== "IHDR") throw broken(subject, "a PNG whose first chunk is no header");
      header = readHeader(data, subject);
    } else if (type === "PLTE") palette = data;
    else if (type === "IDAT") parts.push(data);
    else if (type === "IEND") break;
  }
  if (header === undefined) throw broken(subject, "a PNG without a header");
  const raw = inflate(parts, rawLength(header), subject);
  return toRgb(header, unfilter(header, raw, subject), palette, subject);
}

function* chunks(bytes: Uint8Array, subject: string): Generator<{ type: string; data: Uint8Array }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset: number = SIGNATURE.length;
  while (offset < bytes.length) {
    const start = offset + CHUNK_START;
    const end = start <= bytes.length ? start + view.getUint32(offset) : Infinity;
    if (end > bytes.length) throw broken(subject, "a PNG that ends within a chunk");
    const type = String.fromCharCode(...bytes.subarray(offset + 4, start));
    yield { type, data: bytes.subarray(start, end) };
    offset = end + CHECKSUM;
  }
}

function readHeader(data: Uint8Array, subject: string): PngHeader {
  if (data.length !== HEADER_BYTES) throw broken(subject, `a PNG header of ${data.length} bytes`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [depth = 0, colourType = -1, compression, filter, interlace = 2] = data.subarray(8);
  const kind = COLOUR_TYPES[colourType];
  if (!kind?.depths.includes(depth))
    throw broken(subject, `a PNG of colour type ${colourType} with ${depth} bits`);
  if (compression !== 0 || filter !== 0 || interlace > 1)
    throw unsupported(subject, "a PNG of unknown compression, filter or interlacing", "the standard's");
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  expectSize(width, height, subject);
  return { width, height, depth, colourType, samples: kind.samples, interlaced: interlace === 1 };
}

/** Deflate packs no better: a file that is shorter for its size cannot hold the picture. */
const MAX_RATIO = 1032;

/** Input bytes unpacked at a time: more data than the size takes is noticed after 16 MB at the latest. */
const PIECE_BYTES = 1 << 14;

/** The image data, which must be exactly as long as the header makes it. */
function inflate(parts: readonly Uint8Array[], length: number, subject: string): Uint8Array {
  const packed = parts.reduce((sum, part) => sum + part.length, 0);
  if (length > MAX_RATIO * packed) throw broken(subject, `a PNG with ${packed} bytes for ${length} of data`);
  const raw = new Uint8Array(length);
  let filled = 0;
  const stream = new Unzlib((piece) => {
    if (filled + piece.length > length) throw broken(subject, "a PNG with more data than its size takes");
    raw.set(piece, filled);
    filled += piece.length;
  });
  try {
    for (const part of parts)
      for (let start = 0; start < part.length; start += PIECE_BYTES)
        stream.push(part.subarray(start, start + PIECE_BYTES));
    stream.push(new Uint8Array(), true);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && typeof cause.code === "number")
      throw broken(subject, "a PNG with broken compressed data", cause);
    throw cause;
  }
  if (filled !== length) throw broken(subject, `a PNG with ${filled} of ${length} bytes of data`);
  return raw;
}

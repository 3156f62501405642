import { Unzlib } from "fflate/browser";
import { concatenate } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { broken, expectSize, type Pixels, unsupported } from "./images.js";

/** The header of a PNG. */
interface PngHeader {
  readonly width: number;
  readonly height: number;
  /** Bits per sample: 1, 2, 4, 8 or 16. */
  readonly depth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha. */
  readonly colourType: number;
  readonly samples: 1 | 2 | 3 | 4;
  readonly interlaced: boolean;
}

/** A sub-picture: the pixels from (x, y) on, in steps. */
interface Pass {
  readonly x: number;
  readonly y: number;
  readonly stepX: number;
  readonly stepY: number;
}

const WHOLE: readonly Pass[] = [{ x: 0, y: 0, stepX: 1, stepY: 1 }];

/** Adam7 (section 8.1). */
const ADAM7: readonly Pass[] = [
  { x: 0, y: 0, stepX: 8, stepY: 8 },
  { x: 4, y: 0, stepX: 8, stepY: 8 },
  { x: 0, y: 4, stepX: 4, stepY: 8 },
  { x: 2, y: 0, stepX: 4, stepY: 4 },
  { x: 0, y: 2, stepX: 2, stepY: 4 },
  { x: 1, y: 0, stepX: 2, stepY: 2 },
  { x: 0, y: 1, stepX: 1, stepY: 2 },
];

interface SizedPass extends Pass {
  readonly columns: number;
  readonly rows: number;
  /** Bytes of a row, without its filter. */
  readonly rowBytes: number;
}

function passesOf({ width, height, depth, samples, interlaced }: PngHeader): readonly SizedPass[] {
  return (interlaced ? ADAM7 : WHOLE)
    .map((pass) => {
      const columns = Math.ceil((width - pass.x) / pass.stepX);
      const rows = Math.ceil((height - pass.y) / pass.stepY);
      return { ...pass, columns, rows, rowBytes: Math.ceil((columns * samples * depth) / 8) };
    })
    .filter(({ columns, rows }) => columns > 0 && rows > 0);
}

/** Bytes of the image data, unpacked: each row with one byte for its filter. */
function rawLength(header: PngHeader): number {
  return passesOf(header).reduce((sum, { rows, rowBytes }) => sum + rows * (1 + rowBytes), 0);
}

/**
 * Undoes the rows' filters (section 9): samples as bytes [height, width, samples]. Of 16-bit samples Pillow keeps the
 * high byte, except for grey, which it keeps in 16 bits until `convert("RGB")` clips it at 255.
 */
function unfilter(header: PngHeader, raw: Uint8Array, subject: string): Uint8Array {
  const { width, height, depth, samples, colourType } = header;
  const sampleAt = depth < 8 ? packed(depth) : depth === 8 ? byte : colourType === 0 ? clipped : high;
  const pixelBytes = Math.max(1, (samples * depth) / 8);
  const result = new Uint8Array(width * height * samples);
  let offset = 0;
  for (const pass of passesOf(header)) {
    let above: Uint8Array = new Uint8Array(pass.rowBytes);
    for (let row = 0; row < pass.rows; row++) {
      const current = raw.subarray(offset + 1, offset + 1 + pass.rowBytes);
      unfilterRow(raw[offset] as number, current, above, pixelBytes, subject);
      const start = (pass.y + row * pass.stepY) * width + pass.x;
      // The usual case: whole rows of bytes.
      if (depth === 8 && pass.stepX === 1) result.set(current, start * samples);
      else
        for (let column = 0; column < pass.columns; column++)
          for (let sample = 0; sample < samples; sample++)
            result[(start + column * pass.stepX) * samples + sample] = sampleAt(
              current,
              column * samples + sample,
            );
      above = current;
      offset += 1 + pass.rowBytes;
    }
  }
  return result;
}

type Sampler = (row: Uint8Array, index: number) => number;

const byte: Sampler = (row, index) => row[index] as number;
const high: Sampler = (row, index) => row[2 * index] as number;
const clipped: Sampler = (row, index) => (row[2 * index] === 0 ? (row[2 * index + 1] as number) : 255);
const packed =
  (depth: number): Sampler =>
  (row, index) => {
    const bit = index * depth;
    return ((row[bit >> 3] as number) >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
  };

/** Filters a row in place; `left` is a pixel away, or a byte where pixels are smaller. */
function unfilterRow(
  filter: number,
  row: Uint8Array,
  above: Uint8Array,
  left: number,
  subject: string,
): void {
  if (filter > 4) throw broken(subject, `a PNG row with filter ${filter}`);
  if (filter === 0) return;
  for (let index = 0; index < row.length; index++) {
    const a = index >= left ? (row[index - left] as number) : 0;
    const b = above[index] as number;
    const c = index >= left ? (above[index - left] as number) : 0;
    const predicted = filter === 1 ? a : filter === 2 ? b : filter === 3 ? (a + b) >> 1 : paeth(a, b, c);
    row[index] = (row[index] as number) + predicted;
  }
}

/** The neighbour closest to left + above − corner (section 9.4). */
function paeth(a: number, b: number, c: number): number {
  const [toA, toB, toC] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  if (toA <= toB && toA <= toC) return a;
  return toB <= toC ? b : c;
}

/** Samples as red, green and blue. */
function toRgb(
  { width, height, depth, colourType, samples }: PngHeader,
  values: Uint8Array,
  palette: Uint8Array | undefined,
  subject: string,
): Pixels {
  if (samples === 3) return { width, height, data: values };
  const data = new Uint8Array(3 * width * height);
  const isColour = samples >= 3;
  // Grey of less than 8 bits is scaled to 0 … 255.
  const spread = colourType === 0 && depth < 8 ? 255 / ((1 << depth) - 1) : 1;
  for (let pixel = 0; pixel < width * height; pixel++)
    for (let channel = 0; channel < 3; channel++) {
      const value = values[pixel * samples + (isColour ? channel : 0)] as number;
      const level = colourType === 3 ? palette?.[3 * value + channel] : value * spread;
      if (level === undefined) throw broken(subject, `a PNG without palette entry ${value}`);
      data[3 * pixel + channel] = level;
    }
  return { width, height, data };
}

/**
 * PNG pictures (PNG specification, third edition), big-endian, inflated by fflate.
 *
 * Accepted: every colour type and bit depth, interlaced or not; for an animation the default picture. Read as Pillow's
 * `convert("RGB")`: alpha, transparent colours, profiles and gamma are ignored. Refused: chunks beyond the end, image
 * data of the wrong length, missing palette entries. Checksums are not verified.
 */

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
      if (type !== "IHDR") throw broken(subject, "a PNG whose first chunk is not its header");
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
    throw unsupported(
      subject,
      "a PNG with an unknown compression, filter or interlacing method",
      "standard methods",
    );
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  expectSize(width, height, subject);
  return { width, height, depth, colourType, samples: kind.samples, interlaced: interlace === 1 };
}

/** The maximum ratio of deflate: a shorter file cannot contain the picture. */
const MAX_RATIO = 1032;

/**
 * No picture of a camera packs better than a tenth, and a drawing of one colour as far as deflate goes. Beyond 16 million pixels in RGB, which take
 * a second and 100 MB to unpack, a file must be as long as that is worth.
 */
const LARGE = 48_000_000;
const LARGE_RATIO = 256;

/** Input bytes unpacked at a time: more data than the size takes is noticed after 16 MB at the latest. */
const PIECE_BYTES = 1 << 14;

/** The image data, which must have exactly the length given by the header. */
function inflate(parts: readonly Uint8Array[], length: number, subject: string): Uint8Array {
  const packed = parts.reduce((sum, part) => sum + part.length, 0);
  if (length > MAX_RATIO * packed) throw broken(subject, `a PNG with ${packed} bytes for ${length} of data`);
  if (length > LARGE && length > LARGE_RATIO * packed)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${packed} bytes that unpack to a picture of ${length} bytes`,
      expected: `at most ${LARGE_RATIO} times as many bytes unpacked, for pictures over ${LARGE / 1_000_000} MB`,
      remedy: "make it smaller; the network sees 256×128",
    });
  const raw = new Uint8Array(length);
  let filled = 0;
  const stream = new Unzlib((piece) => {
    if (filled + piece.length > length) throw broken(subject, "a PNG with more data than its size takes");
    raw.set(piece, filled);
    filled += piece.length;
  });
  try {
    // Concatenated first, since the stream copies its remaining input at every push, and a chunk may be a
    // single byte.
    const data = concatenate(parts);
    for (let start = 0; start < data.length; start += PIECE_BYTES)
      stream.push(data.subarray(start, start + PIECE_BYTES));
    stream.push(new Uint8Array(), true);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && typeof cause.code === "number")
      throw broken(subject, "a PNG with broken compressed data", cause);
    throw cause;
  }
  if (filled !== length) throw broken(subject, `a PNG with ${filled} of ${length} bytes of data`);
  return raw;
}

import type { Pixels } from "./pixels.js";
import { broken } from "./refusals.js";

/** What a PNG's header says. */
export interface PngHeader {
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
export function rawLength(header: PngHeader): number {
  return passesOf(header).reduce((sum, { rows, rowBytes }) => sum + rows * (1 + rowBytes), 0);
}

/**
 * Undoes the rows' filters (section 9): samples as bytes [height, width, samples]. Of 16 bits Pillow keeps the high byte; but
 * grey, which it keeps in 16 bits until `convert("RGB")`, is cut off at 255.
 */
export function unfilter(header: PngHeader, raw: Uint8Array, subject: string): Uint8Array {
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

/** The neighbour nearest to left + above − corner (section 9.4). */
function paeth(a: number, b: number, c: number): number {
  const [toA, toB, toC] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  if (toA <= toB && toA <= toC) return a;
  return toB <= toC ? b : c;
}

/** Samples as red, green and blue. */
export function toRgb(
  { width, height, depth, colourType, samples }: PngHeader,
  values: Uint8Array,
  palette: Uint8Array | undefined,
  subject: string,
): Pixels {
  const data = new Uint8Array(3 * width * height);
  const isColour = samples >= 3;
  // Grey of less than 8 bits is spread over 0 to 255.
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

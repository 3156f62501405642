import type { Op } from "../../../arch/ops.js";
import { TILE_COLUMNS } from "../engine.js";
import type { Planes } from "./bordered-planes.js";

/** Output pixels, counted row by row over the output plane. */
export interface PixelRange {
  readonly start: number;
  /** A whole number of tiles. */
  readonly columns: number;
  /** Of the output plane. */
  readonly width: number;
}

/**
 * Packs what the kernel covers at some output pixels as [tile][depth][TILE_COLUMNS], where depth counts channels,
 * kernel rows, kernel columns, as OIHW weights do.
 *
 * @param planes A group's input planes, with their border.
 */
export function packPatches(
  op: Op<"conv">,
  planes: Planes,
  pixels: PixelRange,
  memory: Float64Array,
  at: number,
): void {
  const [kernelY, kernelX] = op.kernel;
  const [strideY, strideX] = op.stride;
  const channels = op.inChannels / op.groups;
  const tileSize = channels * kernelY * kernelX * TILE_COLUMNS;
  // Where rows follow on each other without gap, as in 1×1 convolutions, all pixels are one long row.
  const contiguous = strideY === 1 && strideX === 1 && planes.rowStride === pixels.width;
  let target = at;
  for (let channel = 0; channel < channels; channel++)
    for (let i = 0; i < kernelY; i++)
      for (let j = 0; j < kernelX; j++) {
        const first = planes.start + channel * planes.planeStride + i * planes.rowStride + j;
        if (contiguous) packRow(planes.data, first + pixels.start, pixels.columns, memory, target, tileSize);
        else packRows(planes, first, op.stride, pixels, memory, target, tileSize);
        target += TILE_COLUMNS;
      }
}

/** Neighbours in a row, TILE_COLUMNS to each tile. */
function packRow(
  source: Float64Array,
  start: number,
  columns: number,
  memory: Float64Array,
  at: number,
  tileSize: number,
): void {
  let target = at;
  for (let from = start; from < start + columns; from += TILE_COLUMNS) {
    memory[target] = source[from] as number;
    memory[target + 1] = source[from + 1] as number;
    memory[target + 2] = source[from + 2] as number;
    memory[target + 3] = source[from + 3] as number;
    target += tileSize;
  }
}

/** The pixel under one tap of the kernel, for every output pixel; `first` is where it lies for pixel (0, 0). */
function packRows(
  planes: Planes,
  first: number,
  [strideY, strideX]: Op<"conv">["stride"],
  { start, columns, width }: PixelRange,
  memory: Float64Array,
  at: number,
  tileSize: number,
): void {
  const source = planes.data;
  let y = Math.floor(start / width);
  let x = start % width;
  for (let column = 0; column < columns; ) {
    const row = first + y * strideY * planes.rowStride;
    const end = Math.min(columns, column + width - x);
    for (; column < end; column++, x++)
      memory[at + (column >> 2) * tileSize + (column & 3)] = source[row + x * strideX] as number;
    x = 0;
    y++;
  }
}

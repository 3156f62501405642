import type { Op } from "../../../arch/ops.js";
import type { Shape } from "../../../tensor.js";
import { TILE_COLUMNS } from "../engine.js";
import { dimensions, type Operand } from "./kernel.js";

/**
 * Packs what the kernel covers at output pixels `start … start + columns` as [tile][depth][TILE_COLUMNS], where depth
 * counts channels, kernel rows, kernel columns, as in OIHW weights. `channel` is the group's first plane of the input.
 */
export function packPatches(
  op: Op<"conv">,
  input: Operand,
  channel: number,
  output: Shape,
  start: number,
  columns: number,
  memory: Float64Array,
  at: number,
): void {
  const { plane } = dimensions(input);
  const [kernelY, kernelX] = op.kernel;
  const groupInputs = op.inChannels / op.groups;
  const tileSize = groupInputs * kernelY * kernelX * TILE_COLUMNS;
  const pointwise =
    [kernelY, kernelX, ...op.stride].every((size) => size === 1) && op.padding.every((p) => p === 0);
  let target = at;
  for (let index = 0; index < groupInputs; index++) {
    const source = (channel + index) * plane;
    if (pointwise) {
      packRow(input.data, source + start, columns, memory, target, tileSize);
      target += TILE_COLUMNS;
    } else
      for (let i = 0; i < kernelY; i++)
        for (let j = 0; j < kernelX; j++) {
          packTap(op, input, source, output, i, j, start, columns, memory, target, tileSize);
          target += TILE_COLUMNS;
        }
  }
}

/** One row of a matrix: TILE_COLUMNS neighbours to each tile. */
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

/** The pixel under row i and column j of the kernel, for every output pixel; zero outside the image. */
function packTap(
  op: Op<"conv">,
  input: Operand,
  source: number,
  [, , , outputWidth = 1]: Shape,
  i: number,
  j: number,
  start: number,
  columns: number,
  memory: Float64Array,
  at: number,
  tileSize: number,
): void {
  const { height, width } = dimensions(input);
  const [strideY, strideX] = op.stride;
  const [paddingY, paddingX] = op.padding;
  const pixels = input.data;
  let y = Math.floor(start / outputWidth);
  let x = start % outputWidth;
  for (let column = 0; column < columns; column++) {
    const row = y * strideY - paddingY + i;
    const across = x * strideX - paddingX + j;
    const inside = row >= 0 && row < height && across >= 0 && across < width;
    const target = at + (column >> 2) * tileSize + (column & 3);
    memory[target] = inside ? (pixels[source + row * width + across] as number) : 0;
    if (++x === outputWidth) {
      x = 0;
      y++;
    }
  }
}

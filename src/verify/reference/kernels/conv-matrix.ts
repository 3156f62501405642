import type { Op } from "../../../arch/graph.js";
import type { Shape } from "../../../core/tensor.js";
import { STRIP_ROWS, TILE_COLUMNS } from "../engine.js";
import { borderedPlanes, borderedSize, type Call, dimensions, fillPlanes, type Planes } from "./kernel.js";

/** Output pixels, counted row by row over the output plane. */
interface PixelRange {
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
function packPatches(
  op: Op<"conv">,
  planes: Planes,
  pixels: PixelRange,
  memory: Float64Array,
  at: number,
): void {
  const [kernelY, kernelX] = op.kernel;
  const channels = op.inChannels / op.groups;
  const tileSize = channels * kernelY * kernelX * TILE_COLUMNS;
  const contiguous = isContiguous(op, planes, pixels);
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

/** Whether rows follow on each other without gap, as in most 1×1 convolutions: all pixels are one long row. */
function isContiguous({ stride }: Op<"conv">, { rowStride }: Planes, { width }: PixelRange): boolean {
  return stride[0] === 1 && stride[1] === 1 && rowStride === width;
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

/** Elements of packed patches that stay in the second-level cache while every strip of weights passes over them. */
const BLOCK = 16384;

/** Sizes that follow from the operation, and where its parts of the scratch memory start. */
interface Layout {
  /** Terms of one sum: the weights of one output channel. */
  readonly depth: number;
  readonly groupInputs: number;
  readonly groupOutputs: number;
  /**
   * First output channel of each strip within its group. The last strip overlaps the one before where the channels
   * are no multiple of STRIP_ROWS: some are computed twice, to the same result.
   */
  readonly strips: readonly number[];
  /** Pixels whose patches are packed at a time: a whole number of tiles, at least one. */
  readonly blockColumns: number;
  /** Biases: all output channels. */
  readonly biases: number;
  /** Packed weights of one group: [strip][depth][STRIP_ROWS]. */
  readonly weights: number;
  /** Packed patches of one block: [tile][depth][TILE_COLUMNS]. */
  readonly patches: number;
  /** The group's input planes with their border. */
  readonly planes: number;
}

function layoutOf(op: Op<"conv">, scratch: number): Layout {
  const groupInputs = op.inChannels / op.groups;
  const groupOutputs = op.outChannels / op.groups;
  const depth = groupInputs * op.kernel[0] * op.kernel[1];
  const strips = Array.from({ length: Math.ceil(groupOutputs / STRIP_ROWS) }, (_, strip) =>
    Math.min(strip * STRIP_ROWS, groupOutputs - STRIP_ROWS),
  );
  const blockColumns = Math.max(1, Math.floor(BLOCK / depth / TILE_COLUMNS)) * TILE_COLUMNS;
  const weights = scratch + op.outChannels;
  const patches = weights + strips.length * STRIP_ROWS * depth;
  const planes = patches + blockColumns * depth;
  return {
    depth,
    groupInputs,
    groupOutputs,
    strips,
    blockColumns,
    biases: scratch,
    weights,
    patches,
    planes,
  };
}

/** Elements of scratch memory that `matrixConv` uses. */
export function matrixScratch(op: Op<"conv">, input: Shape): number {
  const { planes, groupInputs } = layoutOf(op, 0);
  return planes + (isPadded(op) ? groupInputs * borderedSize(op, input) : 0);
}

function isPadded(op: Op<"conv">): boolean {
  return op.padding.some((padding) => padding > 0);
}

/**
 * A convolution as a matrix product, group by group and image by image: weights [out channels, depth] times patches
 * [depth, pixels], where a patch is what the kernel covers. For a 1×1 convolution the patches are the image.
 */
export function matrixConv(call: Call<"conv">): void {
  const { op, parameters, output, engine } = call;
  const { memory } = engine;
  const layout = layoutOf(op, call.scratch);
  const { biases, groupOutputs, patches } = layout;
  const { images, plane, width } = dimensions(output);
  memory.fill(0, biases, biases + op.outChannels);
  if (parameters.bias) memory.set(parameters.bias, biases);

  for (let group = 0; group < op.groups; group++) {
    packWeights(parameters.weight, group * groupOutputs, layout, memory);
    for (let image = 0; image < images; image++) {
      const planes = inputPlanes(call, layout, image, group);
      for (const pixels of blocks(plane, layout.blockColumns, width)) {
        const isHere = planes.data.buffer === memory.buffer;
        if (isHere && layout.depth === layout.groupInputs && isContiguous(op, planes, pixels))
          engine.pack({
            from: planes.data.byteOffset / 8 + planes.start + pixels.start,
            to: patches,
            rows: layout.depth,
            columns: pixels.columns,
            fromStride: planes.planeStride,
          });
        else packPatches(op, planes, pixels, memory, patches);
        multiplyBlock(call, layout, image, group * groupOutputs, pixels);
      }
    }
  }
}

/** A group's planes of one image: where they are or, if there is padding, copied into their borders. */
function inputPlanes(
  { op, inputs: [input], engine }: Call<"conv">,
  layout: Layout,
  image: number,
  group: number,
): Planes {
  const first = image * op.inChannels + group * layout.groupInputs;
  const { plane, width } = dimensions(input);
  if (!isPadded(op)) return { data: input.data, start: first * plane, rowStride: width, planeStride: plane };
  const planes = borderedPlanes(op, input, layout.groupInputs, engine.memory, layout.planes);
  fillPlanes(op, input, first, layout.groupInputs, planes, engine);
  return planes;
}

/** Covers a plane with blocks of whole tiles; the last one reaches back over the one before if it must. */
function* blocks(plane: number, blockColumns: number, width: number): Generator<PixelRange> {
  for (let start = 0; start < plane; start += blockColumns) {
    const left = Math.min(blockColumns, plane - start);
    const whole = left - (left % TILE_COLUMNS);
    if (whole > 0) yield { start, columns: whole, width };
    if (whole < left) yield { start: plane - TILE_COLUMNS, columns: TILE_COLUMNS, width };
  }
}

function multiplyBlock(
  { op, output, engine }: Call<"conv">,
  layout: Layout,
  image: number,
  firstOutput: number,
  { start, columns }: PixelRange,
): void {
  const { plane } = dimensions(output);
  const { strips, depth } = layout;
  const outputStart = output.data.byteOffset / 8 + (image * op.outChannels + firstOutput) * plane + start;
  strips.forEach((row, strip) => {
    engine.multiply({
      rows: layout.weights + strip * STRIP_ROWS * depth,
      columns: layout.patches,
      bias: layout.biases + firstOutput + row,
      output: outputStart + row * plane,
      outputStride: plane,
      depth,
      tiles: columns / TILE_COLUMNS,
    });
  });
}

/** Packs a group's OIHW weights strip by strip. */
function packWeights(weight: Float64Array, firstOutput: number, layout: Layout, memory: Float64Array): void {
  const { depth } = layout;
  let target = layout.weights;
  for (const start of layout.strips)
    for (let k = 0; k < depth; k++)
      for (let row = 0; row < STRIP_ROWS; row++)
        memory[target++] = weight[(firstOutput + start + row) * depth + k] as number;
}

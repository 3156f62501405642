import type { Op } from "../../arch/graph.js";
import type { Shape } from "../../core/tensor.js";
import type { Numbers } from "./elements.js";
import { type Products, STRIP_ROWS, TILE_COLUMNS } from "./engine.js";
import {
  borderedPlanes,
  borderedSize,
  type Call,
  dimensions,
  fillPlanes,
  type Operand,
  type Planes,
  placeIn,
} from "./kernel.js";

/** A convolution in float64, or in float32. */
interface ConvCall extends Omit<Call<"conv">, "inputs" | "output" | "engine"> {
  readonly inputs: readonly [Operand<Numbers>];
  readonly output: Operand<Numbers>;
  readonly engine: Products;
}

/** Output pixels, counted row by row over the output plane. */
interface PixelRange {
  readonly start: number;
  /** A multiple of the tile size. */
  readonly columns: number;
  /** Of the output plane. */
  readonly width: number;
}

/**
 * Packs what the kernel covers at some output pixels as [tile][depth][tileColumns], where depth counts channels,
 * kernel rows, kernel columns, as OIHW weights do.
 *
 * @param planes A group's input planes, with their border.
 */
function packPatches(
  op: Op<"conv">,
  planes: Planes,
  pixels: PixelRange,
  { memory, tileColumns }: Products,
  at: number,
): void {
  const [kernelY, kernelX] = op.kernel;
  const channels = op.inChannels / op.groups;
  const tile = { columns: tileColumns, size: channels * kernelY * kernelX * tileColumns };
  const contiguous = isContiguous(op, planes, pixels);
  let target = at;
  for (let channel = 0; channel < channels; channel++)
    for (let i = 0; i < kernelY; i++)
      for (let j = 0; j < kernelX; j++) {
        const first = planes.start + channel * planes.planeStride + i * planes.rowStride + j;
        if (contiguous) packRow(planes.data, first + pixels.start, pixels.columns, memory, target, tile);
        else packRows(planes, first, op.stride, pixels, memory, target, tile);
        target += tileColumns;
      }
}

/** Whether rows follow on each other without gap, as in most 1×1 convolutions: all pixels are one long row. */
function isContiguous({ stride }: Op<"conv">, { rowStride }: Planes, { width }: PixelRange): boolean {
  return stride[0] === 1 && stride[1] === 1 && rowStride === width;
}

/** How patches are packed. */
interface Tile {
  readonly columns: number;
  /** Elements of a tile. */
  readonly size: number;
}

/** Neighbours in a row, as many as a tile has to each tile. */
function packRow(
  source: Numbers,
  start: number,
  columns: number,
  memory: Numbers,
  at: number,
  tile: Tile,
): void {
  let target = at;
  for (let from = start; from < start + columns; from += tile.columns) {
    for (let column = 0; column < tile.columns; column++)
      memory[target + column] = source[from + column] as number;
    target += tile.size;
  }
}

/** The pixel under one tap of the kernel, for every output pixel; `first` is its position for pixel (0, 0). */
function packRows(
  planes: Planes,
  first: number,
  [strideY, strideX]: Op<"conv">["stride"],
  { start, columns, width }: PixelRange,
  memory: Numbers,
  at: number,
  tile: Tile,
): void {
  const source = planes.data;
  const shift = Math.log2(tile.columns);
  const mask = tile.columns - 1;
  let y = Math.floor(start / width);
  let x = start % width;
  for (let column = 0; column < columns; ) {
    const row = first + y * strideY * planes.rowStride;
    const end = Math.min(columns, column + width - x);
    for (; column < end; column++, x++)
      memory[at + (column >> shift) * tile.size + (column & mask)] = source[row + x * strideX] as number;
    x = 0;
    y++;
  }
}

/** Elements of packed patches in float64, and half as many float32, that stay in the second-level cache while every strip of weights passes over them. */
const BLOCK = 16384;

/** Sizes that follow from the operation, and where its parts of the scratch memory start. */
interface Layout {
  /** Terms of one sum: the weights of one output channel. */
  readonly depth: number;
  readonly groupInputs: number;
  readonly groupOutputs: number;
  /**
   * First output channel of each strip within its group. The last strip overlaps the one before if the number of
   * channels is not a multiple of STRIP_ROWS: some are computed twice, with the same result.
   */
  readonly strips: readonly number[];
  /** Pixels whose patches are packed at a time: a multiple of the tile size, at least one tile. */
  readonly blockColumns: number;
  /** Biases: all output channels. */
  readonly biases: number;
  /** Packed weights of one group: [strip][depth][STRIP_ROWS]. */
  readonly weights: number;
  /** Packed patches of one block: [tile][depth][tileColumns]. */
  readonly patches: number;
  /** The group's input planes with their border. */
  readonly planes: number;
}

function layoutOf(op: Op<"conv">, scratch: number, tileColumns: number): Layout {
  const groupInputs = op.inChannels / op.groups;
  const groupOutputs = op.outChannels / op.groups;
  const depth = groupInputs * op.kernel[0] * op.kernel[1];
  const strips = Array.from({ length: Math.ceil(groupOutputs / STRIP_ROWS) }, (_, strip) =>
    Math.min(strip * STRIP_ROWS, groupOutputs - STRIP_ROWS),
  );
  const blockColumns = Math.max(1, Math.floor(BLOCK / depth / TILE_COLUMNS)) * tileColumns;
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
function matrixScratch(op: Op<"conv">, input: Shape, tileColumns: number): number {
  const { planes, groupInputs } = layoutOf(op, 0, tileColumns);
  return planes + (isPadded(op) ? groupInputs * borderedSize(op, input) : 0);
}

function isPadded(op: Op<"conv">): boolean {
  return op.padding.some((padding) => padding > 0);
}

/**
 * A convolution as a matrix product, group by group and image by image: weights [out channels, depth] times patches
 * [depth, pixels], where a patch is what the kernel covers. For a 1×1 convolution the patches are the image.
 */
function matrixConv(call: ConvCall): void {
  const { op, parameters, output, engine } = call;
  const { memory, tileColumns } = engine;
  const layout = layoutOf(op, call.scratch, tileColumns);
  const { biases, groupOutputs, patches } = layout;
  const { images, plane, width } = dimensions(output);
  memory.fill(0, biases, biases + op.outChannels);
  if (parameters.bias) memory.set(parameters.bias, biases);

  for (let group = 0; group < op.groups; group++) {
    packWeights(parameters.weight, group * groupOutputs, layout, memory);
    for (let image = 0; image < images; image++) {
      const planes = inputPlanes(call, layout, image, group);
      for (const pixels of blocks(plane, layout.blockColumns, width, tileColumns)) {
        const isHere = planes.data.buffer === memory.buffer;
        if (isHere && layout.depth === layout.groupInputs && isContiguous(op, planes, pixels))
          engine.pack({
            from: placeIn(planes.data) + planes.start + pixels.start,
            to: patches,
            rows: layout.depth,
            columns: pixels.columns,
            fromStride: planes.planeStride,
          });
        else packPatches(op, planes, pixels, engine, patches);
        multiplyBlock(call, layout, image, group * groupOutputs, pixels);
      }
    }
  }
}

/** A group's planes of one image, in place or, if there is padding, copied into a border of zeros. */
function inputPlanes(
  { op, inputs: [input], engine }: ConvCall,
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
function* blocks(
  plane: number,
  blockColumns: number,
  width: number,
  tileColumns: number,
): Generator<PixelRange> {
  for (let start = 0; start < plane; start += blockColumns) {
    const left = Math.min(blockColumns, plane - start);
    const whole = left - (left % tileColumns);
    if (whole > 0) yield { start, columns: whole, width };
    if (whole < left) yield { start: plane - tileColumns, columns: tileColumns, width };
  }
}

function multiplyBlock(
  { op, output, engine }: ConvCall,
  layout: Layout,
  image: number,
  firstOutput: number,
  { start, columns }: PixelRange,
): void {
  const { plane } = dimensions(output);
  const { strips, depth } = layout;
  const outputStart = placeIn(output.data) + (image * op.outChannels + firstOutput) * plane + start;
  strips.forEach((row, strip) => {
    engine.multiply({
      rows: layout.weights + strip * STRIP_ROWS * depth,
      columns: layout.patches,
      bias: layout.biases + firstOutput + row,
      output: outputStart + row * plane,
      outputStride: plane,
      depth,
      tiles: columns / engine.tileColumns,
    });
  });
}

/** Packs a group's OIHW weights strip by strip. */
function packWeights(weight: Numbers, firstOutput: number, layout: Layout, memory: Numbers): void {
  const { depth } = layout;
  let target = layout.weights;
  for (const start of layout.strips)
    for (let k = 0; k < depth; k++)
      for (let row = 0; row < STRIP_ROWS; row++)
        memory[target++] = weight[(firstOutput + start + row) * depth + k] as number;
}

/** Nine weights and the bias. */
const TAPS = 10;

/** Elements of scratch memory: the taps, then one input plane with its border. */
function depthwiseScratch(op: Op<"conv">, input: Shape): number {
  return TAPS + borderedSize(op, input);
}

/** A 3×3 depthwise convolution of stride 1: each plane is copied into its border and correlated with its own kernel. */
function depthwise3x3({ op, inputs, parameters, output, engine, scratch }: ConvCall): void {
  const { memory } = engine;
  const lanes = engine.tileColumns / 2;
  const { images, channels, height, width, plane } = dimensions(output);
  const bordered = borderedPlanes(op, inputs[0], 1, memory, scratch + TAPS);
  const outputStart = placeIn(output.data);
  const whole = width - (width % lanes);
  const [input] = inputs;
  const from = dimensions(input);
  const isHere = input.data.buffer === memory.buffer && from.width % lanes === 0;
  // One of each for all planes, of which a network has some ten thousand.
  const copied = {
    from: 0,
    to: bordered.start + op.padding[0] * bordered.rowStride + op.padding[1],
    rows: from.height,
    columns: from.width,
    fromStride: from.width,
    toStride: bordered.rowStride,
  };
  const place = { inputStride: bordered.rowStride, weights: scratch, outputStride: width, height };
  const correlated = { ...place, input: bordered.start, output: 0, width: whole };

  for (let index = 0; index < images * channels; index++) {
    placeTaps(parameters, index % channels, memory, scratch);
    if (isHere) {
      copied.from = placeIn(input.data) + index * from.plane;
      engine.copyRows(copied);
    } else fillPlanes(op, input, index, 1, bordered, engine);
    const start = outputStart + index * plane;
    correlated.output = start;
    engine.correlate3x3(correlated);
    // The last columns of a width that is not whole vectors are computed with those before them, once more.
    const last = width - lanes;
    if (whole < width)
      engine.correlate3x3({ ...place, input: bordered.start + last, output: start + last, width: lanes });
  }
}

/** Puts the nine weights and the bias of a channel where the engine reads them. */
function placeTaps(
  { weight, bias }: ConvCall["parameters"],
  channel: number,
  memory: Numbers,
  at: number,
): void {
  for (let tap = 0; tap < 9; tap++) memory[at + tap] = weight[9 * channel + tap] as number;
  memory[at + 9] = bias?.[channel] ?? 0;
}

/** torch.nn.Linear: `x · weightᵀ + bias`, from [N, in] to [N, out]; the bias is the first term of the sum. */
export function linear({ op, inputs: [input], parameters, output }: Call<"linear">): void {
  const { inFeatures, outFeatures } = op;
  const { weight, bias } = parameters;
  const source = input.data;
  const target = output.data;
  for (let image = 0; image * outFeatures < target.length; image++)
    for (let row = 0; row < outFeatures; row++) {
      let sum = bias[row] as number;
      for (let k = 0; k < inFeatures; k++)
        sum += (weight[row * inFeatures + k] as number) * (source[image * inFeatures + k] as number);
      target[image * outFeatures + row] = sum;
    }
}

/**
 * torch.nn.Conv2d: output channel o of pixel (y, x) is `bias[o] + Σ weight[o][c][i][j] · input[c][y·stride − padding +
 * i][x·stride − padding + j]` over the channels c of o's group and the kernel's rows i and columns j, in this order;
 * outside the image is zero.
 *
 * Three implementations of the same sum: 3×3 depthwise planes, matrix products, and the definition itself for the rest,
 * such as the gates, whose images are one pixel.
 */
export function conv(call: ConvCall): void {
  const route = routeOf(call.op, call.output.shape, call.engine.tileColumns);
  if (route === "depthwise") depthwise3x3(call);
  else if (route === "matrix") matrixConv(call);
  else directConv(call);
}

/** Elements of scratch memory that `conv` uses for images of this shape. */
export function convScratch(
  op: Op<"conv">,
  input: Shape,
  output: Shape,
  tileColumns: number = TILE_COLUMNS,
): number {
  const route = routeOf(op, output, tileColumns);
  if (route === "depthwise") return depthwiseScratch(op, input);
  return route === "matrix" ? matrixScratch(op, input, tileColumns) : 0;
}

function routeOf(
  op: Op<"conv">,
  [, , height = 1, width = 1]: Shape,
  tileColumns: number,
): "depthwise" | "matrix" | "direct" {
  const { groups, kernel, stride } = op;
  const depthwise = groups === op.inChannels && groups === op.outChannels;
  const isSmooth = kernel.every((size) => size === 3) && stride.every((step) => step === 1);
  if (depthwise && isSmooth && width >= tileColumns / 2) return "depthwise";
  // Strips and tiles that do not fit are moved back to overlap their neighbours, so one must fit.
  return op.outChannels / groups >= STRIP_ROWS && height * width >= tileColumns ? "matrix" : "direct";
}

/** The definition, one output at a time. */
function directConv({ op, inputs: [input], parameters: { weight, bias }, output }: ConvCall): void {
  const from = dimensions(input);
  const to = dimensions(output);
  const [kernelY, kernelX] = op.kernel;
  const [strideY, strideX] = op.stride;
  const [paddingY, paddingX] = op.padding;
  const groupInputs = op.inChannels / op.groups;
  const groupOutputs = op.outChannels / op.groups;
  const pixels = input.data;
  let at = 0;
  for (let image = 0; image < to.images; image++)
    for (let out = 0; out < to.channels; out++) {
      const firstChannel = image * from.channels + Math.floor(out / groupOutputs) * groupInputs;
      for (let y = 0; y < to.height; y++)
        for (let x = 0; x < to.width; x++) {
          let sum = bias?.[out] ?? 0;
          let tap = out * groupInputs * kernelY * kernelX;
          for (let channel = 0; channel < groupInputs; channel++)
            for (let i = 0; i < kernelY; i++)
              for (let j = 0; j < kernelX; j++, tap++) {
                const row = y * strideY - paddingY + i;
                const column = x * strideX - paddingX + j;
                if (row < 0 || row >= from.height || column < 0 || column >= from.width) continue;
                const pixel = (firstChannel + channel) * from.plane + row * from.width + column;
                sum += (weight[tap] as number) * (pixels[pixel] as number);
              }
          output.data[at++] = sum;
        }
    }
}

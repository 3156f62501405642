import type { Op } from "../../../arch/ops.js";
import { STRIP_ROWS, TILE_COLUMNS } from "../engine.js";
import { packPatches } from "./conv-patches.js";
import { type Call, dimensions } from "./kernel.js";

/** Elements of packed patches that stay in the second-level cache while every strip of weights passes over them. */
const BLOCK = 16384;

/** Terms of one sum: the weights of one output channel. */
function depthOf(op: Op<"conv">): number {
  return (op.inChannels / op.groups) * op.kernel[0] * op.kernel[1];
}

/** Pixels whose patches are packed at a time: a whole number of tiles, at least one. */
function blockColumns(depth: number): number {
  return Math.max(1, Math.floor(BLOCK / depth / TILE_COLUMNS)) * TILE_COLUMNS;
}

/** Output channels at which strips start; the last strip of a group overlaps the one before if it must. */
function stripStarts(channels: number): number[] {
  const strips = Math.ceil(channels / STRIP_ROWS);
  return Array.from({ length: strips }, (_, strip) => Math.min(strip * STRIP_ROWS, channels - STRIP_ROWS));
}

/** Elements of scratch memory: biases, packed weights of one group, packed patches of one block. */
export function matrixScratch(op: Op<"conv">): number {
  const depth = depthOf(op);
  const strips = stripStarts(op.outChannels / op.groups).length;
  return op.outChannels + strips * STRIP_ROWS * depth + blockColumns(depth) * depth;
}

/**
 * A convolution as a matrix product, group by group and image by image: weights [out channels, depth] times patches
 * [depth, pixels], where a patch is what the kernel covers. For a 1×1 convolution the patches are the image.
 */
export function matrixConv(call: Call<"conv">): void {
  const { op, inputs, parameters, output, engine, scratch } = call;
  const { images, plane } = dimensions(output);
  const depth = depthOf(op);
  const groupOutputs = op.outChannels / op.groups;
  const groupInputs = op.inChannels / op.groups;
  const starts = stripStarts(groupOutputs);
  const weights = scratch + op.outChannels;
  const patches = weights + starts.length * STRIP_ROWS * depth;
  const outputStart = output.data.byteOffset / 8;
  const block = blockColumns(depth);
  engine.memory.fill(0, scratch, weights);
  if (parameters.bias) engine.memory.set(parameters.bias, scratch);

  for (let group = 0; group < op.groups; group++) {
    const firstOutput = group * groupOutputs;
    packWeights(parameters.weight, firstOutput, starts, depth, engine.memory, weights);
    for (let image = 0; image < images; image++)
      for (let next = 0; next < plane; ) {
        // Whole tiles; the last pixels, if fewer, are computed with some before them, once more.
        const whole = Math.min(block, plane - next - ((plane - next) % TILE_COLUMNS));
        const columns = whole || TILE_COLUMNS;
        const start = whole ? next : plane - TILE_COLUMNS;
        const channel = image * op.inChannels + group * groupInputs;
        packPatches(op, inputs[0], channel, output.shape, start, columns, engine.memory, patches);
        starts.forEach((row, strip) => {
          engine.multiply({
            rows: weights + strip * STRIP_ROWS * depth,
            columns: patches,
            bias: scratch + firstOutput + row,
            output: outputStart + (image * op.outChannels + firstOutput + row) * plane + start,
            outputStride: plane,
            depth,
            tiles: columns / TILE_COLUMNS,
          });
        });
        next = start + columns;
      }
  }
}

/** Packs OIHW weights of one group as [strip][depth][STRIP_ROWS]. */
function packWeights(
  weight: Float64Array,
  firstOutput: number,
  starts: readonly number[],
  depth: number,
  memory: Float64Array,
  at: number,
): void {
  let target = at;
  for (const start of starts)
    for (let k = 0; k < depth; k++)
      for (let row = 0; row < STRIP_ROWS; row++)
        memory[target++] = weight[(firstOutput + start + row) * depth + k] as number;
}

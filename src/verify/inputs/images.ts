import { type LayerGraph, outputShapes } from "../../arch/index.js";
import { IMAGENET, type PixelOrder } from "../../convert/export/preprocess.js";
import { mulberry32 } from "../../core/functions.js";
import type { Tensor } from "../../core/tensor.js";
import { expectAffordable } from "./refusals.js";

const { white: WHITE } = IMAGENET;

/** Cells across an image's height in each octave of noise, with the octave's weight: body, clothing, texture. */
const OCTAVES = [
  { cells: 4, weight: 0.5 },
  { cells: 16, weight: 0.3 },
  { cells: 64, weight: 0.2 },
] as const;

/**
 * Seeded test images [batch, 3, height, width], float32, normalised as torchreid's are. Every image is different and
 * has structure at several scales (sums of interpolated noise), so that streams of different receptive field, and
 * their gates, see different things. The same seed gives the same images on every machine: only +, −, × and ÷ are used.
 */
export function seededImages(seed: number, batch: number, height: number, width: number): Tensor<"float32"> {
  expectAffordable(batch, height, width);
  const random = mulberry32(seed);
  const data = new Float32Array(batch * 3 * height * width);
  const plane = height * width;
  for (let index = 0; index < batch * 3; index++) {
    const values = data.subarray(index * plane, (index + 1) * plane);
    for (const { cells, weight } of OCTAVES) addNoise(values, height, width, cells, weight, random);
    const [mean, deviation] = [IMAGENET.mean[index % 3] ?? 0, IMAGENET.deviation[index % 3] ?? 1];
    for (let pixel = 0; pixel < plane; pixel++)
      values[pixel] = ((values[pixel] as number) - mean) / deviation;
  }
  return { dtype: "float32", shape: [batch, 3, height, width], data };
}

/** The nearest images that a camera could have taken: pixels of whole numbers from 0 to 255, normalised. */
export function photographed(images: Tensor<"float32">): Tensor<"float32"> {
  const pixel = (value: number): number => Math.min(WHITE, Math.max(0, Math.round(value)));
  return mapChannels(images, (value, mean, deviation) => {
    // In torchvision's order and precision: a model that normalises the same way gives the same bits.
    const scaled = Math.fround(pixel((value * deviation + mean) * WHITE) / WHITE);
    return Math.fround(scaled - Math.fround(mean)) / Math.fround(deviation);
  });
}

/** How far rounding to float32 can take a normalised pixel from a whole number, with a margin. */
const PIXEL_NOISE = 1e-3;

/**
 * The pixels behind normalised images, [N, 3, H, W] too, float32: whole numbers, if all are within rounding of one, as of a
 * photograph. Other images have values between and beyond.
 */
export function pixelsOf(images: Tensor<"float32">, order: PixelOrder): Tensor<"float32"> {
  const exact = mapChannels(images, (value, mean, deviation) => (value * deviation + mean) * WHITE);
  const isPhotograph = exact.data.every((value) => Math.abs(value - Math.round(value)) < PIXEL_NOISE);
  // + 0: black is no −0.
  const rgb = isPhotograph ? { ...exact, data: exact.data.map((value) => Math.round(value) + 0) } : exact;
  return inOrder(rgb, order);
}

/** RGB images [N, 3, H, W] with their channels in another order. */
export function inOrder(rgb: Tensor<"float32">, order: PixelOrder): Tensor<"float32"> {
  if (order === "rgb") return rgb;
  const [batch = 0, , height = 0, width = 0] = rgb.shape;
  const plane = height * width;
  const data = new Float32Array(rgb.data.length);
  for (let image = 0; image < batch; image++)
    for (let channel = 0; channel < 3; channel++) {
      const start = (image * 3 + 2 - channel) * plane;
      data.set(rgb.data.subarray(start, start + plane), (image * 3 + channel) * plane);
    }
  return { ...rgb, data };
}

/** Every value of images [N, 3, H, W] with the statistics of its channel. */
function mapChannels(
  { shape, data }: Tensor<"float32">,
  map: (value: number, mean: number, deviation: number) => number,
): Tensor<"float32"> {
  const [, , height = 1, width = 1] = shape;
  const plane = height * width;
  const target = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += plane) {
    const channel = (start / plane) % 3;
    const [mean, deviation] = [IMAGENET.mean[channel] ?? 0, IMAGENET.deviation[channel] ?? 1];
    for (let index = start; index < start + plane; index++)
      target[index] = map(data[index] as number, mean, deviation);
  }
  return { dtype: "float32", shape, data: target };
}

/** Adds bilinearly interpolated noise in [0, weight] with square cells, `cells` of them along the height. */
function addNoise(
  plane: Float32Array,
  height: number,
  width: number,
  cells: number,
  weight: number,
  random: () => number,
): void {
  const cell = Math.max(1, height / cells);
  const rows = Math.ceil(height / cell) + 1;
  const columns = Math.ceil(width / cell) + 1;
  const lattice = Float64Array.from({ length: rows * columns }, random);
  const at = (row: number, column: number): number => lattice[row * columns + column] ?? 0;
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / cell);
    const down = y / cell - row;
    for (let x = 0; x < width; x++) {
      const column = Math.floor(x / cell);
      const right = x / cell - column;
      const top = at(row, column) * (1 - right) + at(row, column + 1) * right;
      const bottom = at(row + 1, column) * (1 - right) + at(row + 1, column + 1) * right;
      const index = y * width + x;
      plane[index] = (plane[index] as number) + weight * (top * (1 - down) + bottom * down);
    }
  }
}

/** Sizes to try, in this order: what re-identification uses, then others of about its form. */
const HEIGHTS = [256, 240, 224, 288] as const;
const WIDTHS = [128, 112, 96, 64, 160] as const;

/**
 * The size of test images where nobody chooses it: 256×128, or the first at which no layer's output is as high as it is
 * wide (so that no C = H = W either): a file that exchanges two axes then cannot have the right shapes by chance.
 *
 * @param fixed what the model fixes
 */
export function defaultSize(
  graph: LayerGraph,
  { height, width }: { readonly height?: number | undefined; readonly width?: number | undefined },
): { readonly height: number; readonly width: number } {
  const sizes = (height === undefined ? HEIGHTS : [height]).flatMap((high) =>
    (width === undefined ? WIDTHS : [width]).map((wide) => ({ height: high, width: wide })),
  );
  const [first = { height: HEIGHTS[0], width: WIDTHS[0] }] = sizes;
  return sizes.find((size) => !hasSquares(graph, size.height, size.width)) ?? first;
}

function hasSquares(graph: LayerGraph, height: number, width: number): boolean {
  const shapes = [...outputShapes(graph, [1, 3, height, width]).values()];
  return shapes.some(([, , high = 1, wide = 1]) => high === wide && high > 1);
}

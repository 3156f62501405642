import { type LayerGraph, outputShapes } from "../../arch/index.js";
import { IMAGENET, type PixelOrder } from "../../convert/export/options.js";
import type { Preprocess } from "../../convert/import/operators/foreign.js";
import { towardsNchw } from "../../convert/import/operators/layouts.js";
import { InputError } from "../../core/errors.js";
import { filled, mulberry32 } from "../../core/functions.js";
import type { Tensor } from "../../core/tensor.js";
import { castFloat, toFloat32 } from "../../core/tensor-cast.js";

/** A decoded picture: 8 bits per channel, red, green, blue, pixel by pixel, rows from the top. */
export interface Pixels {
  /** Pixels in a row. */
  readonly width: number;
  /** Number of rows. */
  readonly height: number;
  /** 3 · width · height values from 0 to 255. */
  readonly data: Uint8Array;
}

/** 8000×5000: more than any re-identification crop, and the size of a camera's picture. Decoding takes up to 600 MB. */
const MAX_PIXELS = 40_000_000;

/** The longest side of any camera's picture or panorama; resizing covers all rows at the network's width. */
const MAX_SIDE = 32_767;

/**
 * Called with the size that a file declares, before memory of that size is allocated.
 *
 * @throws InputError (`unsupported`) if the picture is larger than `MAX_PIXELS` or longer than `MAX_SIDE`, (`format`)
 * if it has no pixels
 */
export function expectSize(width: number, height: number, subject: string): void {
  if (width < 1 || height < 1) throw broken(subject, `a picture of ${width}×${height} pixels`);
  if (width * height <= MAX_PIXELS && Math.max(width, height) <= MAX_SIDE) return;
  throw new InputError({
    code: "unsupported",
    subject,
    found: `a picture of ${width}×${height} pixels`,
    expected: `at most ${MAX_PIXELS / 1_000_000} million pixels, and ${MAX_SIDE} per side`,
    remedy: "make it smaller; the network sees 256×128",
  });
}

/**
 * Limit on the pixels of all images of a run: 128 images of 256×128, or one of 2048×2048. For each pixel, the stem's
 * output alone takes 128 bytes in float64, and osnet_x1_0 some 60,000 operations.
 */
const MAX_RUN_PIXELS = 2 ** 22;

/**
 * Called before images are made, since a batch and a size may come from a file, which can state any.
 *
 * @throws InputError (`argument`) if a run on them would take more than `MAX_RUN_PIXELS`
 */
export function expectAffordable(batch: number, height: number, width: number): void {
  if (batch * height * width <= MAX_RUN_PIXELS) return;
  throw new InputError({
    code: "argument",
    subject: "images",
    found: `a batch of ${batch} at ${height}×${width}, ${batch * height * width} pixels`,
    expected: `at most ${MAX_RUN_PIXELS} pixels in a run`,
    remedy: "choose a smaller batch and size; if the model fixes them, export it with dynamic ones",
  });
}

/** Maximum number of images of a size in a run; at least one. */
export function affordableBatch(height: number, width: number): number {
  return Math.max(1, Math.floor(MAX_RUN_PIXELS / (height * width)));
}

/** Bytes that do not decode. */
export function broken(subject: string, found: string, cause?: unknown): InputError {
  return new InputError(
    {
      code: "format",
      subject,
      found,
      expected: "a JPEG or PNG picture",
      remedy: "save it again with a program that opens it",
    },
    { cause },
  );
}

/** A picture of a valid but unsupported kind. */
export function unsupported(subject: string, found: string, expected: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found,
    expected,
    remedy: "save it again as an RGB picture of 8 bits per channel",
  });
}

const { white: WHITE } = IMAGENET;

/** Cells across an image's height in each octave of noise, with the octave's weight: body, clothing, texture. */
const OCTAVES = [
  { cells: 4, weight: 0.5 },
  { cells: 16, weight: 0.3 },
  { cells: 64, weight: 0.2 },
] as const;

/**
 * Seeded test images [batch, 3, height, width], float32, normalised as in torchreid. Every image is different and has
 * structure at several scales (sums of interpolated noise), so that streams with different receptive fields, and their
 * gates, see different things. The same seed gives the same images on every machine: only +, −, × and ÷ are used.
 */
export function seededImages(seed: number, batch: number, height: number, width: number): Tensor<"float32"> {
  expectAffordable(batch, height, width);
  const random = mulberry32(seed);
  const data = new Float32Array(batch * 3 * height * width);
  const plane = height * width;
  for (let index = 0; index < batch * 3; index++) {
    const values = data.subarray(index * plane, (index + 1) * plane);
    for (const { cells, weight } of OCTAVES) addNoise(values, height, width, cells, weight, random);
    normalise(values, IMAGENET.mean[index % 3] ?? 0, IMAGENET.deviation[index % 3] ?? 1);
  }
  return { dtype: "float32", shape: [batch, 3, height, width], data };
}

function normalise(values: Float32Array, mean: number, deviation: number): void {
  for (let pixel = 0; pixel < values.length; pixel++)
    values[pixel] = ((values[pixel] as number) - mean) / deviation;
}

/** A normalised pixel of 0 (black) to 1 (white). */
export function normalisedPixel(level: number, channel: number): number {
  return (level - (IMAGENET.mean[channel] ?? 0)) / (IMAGENET.deviation[channel] ?? 1);
}

/** The nearest images that a camera could have taken: integer pixels from 0 to 255, normalised. */
export function photographed(images: Tensor<"float32">): Tensor<"float32"> {
  const pixel = (value: number): number => Math.min(WHITE, Math.max(0, Math.round(value)));
  return mapChannels(images, (value, mean, deviation) => {
    // In torchvision's order and precision: a model that normalises the same way gives the same bits.
    const scaled = Math.fround(pixel((value * deviation + mean) * WHITE) / WHITE);
    return Math.fround(scaled - Math.fround(mean)) / Math.fround(deviation);
  });
}

/** The maximum distance of a normalised pixel from an integer through rounding to float32, with a margin. */
const PIXEL_NOISE = 1e-3;

/**
 * The pixels of normalised images, [N, 3, H, W] too, float32: integers if all are integers to within rounding, as in a
 * photograph. Other images have values between and beyond.
 */
export function pixelsOf(images: Tensor<"float32">, order: PixelOrder): Tensor<"float32"> {
  const exact = mapChannels(images, (value, mean, deviation) => (value * deviation + mean) * WHITE);
  const isPhotograph = exact.data.every((value) => Math.abs(value - Math.round(value)) < PIXEL_NOISE);
  // + 0: avoids −0 for black.
  const rgb = isPhotograph ? { ...exact, data: exact.data.map((value) => Math.round(value) + 0) } : exact;
  return inOrder(rgb, order);
}

/** RGB images [N, 3, H, W] with reordered channels. */
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

/** Applies each channel's statistics to the values of images [N, 3, H, W]. */
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
  const places = Int32Array.from({ length: width }, (_, x) => Math.floor(x / cell));
  const shares = Float64Array.from(places, (column, x) => x / cell - column);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / cell);
    const own = lattice.subarray(row * columns, (row + 1) * columns);
    const next = lattice.subarray((row + 1) * columns, (row + 2) * columns);
    const target = plane.subarray(y * width, (y + 1) * width);
    addRow(target, weight, [own, next], y / cell - row, places, shares);
  }
}

/** One row between two of the lattice, `down` of the way from the first to the second. */
function addRow(
  target: Float32Array,
  weight: number,
  [own, next]: readonly [Float64Array, Float64Array],
  down: number,
  places: Int32Array,
  shares: Float64Array,
): void {
  for (let x = 0; x < target.length; x++) {
    const column = places[x] as number;
    const right = shares[x] as number;
    const top = (own[column] as number) * (1 - right) + (own[column + 1] as number) * right;
    const bottom = (next[column] as number) * (1 - right) + (next[column + 1] as number) * right;
    target[x] = (target[x] as number) + weight * (top * (1 - down) + bottom * down);
  }
}

/** Sizes to try, in this order: usual ones for re-identification, then others of similar proportions. */
const HEIGHTS = [256, 240, 224, 288] as const;
const WIDTHS = [128, 112, 96, 64, 160] as const;

/**
 * The default size of test images: 256×128, or the first size at which no layer's output is square (or has C = H = W),
 * so that a file with swapped axes cannot have the right shapes by chance.
 *
 * @param fixed the sizes that the model fixes
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

/** Images for a file that preprocesses its input itself: the input that makes the network read them. */

/**
 * The file's input for images [N, C, H, W]: its preprocessing inverted, in its order of channels and axes. Integers if
 * the file takes integers.
 *
 * @throws InputError (`unsupported`) if the preprocessing drops a channel or multiplies by zero
 */
export function rawImages(images: Tensor<"float32">, preprocess: Preprocess): Tensor<"float32"> {
  const { order, scale, shift, layout, dtype } = preprocess;
  const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
  if (scale.length !== channels || scale.some((value) => value === 0 || !Number.isFinite(value)))
    throw new InputError({
      code: "unsupported",
      subject: "preprocessing of the ONNX file",
      found: `channels multiplied by ${scale.join(", ")}`,
      expected: `${channels} numbers other than zero`,
      remedy: "export the network without its preprocessing",
    });
  const sizes = [batch, channels, height, width];
  const shape = layout.map((axis) => sizes[axis] ?? 1);
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const [perImage = 0, perChannel = 0, perRow = 0, perColumn = 0] = towardsNchw(layout).map(
    (axis) => strides[axis] ?? 0,
  );
  const limits = LIMITS[dtype ?? ""];
  const data = new Float32Array(images.data.length);
  let source = 0;
  for (let image = 0; image < batch; image++)
    for (let channel = 0; channel < channels; channel++) {
      const [factor, offset] = [scale[channel] ?? 1, shift[channel] ?? 0];
      const start = image * perImage + (order[channel] ?? channel) * perChannel;
      for (let row = 0; row < height; row++)
        for (let column = 0; column < width; column++) {
          const raw = ((images.data[source++] ?? 0) - offset) / factor;
          data[start + row * perRow + column * perColumn] = limits
            ? Math.min(limits[1], Math.max(limits[0], Math.round(raw)))
            : raw;
        }
    }
  return { dtype: "float32", shape, data };
}

/** The nearest images that the file can be given: the same ones unless it takes integers or float16. */
export function nearestImages(images: Tensor<"float32">, preprocess: Preprocess): Tensor<"float32"> {
  const isHalf = preprocess.dtype === "float16";
  if (!LIMITS[preprocess.dtype ?? ""] && !isHalf) return images;
  const exact = rawImages(images, { ...preprocess, layout: [0, 1, 2, 3] });
  const raw = (isHalf ? toFloat32(castFloat(exact, "float16", "images"), "images") : exact).data;
  const { order, scale, shift } = preprocess;
  const [, channels = 0, height = 0, width = 0] = images.shape;
  const plane = height * width;
  const data = filled(new Float32Array(images.data.length), (index) => {
    const channel = Math.floor(index / plane) % channels;
    const from = index + ((order[channel] ?? channel) - channel) * plane;
    return (raw[from] ?? 0) * (scale[channel] ?? 1) + (shift[channel] ?? 0);
  });
  return { ...images, data };
}

/** The range of each integer type of pixels. */
const LIMITS: Readonly<Record<string, readonly [least: number, most: number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  int32: [0, 255],
};

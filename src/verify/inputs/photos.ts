import { IMAGENET } from "../../convert/export/options.js";
import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import { expectAffordable, type Pixels } from "./images.js";
import { decodeJpeg, isJpeg } from "./jpeg.js";
import { decodePng, isPng } from "./png.js";

/**
 * Pillow's `Image.resize` with BILINEAR on 8-bit pictures, which is torchvision's `Resize((height, width))` for a PIL
 * image. A triangle filter whose support grows with the reduction (antialiasing); one axis after the other, with 8-bit
 * intermediate values and fixed-point weights. Bit-identical to Pillow 13. The order of the axes affects rounding: up
 * to version 12 the width was always first, so values of pictures whose height shrinks most may differ by one level.
 *
 * Source: Pillow 13, src/libImaging/Resample.c (`precompute_coeffs`, `normalize_coeffs_8bpc`,
 * `ImagingResampleHorizontal_8bpc`, `ImagingResampleVertical_8bpc`).
 */

/** Fraction bits of a weight: 32, less 8 for the value and 2 of headroom (`PRECISION_BITS`). */
const PRECISION_BITS = 22;
const ONE = 2 ** PRECISION_BITS;

/** The inputs of one output position: from `first`, with their weights, which sum to about `ONE`. */
interface Window {
  readonly first: number;
  readonly weights: Int32Array;
}

/** Resizes a picture to `height` × `width` pixels, at least 1 each, ignoring its proportions. */
export function resizeBilinear(pixels: Pixels, height: number, width: number): Pixels {
  if (pixels.height === height && pixels.width === width) return pixels;
  const [shorter, narrower] = [pixels.height - height, pixels.width - width];
  // As in Pillow: leaves less work for the second axis.
  return shorter > 0 && shorter > 2 * narrower
    ? resampleColumns(resampleRows(pixels, height), width)
    : resampleRows(resampleColumns(pixels, width), height);
}

function resampleColumns(pixels: Pixels, newWidth: number): Pixels {
  const { width, height, data } = pixels;
  if (width === newWidth) return pixels;
  const windows = windowsOf(width, newWidth);
  const result = new Uint8Array(3 * newWidth * height);
  // All three channels at once, since a large picture's time is spent here.
  for (let y = 0, target = 0; y < height; y++)
    for (let x = 0; x < newWidth; x++, target += 3) {
      const { first, weights } = windows[x] as Window;
      let [red, green, blue] = [ONE / 2, ONE / 2, ONE / 2];
      for (let index = 0, from = 3 * (y * width + first); index < weights.length; index++, from += 3) {
        const weight = weights[index] as number;
        red += (data[from] as number) * weight;
        green += (data[from + 1] as number) * weight;
        blue += (data[from + 2] as number) * weight;
      }
      result[target] = Math.min(255, red >> PRECISION_BITS);
      result[target + 1] = Math.min(255, green >> PRECISION_BITS);
      result[target + 2] = Math.min(255, blue >> PRECISION_BITS);
    }
  return { width: newWidth, height, data: result };
}

function resampleRows(pixels: Pixels, newHeight: number): Pixels {
  const { width, height, data } = pixels;
  if (height === newHeight) return pixels;
  const row = 3 * width;
  const result = new Uint8Array(row * newHeight);
  for (const [y, window] of windowsOf(height, newHeight).entries())
    for (let x = 0; x < row; x++) result[y * row + x] = weigh(data, window.first * row + x, row, window);
  return { width, height: newHeight, data: result };
}

/** The weighted sum of a window, rounded; sums stay within 31 bits. */
function weigh(data: Uint8Array, start: number, step: number, { weights }: Window): number {
  let sum = ONE / 2;
  for (let index = 0; index < weights.length; index++)
    sum += (data[start + index * step] as number) * (weights[index] as number);
  return Math.min(255, sum >> PRECISION_BITS);
}

function windowsOf(size: number, newSize: number): readonly Window[] {
  const scale = size / newSize;
  // The triangle spans one pixel to either side: of the input when enlarging, of the output when reducing.
  const support = Math.max(1, scale);
  return Array.from({ length: newSize }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(size, Math.trunc(centre + support + 0.5));
    const heights = Array.from({ length: end - first }, (_, offset) =>
      Math.max(0, 1 - Math.abs((offset + first - centre + 0.5) / support)),
    );
    const sum = heights.reduce((total, value) => total + value, 0);
    return { first, weights: Int32Array.from(heights, (value) => Math.trunc(0.5 + (value / sum) * ONE)) };
  });
}

/**
 * Decodes a picture as torchreid's reader does (`Image.open(path).convert("RGB")`, torchreid.utils.read_image): EXIF
 * orientation, transparency, colour profiles and gamma are ignored.
 *
 * @param subject name of the file in messages
 * @throws InputError (`format`, `unsupported`) if it is not a JPEG or PNG, is broken, or is too large
 */
export async function decodePhoto(bytes: Uint8Array, subject: string): Promise<Pixels> {
  if (isPng(bytes)) return decodePng(bytes, subject);
  if (isJpeg(bytes)) return decodeJpeg(bytes, subject);
  throw new InputError({
    code: "format",
    subject,
    found: "bytes that are neither a JPEG nor a PNG picture",
    expected: "a .jpg or .png file",
    remedy: "save it again as one of them",
  });
}

/**
 * Pictures as the network reads them, [N, 3, height, width] float32: torchreid's test transform
 * (torchreid.data.transforms: `Resize((height, width))`, `ToTensor()`, `Normalize(mean, std)`), rounded where PyTorch
 * rounds.
 */
export function photoTensor(photos: readonly Pixels[], height: number, width: number): Tensor<"float32"> {
  expectAffordable(photos.length, height, width);
  const plane = height * width;
  const data = new Float32Array(photos.length * 3 * plane);
  for (const [image, photo] of photos.entries()) {
    const { data: pixels } = resizeBilinear(photo, height, width);
    for (const [channel, values] of NORMALISED.entries()) {
      const start = (3 * image + channel) * plane;
      for (let pixel = 0; pixel < plane; pixel++)
        data[start + pixel] = values[pixels[3 * pixel + channel] as number] as number;
    }
  }
  return { dtype: "float32", shape: [photos.length, 3, height, width], data };
}

/** By channel, the value of each of the 256 levels: (level / 255 − mean) / deviation, each step in float32. */
const NORMALISED: readonly Float32Array[] = IMAGENET.mean.map((mean, channel) => {
  const deviation = Math.fround(IMAGENET.deviation[channel] ?? 1);
  return Float32Array.from({ length: 256 }, (_, level) => {
    const centred = Math.fround(Math.fround(level / 255) - Math.fround(mean));
    return centred / deviation;
  });
});

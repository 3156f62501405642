import { InputError } from "../../../errors.js";
import type { Tensor } from "../../../tensor.js";
import { decodeJpeg, isJpeg } from "./jpeg.js";
import { DEVIATION, MEAN } from "./normalise.js";
import type { Pixels } from "./pixels.js";
import { decodePng, isPng } from "./png.js";
import { resizeBilinear } from "./resample.js";

/**
 * Decodes a picture as torchreid's reader does (`Image.open(path).convert("RGB")`, torchreid.utils.read_image): an
 * orientation in its EXIF data is ignored, and so are transparency, colour profiles and gamma.
 *
 * @param subject what messages call the file
 * @throws InputError (`format`, `unsupported`) if it is no JPEG or PNG, is broken, or is too large
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
 * Pictures as the network takes them, [N, 3, height, width] float32: torchreid's test transform (torchreid.data.transforms:
 * `Resize((height, width))`, `ToTensor()`, `Normalize(mean, std)`), rounded where PyTorch rounds.
 */
export function photoTensor(photos: readonly Pixels[], height: number, width: number): Tensor<"float32"> {
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

/** By channel, what each of the 256 levels becomes: (level / 255 − mean) / deviation, each step in float32. */
const NORMALISED: readonly Float32Array[] = MEAN.map((mean, channel) => {
  const deviation = Math.fround(DEVIATION[channel] ?? 1);
  return Float32Array.from({ length: 256 }, (_, level) => {
    const centred = Math.fround(Math.fround(level / 255) - Math.fround(mean));
    return centred / deviation;
  });
});

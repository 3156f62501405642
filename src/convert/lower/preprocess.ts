/**
 * Raw pixels as a model's input: what torchvision's `ToTensor` and `Normalize` do to an image before torchreid's networks
 * see it, written into the model.
 *
 * Not folded into the stem's convolution, though it is affine: the stem pads with zeros, which stand for the mean colour
 * after normalisation and for black before it, so that a folded stem is wrong along the borders.
 */
import { InputError } from "../../errors.js";

/** How the channels of a pixel follow each other: as in browsers and Pillow, or as in OpenCV. */
export const PIXEL_ORDERS = ["rgb", "bgr"] as const;

export type PixelOrder = (typeof PIXEL_ORDERS)[number];

/** ImageNet's statistics of RGB in [0, 1], which torchreid normalises with. */
export const IMAGENET = {
  /** A pixel's largest value. */
  white: 255,
  mean: [0.485, 0.456, 0.406],
  deviation: [0.229, 0.224, 0.225],
} as const;

/** Key of the order of a model's raw pixels in its metadata; a model without it takes normalised images. */
export const PREPROCESS_METADATA = "osnet.preprocess";

/** The metadata of a model that takes raw pixels; nothing for any other. */
export function preprocessMetadata(order: PixelOrder | undefined): { readonly [key: string]: string } {
  return order === undefined ? {} : { [PREPROCESS_METADATA]: order };
}

/**
 * The order of pixels that a model's metadata declares.
 *
 * @throws InputError (`format`) if it declares another preprocessing
 */
export function declaredPreprocess(value: unknown, subject: string): PixelOrder | undefined {
  const order = PIXEL_ORDERS.find((name) => name === value);
  if (value === undefined || order) return order;
  throw new InputError({
    code: "format",
    subject: `${subject}, metadata ${PREPROCESS_METADATA}`,
    found: JSON.stringify(value).slice(0, 60),
    expected: PIXEL_ORDERS.join(" or "),
    remedy: "convert the checkpoint again",
  });
}

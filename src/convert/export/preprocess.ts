/**
 * Raw pixels as a model's input: what torchvision's `ToTensor` and `Normalize` do to an image before torchreid's networks
 * see it, written into the model.
 *
 * Not folded into the stem's convolution, though it is affine: the stem pads with zeros, which stand for the mean colour
 * after normalisation and for black before it, so that a folded stem is wrong along the borders.
 */
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

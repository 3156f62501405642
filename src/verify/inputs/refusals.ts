import { InputError } from "../../core/errors.js";

/** A decoded picture: 8 bits per channel, red, green, blue, pixel after pixel, rows from the top. */
export interface Pixels {
  /** Pixels in a row. */
  readonly width: number;
  /** How many rows. */
  readonly height: number;
  /** 3 · width · height values of 0 to 255. */
  readonly data: Uint8Array;
}

/** 8000×5000: more than re-identification crops ever have, and what a camera takes. Decoding takes up to 600 MB of it. */
const MAX_PIXELS = 40_000_000;

/** The longest side of any camera's or panorama's picture; resizing goes over all rows at the network's width. */
const MAX_SIDE = 32_767;

/**
 * Called with the size that a file declares, before anything of that size is allocated.
 *
 * @throws InputError (`unsupported`) if the picture is larger than `MAX_PIXELS` or longer than `MAX_SIDE`, (`format`) if it has no pixels
 */
export function expectSize(width: number, height: number, subject: string): void {
  if (width < 1 || height < 1) throw broken(subject, `a picture of ${width}×${height} pixels`);
  if (width * height <= MAX_PIXELS && Math.max(width, height) <= MAX_SIDE) return;
  throw new InputError({
    code: "unsupported",
    subject,
    found: `a picture of ${width}×${height} pixels`,
    expected: `at most ${MAX_PIXELS / 1_000_000} million pixels, ${MAX_SIDE} to a side`,
    remedy: "make it smaller; the network sees 256×128",
  });
}

/**
 * Pixels of all images of a run: 128 images of 256×128, or one of 2048×2048. The stem's output alone, in float64, takes 128
 * bytes of memory for each, and osnet_x1_0 some 60,000 operations.
 */
const MAX_RUN_PIXELS = 2 ** 22;

/**
 * A batch and a size may come from a file, which can name any: called before images of them are made.
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

/** How many images of a size may be in a run; one at least. */
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
      remedy: "save it again from a program that opens it",
    },
    { cause },
  );
}

/** A picture of a valid kind that is not read. */
export function unsupported(subject: string, found: string, expected: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found,
    expected,
    remedy: "save it again as an RGB picture of 8 bits per channel",
  });
}

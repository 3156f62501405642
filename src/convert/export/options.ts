import type { LayerGraph } from "../../arch/graph.js";
import { InputError } from "../../core/errors.js";
import type { PixelOrder } from "./preprocess.js";
import { type Result, type ResultOptions, selectResults } from "./results.js";

/** Height and width of the images, in pixels. */
export interface ImageSize {
  /** Pixels from top to bottom; a person is higher than wide: 256. */
  readonly height: number;
  /** Pixels from left to right: 128. */
  readonly width: number;
}

/** torchreid's image size. */
export const DEFAULT_SIZE: ImageSize = { height: 256, width: 128 };

/** How a model is written, whatever the format; every field has a default. */
export interface ModelOptions extends ResultOptions {
  /** Whether batch norms are folded into the layers before them. Default true. */
  readonly fold?: boolean;
  /** Whether weights that cannot be seen stay as they are, and are not set to zero (negligible.ts). Default false. */
  readonly keepDenormals?: boolean;
  /** Images per run: a number, or `dynamic` for any. Default dynamic. */
  readonly batch?: "dynamic" | number;
  /** Size of the images, or `dynamic` for any that the network can take, which is slower. Default 256×128. */
  readonly size?: "dynamic" | ImageSize;
  /** Name of the input. Default `images`. */
  readonly inputName?: string;
}

/** Options with all defaults filled in, for one network. */
export interface ResolvedModelOptions {
  readonly fold: boolean;
  readonly keepDenormals: boolean;
  readonly batch: "dynamic" | number;
  readonly size: "dynamic" | ImageSize;
  readonly inputName: string;
  readonly results: readonly Result[];
  readonly preprocess: PixelOrder | undefined;
}

/**
 * Fills in the defaults.
 *
 * @throws InputError (`argument`) if a value cannot be used, or the network has no such output
 */
export function resolveModelOptions(graph: LayerGraph, options: ModelOptions): ResolvedModelOptions {
  const { fold = true, batch = "dynamic", size = DEFAULT_SIZE, inputName = "images", preprocess } = options;
  const { keepDenormals = false } = options;
  expectInputShape(batch, size);
  return {
    fold,
    keepDenormals,
    batch,
    size,
    inputName,
    results: selectResults(graph, options),
    preprocess,
  };
}

/** @throws InputError (`argument`) if a fixed batch or image size is not a positive whole number */
function expectInputShape(batch: "dynamic" | number, size: "dynamic" | ImageSize): void {
  if (batch !== "dynamic") expectPositive("batch", batch);
  if (size === "dynamic") return;
  expectPositive("image height", size.height);
  expectPositive("image width", size.width);
}

function expectPositive(subject: string, value: number): void {
  if (Number.isSafeInteger(value) && value > 0) return;
  throw new InputError({
    code: "argument",
    subject,
    found: String(value),
    expected: "a positive whole number",
    remedy: "correct the value",
  });
}

import type { LayerGraph } from "../../arch/index.js";
import { declaredPixels } from "../../convert/export/metadata.js";
import type { OpenFile } from "../../convert/import/open-file.js";
import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { Recording } from "../backends/recorded.js";
import { chooseImages } from "./choose-images.js";
import { defaultSize, expectAffordable, type Pixels, photographed, seededImages } from "./images.js";
import { photoTensor } from "./photos.js";

export interface ImageOptions {
  /**
   * Test images [N, 3, H, W], or decoded pictures, with what reports call them; `auto` for seeded ones of which no part of
   * the network stays untested, if that can be; a seed; or nothing for seed 0. Recordings bring their own.
   */
  readonly images?:
    | { readonly source: string; readonly tensor: Tensor<"float32"> }
    | { readonly source: string; readonly photos: readonly Pixels[] }
    | "auto"
    | { readonly seed: number };
  /** Seeded images per run. Default: what the model fixes, else 2. */
  readonly batch?: number;
  /** Size of seeded images and of pictures. Default: what the model fixes, else 256×128 (128×64 for `auto`). */
  readonly size?: { readonly height: number; readonly width: number };
}

/**
 * The images of a verification, and what reports call them.
 *
 * @param fixed batch, channels, height and width, as far as the files fix them
 * @throws InputError (`argument`) if more is chosen than can be
 */
export function imagesFor(
  graph: LayerGraph,
  candidate: OpenFile,
  reference: OpenFile,
  recording: Recording | undefined,
  fixed: readonly (number | undefined)[],
  { images, batch, size }: ImageOptions,
): { readonly images: Tensor<"float32">; readonly source: string } {
  if (recording) {
    if (images || batch || size) throw surplusChoice("a choice of images beside a recording", "a recording");
    expectFew(recording.images);
    return { images: recording.images, source: "the recording" };
  }
  if (images && images !== "auto" && "tensor" in images) {
    if (batch || size) throw surplusChoice("a batch or size beside images", "a file of images");
    expectFew(images.tensor);
    return { images: images.tensor, source: images.source };
  }
  const [fixedBatch, , height, width] = fixed;
  const count = batch ?? fixedBatch;
  if (images === "auto" && reference.kind === "checkpoint") {
    const chosen = chooseImages(graph, reference.checkpoint.stateDict, {
      ...(size ?? { height: height ?? 128, width: width ?? 64 }),
      ...(count === undefined ? {} : { batch: count }),
    });
    const remaining = chosen.vacuity.untested.length;
    const source = `auto: ${chosen.kinds.join(", ")}${remaining > 0 ? `; ${remaining} things untested` : ""}`;
    return { images: chosen.images, source };
  }
  if (images && images !== "auto" && "photos" in images) {
    const { photos, source } = images;
    if (batch) throw surplusChoice("a batch beside pictures", "a list of pictures");
    if (fixedBatch !== undefined && fixedBatch !== photos.length)
      throw new InputError({
        code: "argument",
        subject: source,
        found: `${photos.length} pictures`,
        expected: `${fixedBatch}, the batch that the model fixes`,
        remedy: "give as many, or convert the model with --batch dynamic",
      });
    const { height: high = height ?? 256, width: wide = width ?? 128 } = size ?? {};
    return { images: photoTensor(photos, high, wide), source };
  }
  const seed = images && images !== "auto" ? images.seed : 0;
  const chosen = size ?? defaultSize(graph, { height, width });
  const tensor = seededImages(seed, count ?? 2, chosen.height, chosen.width);
  const pixels =
    candidate.kind === "model" &&
    declaredPixels(candidate.model.onnx.metadata, candidate.model.name) !== undefined;
  return { images: pixels ? photographed(tensor) : tensor, source: `seed:${seed}` };
}

function expectFew({ shape: [batch = 0, , height = 0, width = 0] }: Tensor<"float32">): void {
  expectAffordable(batch, height, width);
}

function surplusChoice(found: string, source: string): InputError {
  return new InputError({
    code: "argument",
    subject: "images",
    found,
    expected: "none",
    remedy: `leave out --input, --batch and --size, since ${source} brings its own`,
  });
}

import type { LayerGraph } from "../../arch/index.js";
import { declaredPixels } from "../../convert/export/metadata.js";
import type { OpenFile } from "../../convert/open/open-file.js";
import { InputError } from "../../core/errors.js";
import { mulberry32 } from "../../core/functions.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import type { Recording } from "../backends/references.js";
import type { Vacuity } from "../outcome/report.js";
import { evaluate } from "../reference/evaluate.js";
import {
  defaultSize,
  expectAffordable,
  normalisedPixel,
  type Pixels,
  photographed,
  seededImages,
} from "./images.js";
import { photoTensor } from "./photos.js";
import { observeVacuity, type VacuityOptions } from "./vacuity.js";

export interface ImageOptions {
  /**
   * Test images [N, 3, H, W], or decoded pictures, with their name in reports; `auto` for seeded ones that leave no
   * part of the network untested, if possible; a seed; or undefined for seed 0. Recordings have their own.
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
 * The images of a verification, and their name in reports.
 *
 * @param fixed batch, channels, height and width, as far as the files fix them
 * @throws InputError (`argument`) if options choose what is already fixed
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
    if (images || batch || size) throw surplusChoice("a recording");
    expectFew(recording.images);
    expectFinite(recording.images, "the recording");
    return { images: recording.images, source: "the recording" };
  }
  if (images && images !== "auto" && "tensor" in images) {
    if (batch || size) throw surplusChoice("an .npy file");
    expectFew(images.tensor);
    expectFinite(images.tensor, images.source);
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
    const source = `auto: ${chosen.kinds.join(", ")}${remaining > 0 ? `; ${remaining} items untested` : ""}`;
    return { images: chosen.images, source };
  }
  if (images && images !== "auto" && "photos" in images) {
    const { photos, source } = images;
    if (batch) throw surplusChoice("a list of pictures");
    if (fixedBatch !== undefined && fixedBatch !== photos.length)
      throw new InputError({
        code: "argument",
        subject: source,
        found: `${photos.length} pictures`,
        expected: `${fixedBatch}, the fixed batch of the model`,
        remedy: "use that many, or convert the model with --batch dynamic",
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

/** Networks compute nothing comparable from images that are not finite. */
function expectFinite({ data }: Tensor<"float32">, source: string): void {
  const count = data.reduce((sum, value) => sum + Number(!Number.isFinite(value)), 0);
  if (count === 0) return;
  throw new InputError({
    code: "tensor",
    subject: source,
    found: `images with ${count} values that are NaN or infinite`,
    expected: "finite pixels",
    remedy: "check how the images were made",
  });
}

function surplusChoice(source: string): InputError {
  return new InputError({
    code: "argument",
    subject: "images",
    found: `${source} has its own images`,
    remedy: "omit the options that choose others",
  });
}

/**
 * Variants of a seeded image for when seeded images leave something untested, in the order of rounds. Values are
 * normalised pixels; those beyond a picture's range (about ±2.5) are valid inputs of the network too.
 */
const VARIANTS = [
  // Of one colour, on which units fire that no texture fires, in the same way at every size.
  { name: "black", change: (_value, _random, channel) => normalisedPixel(0, channel) },
  { name: "white", change: (_value, _random, channel) => normalisedPixel(1, channel) },
  { name: "grey", change: () => 0 },
  { name: "contrast ×3", change: (value) => 3 * value },
  { name: "inverted ×3", change: (value) => -3 * value },
  { name: "noise", change: (_, random) => 4 * random() - 2 },
  { name: "saturated", change: (value) => (value > 0 ? 2 : -2) },
  { name: "contrast ×10", change: (value) => 10 * value },
  { name: "inverted ×10", change: (value) => -10 * value },
  { name: "bright", change: (value) => value + 10 },
  { name: "dark", change: (value) => value - 10 },
] as const satisfies readonly {
  readonly name: string;
  readonly change: (value: number, random: () => number, channel: number) => number;
}[];

/** The maximum number of rounds, one image each; what is untested afterwards remains so. */
const MAX_ROUNDS: number = VARIANTS.length;

/** Minimum number of images: two show whether all have the same embedding. */
const MIN_IMAGES = 2;

/** How test images are chosen. */
export interface ChooseImagesOptions extends Omit<VacuityOptions, "images"> {
  /** Pixels from top to bottom of each image. */
  readonly height: number;
  /** Pixels from left to right of each image. */
  readonly width: number;
  /** Number of images, if the candidate fixes it. Default: 2, and as many more as test something. */
  readonly batch?: number;
  /** Seed of the first images. Default 0. */
  readonly seed?: number;
  /** Maximum number of rounds, from 0. Default and limit `MAX_ROUNDS`. */
  readonly rounds?: number;
}

/** Images that exercise a network, and what they leave untested. */
export interface ChosenImages {
  /** [N, 3, height, width]. */
  readonly images: Tensor<"float32">;
  /** How each image was made: `seeded`, `noise`, … */
  readonly kinds: readonly string[];
  /** What these images leave untested in the reference network. */
  readonly vacuity: Vacuity;
}

/** A candidate image, and what it leaves untested by itself. */
interface Trial {
  readonly kind: string;
  readonly image: Tensor<"float32">;
  readonly open: ReadonlySet<string>;
}

/**
 * Chooses images on which faults show: seeded ones, and one variant of a seeded one per round, until together they
 * leave nothing untested, or the rounds are over. Keeps the images that test something that earlier ones do not.
 *
 * Each is judged alone, in float64, by the reference network; what the chosen ones leave untested together is measured
 * again at the end. Some parts cannot be tested by any image: a gate with one hidden unit often never clips.
 *
 * @throws InputError (`tensor`) if the images are too small for the network
 */
export function chooseImages(
  graph: LayerGraph,
  stateDict: StateDict,
  options: ChooseImagesOptions,
): ChosenImages {
  const { height, width, batch, seed = 0, rounds = MAX_ROUNDS } = options;
  const examine = (image: Tensor<"float32">): Vacuity => {
    const observer = observeVacuity(graph, { ...options, images: image });
    for (const { name, tensor } of evaluate(graph, stateDict, image, { reuseMemory: true }))
      observer.observe(name, tensor);
    return observer.finish();
  };
  const attempt = (kind: string, image: Tensor<"float32">): Trial => {
    const open = examine(image).untested.map(({ layer, reason }) => `${layer}: ${reason}`);
    return { kind, image, open: new Set(open) };
  };
  const count = batch ?? MIN_IMAGES;
  expectAffordable(count, height, width);
  const seeded = seededImages(seed, count, height, width);
  const trials = Array.from({ length: count }, (_, index) => attempt("seeded", imageAt(seeded, index)));
  for (const [round, { name, change }] of VARIANTS.slice(0, rounds).entries()) {
    if (openIn(trials).size === 0) break;
    const image = seededImages(seed + round + 1, 1, height, width);
    const random = mulberry32(seed + round + 1);
    const changed = image.data.map((value, at) => change(value, random, Math.floor(at / (height * width))));
    trials.push(attempt(name, { ...image, data: changed }));
  }
  const chosen =
    batch === undefined ? extend(trials.slice(0, count), trials, Infinity) : extend([], trials, batch);
  const images = concatenate(chosen.map(({ image }) => image));
  return { images, kinds: chosen.map(({ kind }) => kind), vacuity: examine(images) };
}

/** Repeatedly adds the trial that answers most of the open questions, then others in order, up to `most`. */
function extend(start: readonly Trial[], trials: readonly Trial[], most: number): readonly Trial[] {
  const chosen = [...start];
  const rest = (): readonly Trial[] => trials.filter((trial) => !chosen.includes(trial));
  while (chosen.length < most) {
    const before = chosen.length === 0 ? Infinity : openIn(chosen).size;
    const [best] = rest()
      .map((trial) => ({ trial, open: openIn([...chosen, trial]).size }))
      .toSorted((a, b) => a.open - b.open);
    if (!best || best.open >= before) break;
    chosen.push(best.trial);
  }
  return Number.isFinite(most) ? [...chosen, ...rest().slice(0, most - chosen.length)] : chosen;
}

/** Questions that each of the trials leaves open. */
function openIn([first, ...others]: readonly Trial[]): ReadonlySet<string> {
  return new Set(
    [...(first?.open ?? [])].filter((question) => others.every(({ open }) => open.has(question))),
  );
}

function imageAt({ dtype, shape, data }: Tensor<"float32">, index: number): Tensor<"float32"> {
  const size = data.length / (shape[0] ?? 1);
  return { dtype, shape: [1, ...shape.slice(1)], data: data.slice(index * size, (index + 1) * size) };
}

function concatenate(images: readonly Tensor<"float32">[]): Tensor<"float32"> {
  const size = images[0]?.data.length ?? 0;
  const data = new Float32Array(images.length * size);
  for (const [index, image] of images.entries()) data.set(image.data, index * size);
  return { dtype: "float32", shape: [images.length, ...(images[0]?.shape.slice(1) ?? [])], data };
}

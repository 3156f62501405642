import { IMAGENET } from "../../convert/export/options.js";
import { filled, mulberry32 } from "../../core/functions.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import { imagesSeen, type Verification } from "../candidate/candidate.js";
import { affordableBatch } from "../inputs/images.js";
import { measure } from "../outcome/metrics.js";
import { type Fault, layerFault, type OutputResult } from "../outcome/report.js";
import { applyOperations, inBatches } from "./other-models.js";
import { driftTolerance } from "./verdicts.js";

/**
 * A file that passes without a proof also runs on images unlike the report's: noise, white and black, on which values are
 * several times as large and other units fire, in a batch of another size unless the file fixes it. Only its first output is compared, with the float64
 * reference's. This finds what is right only for the report's images: numbers that overflow on others, weights of
 * channels that are zero there, operators that depend on the number of images.
 *
 * @param output the first output, which agrees on the report's images
 * @returns undefined if the output agrees, or if there is nothing to compare: a recording, or activations that are
 * quantised for usual images
 * @throws InputError (`tensor`) if the candidate cannot run on the images
 */
export async function faultOnOtherImages(
  { candidate, reference, images, batch }: Verification,
  output: OutputResult,
): Promise<Fault | undefined> {
  const { program, located } = candidate;
  const [first] = program?.outputs ?? [];
  const readings = [...(located?.match?.readings.values() ?? [])];
  const isQuantised = readings.some(({ quantised }) => quantised !== undefined);
  if (!program || !first?.operations || reference.backend.name !== "reference" || isQuantised)
    return undefined;
  const [, , height = 1, width = 1] = images.shape;
  const others = imagesSeen(candidate, otherImages(height, width), false);
  const model = program.load({ alone: true });
  const rows = batch ?? Math.max(KINDS.length, Math.min(MANY, affordableBatch(height, width)));
  const [actual] = await inBatches(others, rows, (part) => model.run(part)).finally(() => model.release());
  const layer = await layerOf(reference.backend.run(others), first.layer);
  if (!actual || !layer) return undefined;
  const expected = applyOperations(layer, first.operations);
  const { maxAbs, relMax, mismatchedNonFinite } = measure(expected, actual);
  // Where float32 overflows in the network itself, so does PyTorch.
  if (expected.data.some((value) => !(Math.abs(value) < MAX_EMBEDDING))) return undefined;
  if (mismatchedNonFinite === 0 && relMax <= driftTolerance(output)) return undefined;
  const difference = mismatchedNonFinite > 0 ? "not finite" : `off by up to ${maxAbs.toPrecision(3)}`;
  const explanation = `the embedding of other images (noise, white, black) is ${difference}, although it agrees on the images of this report: the file computes the network for some images only`;
  return layerFault({ name: first.layer }, "numeric", null, explanation);
}

async function layerOf(
  run: AsyncIterable<{ readonly name: string; readonly tensor: RealTensor }>,
  layer: string,
): Promise<RealTensor | undefined> {
  let found: RealTensor | undefined;
  for await (const { name, tensor } of run)
    if (name === layer) found = { ...tensor, data: tensor.data.slice() } as RealTensor;
  return found;
}

/** An embedding that float32 represents, and whose layers it most likely does. */
const MAX_EMBEDDING = 1e30;

/** A batch size that no file is made for. */
const MANY = 7;

/** Pixels from 0 to 1, image by image. */
const KINDS: readonly ((random: () => number) => number)[] = [
  (random) => Math.floor(256 * random()) / 255,
  () => 1,
  () => 0,
];

/** Normalised images [3, 3, H, W] of each kind, of whole 8-bit pixels. */
function otherImages(height: number, width: number): Tensor<"float32"> {
  const random = mulberry32(1);
  const plane = height * width;
  const data = filled(new Float32Array(KINDS.length * 3 * plane), (index) => {
    const channel = Math.floor(index / plane) % 3;
    const level = KINDS[Math.floor(index / (3 * plane))]?.(random) ?? 0;
    return (level - (IMAGENET.mean[channel] ?? 0)) / (IMAGENET.deviation[channel] ?? 1);
  });
  return { dtype: "float32", shape: [KINDS.length, 3, height, width], data };
}

import { IMAGENET } from "../../convert/export/options.js";
import { filled, mulberry32 } from "../../core/functions.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import { isHalf } from "../../core/tensor-cast.js";
import type { Backend } from "../backends/backend.js";
import { referenceBackend } from "../backends/references.js";
import { imagesSeen, type Verification } from "../candidate/candidate.js";
import { affordableBatch, normalisedPixel } from "../inputs/images.js";
import { type Fault, layerFault, type OutputResult, type Party } from "../outcome/report.js";
import { roundedWeights } from "../weights/roundings.js";
import { againstReference, applyOperations, inBatches, layersOf } from "./other-models.js";
import { driftTolerance, roundingTolerance } from "./verdicts.js";

/**
 * A file that passes without a proof also runs on images unlike the report's: noise, saturated blocks, white, black, orange and another colour, on which values
 * are several times as large and other units fire, in a batch and of a size that the report's are not, unless the file fixes them. Its outputs are compared with the float64
 * reference's. This finds what is right only for the report's images: numbers that overflow on others, weights of
 * channels that are zero there, operators that depend on the number of images or their size.
 *
 * @param output the first output, which agrees on the report's images
 * @returns undefined if the output agrees, or if there is nothing to compare: a recording, or activations that are
 * quantised for usual images
 * @throws InputError (`tensor`) if the candidate cannot run on the images
 */
export async function faultOnOtherImages(
  verification: Verification,
  output: OutputResult,
): Promise<Fault | undefined> {
  const { graph, candidate, reference, parameters, images, batch, takesAnySize } = verification;
  const { program, located } = candidate;
  const readings = [...(located?.match?.readings.values() ?? [])];
  const isQuantised = readings.some(({ quantised }) => quantised !== undefined);
  if (!program || reference.backend.name !== "reference" || isQuantised) return undefined;
  const [height, width] = images.shape.slice(2).map((size) => (takesAnySize ? size + MORE : size)) as [
    number,
    number,
  ];
  const others = imagesSeen(candidate, otherImages(height, width, seedOf(candidate.party)), false);
  const model = program.load({ alone: true });
  const rows = batch ?? Math.max(KINDS.length, Math.min(MANY, affordableBatch(height, width)));
  const values = await inBatches(others, rows, (part) => model.run(part)).finally(() => model.release());
  const outputs = program.outputs.flatMap(({ layer, operations }, index) =>
    operations && values[index] ? [{ layer, operations, actual: values[index] }] : [],
  );
  const valuesOf = async (backend: Backend): Promise<readonly (RealTensor | undefined)[]> => {
    const layers = await layersOf(backend.run(others), new Set(outputs.map(({ layer }) => layer)));
    return outputs.map(({ layer, operations }) => {
      const value = layers.get(layer);
      return value && applyOperations(value, operations);
    });
  };
  const expected = await valuesOf(reference.backend);
  const { precision } = candidate;
  const rounded =
    isHalf(precision) && parameters
      ? await valuesOf(referenceBackend(graph, roundedWeights(parameters, precision)))
      : undefined;
  for (const [index, { layer: name, actual }] of outputs.entries()) {
    const [right, near] = [expected[index], rounded?.[index]];
    // Where float32 overflows in the network itself, so does PyTorch.
    if (!right || right.data.some((value) => !(Math.abs(value) < MAX_VALUE))) continue;
    const tolerance =
      near && isHalf(precision)
        ? roundingTolerance(largestShare(right, near), precision)
        : driftTolerance(output.relMax);
    const share = largestShare(right, actual);
    if (share <= tolerance) continue;
    const difference =
      share < Infinity ? `off by up to ${(100 * share).toPrecision(2)} % of its largest value` : "not finite";
    const explanation = `the output for other images (noise, coloured blocks, white, black, two colours) is ${difference}, although it agrees on the images of this report: the file computes the network for some images only`;
    return layerFault({ name }, "numeric", null, explanation);
  }
  // A reference model may be right for the report's images only, too.
  const { referenceProgram, quantized } = verification;
  const own =
    quantized && referenceProgram && program.outputs[0]?.operations
      ? (await valuesOf(quantized.original))[0]
      : values[0];
  const [fault] = await againstReference({ ...verification, images: others }, program.outputs[0], own);
  return fault;
}

/** An image with smaller values than this share of the largest in the batch counts as having that. */
const SMALL_SHARE = 1 / 16;

/** The largest difference in an image relative to its largest value; infinite if a value is not finite. */
function largestShare(expected: RealTensor, actual: RealTensor): number {
  const largest = (start: number, end: number): number => {
    let most = 0;
    for (let index = start; index < end; index++)
      most = Math.max(most, Math.abs(expected.data[index] as number));
    return most;
  };
  const least = SMALL_SHARE * largest(0, expected.data.length);
  const size = expected.data.length / (expected.shape[0] ?? 1);
  let share = 0;
  for (let start = 0; start < expected.data.length; start += size) {
    let off = 0;
    for (let index = start; index < start + size; index++)
      off = Math.max(off, Math.abs((expected.data[index] as number) - (actual.data[index] as number)));
    if (off > 0 || Number.isNaN(off))
      share = Math.max(share, off / Math.max(least, largest(start, start + size)));
  }
  return Number.isNaN(share) ? Infinity : share;
}

/** A value that float32 represents, as it most likely does those of the layers before it. */
const MAX_VALUE = 1e30;

/** How much larger the images are, in pixels: odd sizes stay odd in every stage. */
const MORE = 16;

/** A batch size that no file is made for. */
const MANY = 7;

/** A place in an image, with random numbers from 0 to 1 for all places. */
interface Place {
  readonly channel: number;
  readonly row: number;
  readonly column: number;
  readonly height: number;
  readonly noise: (channel: number, row: number, column: number) => number;
}

/** An orange: gates clip on it what they do not clip on greys. */
const ORANGE = [255, 166, 60].map((level) => level / 255);

/** Pixels from 0 to 1, image by image. */
const KINDS: readonly ((place: Place) => number)[] = [
  // Noise of all levels, different for every file.
  ({ channel, row, column, noise }) => noise(channel, row, column),
  // Saturated colours in blocks of 1 to 16 pixels: nothing reaches larger values.
  ({ channel, row, column, height, noise }) => {
    const size = 2 ** Math.floor((5 * row) / height);
    return Math.round(noise(channel, row - (row % size), column - (column % size)));
  },
  () => 1,
  () => 0,
  ({ channel }) => ORANGE[channel] ?? 0,
  // One colour, also different for every file.
  ({ channel, noise }) => noise(channel, 0, 0),
];

/** Different for every file, so that no file can be made for the images that it will run on. */
function seedOf({ sha256 = "1" }: Party): number {
  return Number.parseInt(sha256.slice(0, 8), 16);
}

/** Normalised images [6, 3, H, W], one of each kind, of whole 8-bit pixels. */
function otherImages(height: number, width: number, seed: number): Tensor<"float32"> {
  const plane = height * width;
  const random = mulberry32(seed);
  const { white } = IMAGENET;
  const numbers = filled(new Float32Array(3 * plane), random);
  const noise: Place["noise"] = (channel, row, column) =>
    numbers[channel * plane + row * width + column] ?? 0;
  const data = filled(new Float32Array(KINDS.length * 3 * plane), (index) => {
    const channel = Math.floor(index / plane) % 3;
    const [row, column] = [Math.floor((index % plane) / width), index % width];
    const level = KINDS[Math.floor(index / (3 * plane))]?.({ channel, row, column, height, noise }) ?? 0;
    return normalisedPixel(Math.round(white * level) / white, channel);
  });
  return { dtype: "float32", shape: [KINDS.length, 3, height, width], data };
}

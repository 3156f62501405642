import type { LayerGraph } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/preprocess.js";
import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { Backend, LoadedModel } from "../backends/backend.js";
import { pixelsOf } from "../inputs/images.js";
import type { Candidate } from "./candidate.js";

/** How a model is fed, where it says so or its user does. */
interface Feed {
  /** The order of raw pixels that a model declares to take, and normalises itself. */
  readonly declared?: PixelOrder | undefined;
  /** The order in which its user feeds it. */
  readonly order?: PixelOrder | undefined;
}

/**
 * A model that normalises images itself is given the raw pixels of the images that the reference is given
 * normalised, and what it makes of them is a layer to compare, the network's input.
 */
export function feedPixels(candidate: Candidate, { declared, order = declared }: Feed): Candidate {
  if (declared === undefined || order === undefined) return candidate;
  return { ...fedWith(candidate, (images) => pixelsOf(images, order)), pixels: order };
}

/** A candidate that is given something made of the images. */
export function fedWith(
  candidate: Candidate,
  feed: (images: Tensor<"float32">) => Tensor<"float32">,
): Candidate {
  const { backend, program } = candidate;
  return {
    ...candidate,
    backend: { ...backend, run: (images) => backend.run(feed(images)) },
    ...(program
      ? {
          program: {
            ...program,
            load: (options) => fedModel(program.load(options), feed),
          },
        }
      : {}),
  };
}

function fedModel(
  { run, release }: LoadedModel,
  feed: (images: Tensor<"float32">) => Tensor<"float32">,
): LoadedModel {
  return { run: (images) => run(feed(images)), release };
}

/** A recording holds its images apart from its layers; here they are the first of these. */
export function withImages(backend: Backend, graph: LayerGraph): Backend {
  const input = graph.nodes.find(({ op }) => op.kind === "input")?.name;
  if (input === undefined || backend.layers.includes(input)) return backend;
  return {
    ...backend,
    layers: [input, ...backend.layers],
    async *run(images: Tensor<"float32">) {
      yield { name: input, tensor: images };
      yield* backend.run(images);
    },
  };
}

/** How far images may be from those that a file can be given before they are others. */
const SAME_IMAGE = 1e-5;

/** The images that the candidate's network reads; its preprocessing may take whole numbers only. */
export function imagesSeen(
  { preprocess, party }: Candidate,
  images: Tensor<"float32">,
  isRecorded: boolean,
): Tensor<"float32"> {
  const nearest = preprocess?.nearest(images) ?? images;
  const isOther = nearest.data.some(
    (value, index) => Math.abs(value - (images.data[index] ?? 0)) > SAME_IMAGE,
  );
  if (isRecorded && isOther)
    throw new InputError({
      code: "argument",
      subject: party.name,
      found: "a model that takes whole-number pixels, beside a recording of images that have none",
      expected: "a reference that can be run on other images",
      remedy: "give the checkpoint as the reference",
    });
  return nearest;
}

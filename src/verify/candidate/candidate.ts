import { type LayerGraph, variantOf } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/options.js";
import { type Document, type OpenFile, tfjsFiles, weightFiles } from "../../convert/open/open-file.js";
import { concatenate, type NamedBytes, sha256, toBytes, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import type { Backend, LoadedModel, LoadOptions } from "../backends/backend.js";
import type { Recording } from "../backends/recorded.js";
import { referenceBackend } from "../backends/reference.js";
import type { Fault, Party } from "../outcome/report.js";
import { type Located, locatedInCheckpoint } from "../weights/located.js";
import type { ModelOutput } from "./outputs.js";

/** One side of a comparison, ready to run. */
export interface Side {
  /** The file's description in the report. */
  readonly party: Party;
  /** Computes the values of its layers. */
  readonly backend: Backend;
}

/** The side under test. */
export interface Candidate extends Side {
  /** The layers of the model's results: everything that they are computed from must be present. */
  readonly results: readonly string[];
  /** Layers that the candidate computes only as part of the next one, because of a folded batch norm. */
  readonly folded: ReadonlySet<string>;
  /** The location of its layers, if it has constants to compare. */
  readonly located?: Located;
  /** For a model that takes raw pixels and normalises them itself: their channel order. */
  readonly pixels?: PixelOrder;
  /** For a model that preprocesses its input itself, and is given the input that becomes the images. */
  readonly preprocess?: {
    readonly description: string;
    /** Whether it changes values, not only the order of axes or the type. */
    readonly normalises: boolean;
    /** The nearest images that the model can be given: different ones only if it takes integers. */
    readonly nearest: (images: Tensor<"float32">) => Tensor<"float32">;
  };
  /** Differences between the candidate's graph and the network, if its layers were found by structure. */
  readonly structure?: readonly Fault[];
  /**
   * The same for a file whose layers were found by name. Its values describe a fault better, so these count only if all
   * values are right: a difference may be beyond what the images reach, such as a limit of 100.
   */
  readonly departures?: readonly Fault[];
  /** The file's document, for the proof; for a file with operators. */
  readonly document?: Document;
  /** The type of its weights and values; default: that of its outputs. */
  readonly precision?: FloatDType;
  /** Whether its runtime rewrites graphs, which can be turned off. */
  readonly optimises?: boolean;
  /** Whether batch norms may have been folded in that precision too, instead of a wider one. */
  readonly foldsNarrow?: boolean;
  /** What a program receives from the model, in this order; absent if there is nothing to run. */
  readonly program?: Program;
}

/** Whether a candidate computes the network's images itself, so that they are compared as a layer. */
export function makesImages({ pixels, preprocess }: Pick<Candidate, "pixels" | "preprocess">): boolean {
  return pixels !== undefined || preprocess?.normalises === true;
}

/** The unmodified model, without intermediate values as outputs. */
export interface Program {
  /** The judged outputs; the embedding first. */
  readonly outputs: readonly ModelOutput[];
  /** Names of the outputs that are not judged because another was chosen. */
  readonly notJudged: readonly string[];
  /** A run returns the judged outputs in their order. */
  readonly load: (options?: LoadOptions) => LoadedModel;
  /** Whether intermediate values are read from a copy, loaded by `copy`, and not from the file itself. */
  readonly isCopied?: boolean;
}

/** A recording as a candidate: the tensors that it has are compared. */
export function recordedCandidate({ backend }: Pick<Recording, "backend">, party: Party): Candidate {
  return { party, backend, results: backend.layers, folded: new Set() };
}

/** The precision of a network most of whose weights are float16 or bfloat16: its values are rounded to that too. */
export function halfPrecision(tensors: Iterable<Tensor>): Pick<Candidate, "precision"> {
  const weights = [...tensors].filter(({ shape }) => shape.length > 1);
  const precision = (["float16", "bfloat16"] as const).find(
    (narrow) => 2 * weights.filter(({ dtype }) => dtype === narrow).length > weights.length,
  );
  return precision ? { precision } : {};
}

/** A checkpoint as a candidate, run in float64: for comparing a recording with its weights. */
export function checkpointCandidate(graph: LayerGraph, stateDict: StateDict, party: Party): Candidate {
  const { features, evaluation } = graph.outputs;
  const results = [features, graph.outputs[evaluation] ?? features];
  return {
    party,
    ...halfPrecision(stateDict.values()),
    backend: referenceBackend(graph, stateDict),
    results,
    folded: new Set(),
    located: locatedInCheckpoint(graph, stateDict),
  };
}

/** A recording has its images apart from its layers; here they are the first layer. */
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

/** How far images may be from those that a file can be given before they count as different. */
const SAME_IMAGE = 1e-5;

/** The images that the candidate's network reads, rounded if its preprocessing takes integers only. */
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
      found: "a model that takes integer pixels, and a recording of images that are not integer pixels",
      expected: "a reference that can be run on other images",
      remedy: "use the checkpoint as the reference",
    });
  return nearest;
}

/** The description of a file in reports. */
export async function describe(file: NamedBytes, opened: OpenFile, graph: LayerGraph): Promise<Party> {
  const variant = variantOf(graph.spec);
  return {
    name: file.name,
    format: opened.format,
    ...(variant ? { variant } : {}),
    sha256: await digestOf(file, opened),
  };
}

/**
 * The SHA-256 of a file; for a TensorFlow.js model of all its files, concatenated; for an ONNX file with external data,
 * which may be large, of the SHA-256s of all of them in hexadecimal digits.
 */
async function digestOf(file: NamedBytes, opened: OpenFile): Promise<string> {
  // What was lifted before it came here is the same files.
  const lifted = opened.format === "tfjs" ? tfjsFiles(file).shards : new Map<string, Uint8Array>();
  const weights = [...(opened.kind === "model" ? weightFiles(opened.model, file) : lifted).values()];
  const files = [file.bytes, ...weights.flatMap((bytes) => bytes ?? [])];
  if (opened.format === "tfjs") return sha256(concatenate(files.map(toBytes)));
  const digests = await Promise.all(files.map((bytes) => toSource(bytes).sha256()));
  const [only = ""] = digests;
  return digests.length === 1 ? only : sha256(new TextEncoder().encode(digests.join("")));
}

import { type LayerGraph, type LayerNode, outputShapes, variantOf } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/options.js";
import { isMostlyHalf } from "../../convert/import/operators/constants.js";
import { type Document, type OpenFile, tfjsFiles, weightFiles } from "../../convert/open/open-file.js";
import { concatenate, type NamedBytes, sha256, toBytes, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { elementCount, type Shape, type StateDict, type Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import type { Backend, LoadedModel, LoadOptions, Segment } from "../backends/backend.js";
import type { startThread } from "../backends/node-packages.js";
import { type Recording, referenceBackend } from "../backends/references.js";
import { layerGroups, mistakable, neededBy } from "../bounds/recompute.js";
import type {
  FaultDraft,
  Party,
  QuantizationResult,
  RelativeTolerance,
  Tolerance,
} from "../outcome/report.js";
import type { WeightsComparison } from "../weights/compare-weights.js";
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
  };
  /** The input of a model that takes integers or float16, and the nearest images that it can be given. */
  readonly input?: {
    readonly isInteger: boolean;
    readonly nearest: (images: Tensor<"float32">) => Tensor<"float32">;
  };
  /** Differences between the candidate's graph and the network, if its layers were found by structure. */
  readonly structure?: readonly FaultDraft[];
  /**
   * The same for a file whose layers were found by name. Its values describe a fault better, so these count only if all
   * values are right: a difference may be beyond what the images reach, such as a limit of 100.
   */
  readonly deviations?: readonly FaultDraft[];
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

/**
 * The precision of a network most of whose weights, by elements, are float16 or bfloat16: its values are rounded to that too.
 *
 * @param ofHalf weights of a wider type that are multiplied with float16
 */
export function halfPrecision(
  weights: readonly Tensor[],
  ofHalf?: ReadonlySet<Tensor>,
): Pick<Candidate, "precision"> {
  const isHalf = (narrow: FloatDType): boolean =>
    isMostlyHalf(weights, narrow, narrow === "float16" ? ofHalf : undefined);
  const precision = (["float16", "bfloat16"] as const).find(isHalf);
  return precision ? { precision } : {};
}

/**
 * A checkpoint as a candidate, run in float64.
 *
 * @param reference the checkpoint that it is compared with, if not a recording
 */
export function checkpointCandidate(
  graph: LayerGraph,
  stateDict: StateDict,
  party: Party,
  reference?: StateDict,
): Candidate {
  const located = locatedInCheckpoint(graph, stateDict, reference);
  const { features, evaluation } = graph.outputs;
  const results = [features, graph.outputs[evaluation] ?? features];
  return {
    party,
    ...halfPrecision([...stateDict.values()]),
    backend: withoutLayers(referenceBackend(graph, stateDict), located.folded),
    results,
    folded: located.folded,
    ...(located.folded.size > 0 ? { foldsNarrow: true } : {}),
    located,
  };
}

/** Leaves out layers that are compared only as part of the next one. */
function withoutLayers(backend: Backend, folded: ReadonlySet<string>): Backend {
  if (folded.size === 0) return backend;
  return {
    ...backend,
    layers: backend.layers.filter((name) => !folded.has(name)),
    async *run(images: Tensor<"float32">) {
      for await (const layer of backend.run(images)) if (!folded.has(layer.name)) yield layer;
    },
  };
}

/** Adds a recording's images as the first layer, since it has them separately. */
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

/** Largest difference between images that count as the same. */
const SAME_IMAGE = 1e-5;

/** The images that the candidate's network reads, rounded if its input is not float32. */
export function imagesSeen(
  { input, party }: Candidate,
  images: Tensor<"float32">,
  isRecorded: boolean,
): Tensor<"float32"> {
  // A recording of half precision has rounded everything else too.
  if (!input || (isRecorded && !input.isInteger)) return images;
  const nearest = input.nearest(images);
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
  // A checkpoint imported from a model has the model's files.
  const lifted = opened.format === "tfjs" ? tfjsFiles(file).shards : new Map<string, Uint8Array>();
  const weights = [...(opened.kind === "model" ? weightFiles(opened.model, file) : lifted).values()];
  const files = [file.bytes, ...weights.flatMap((bytes) => bytes ?? [])];
  if (opened.format === "tfjs") return sha256(concatenate(files.map(toBytes)));
  const digests = await Promise.all(files.map((bytes) => toSource(bytes).sha256()));
  const [only = ""] = digests;
  return digests.length === 1 ? only : sha256(new TextEncoder().encode(digests.join("")));
}

/** The default tolerance if there is no checkpoint to recompute layers from. */
export const DEFAULT_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 1e-4 };

/**
 * The same for a model in float16, whose rounding adds up from layer to layer. A checkpoint's does not: it is run in float64,
 * whatever its weights are stored in.
 */
const FLOAT16_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 2 ** -5 };

/** The tolerance of a verification that states none. */
export function usualTolerance({ candidate, parameters }: Verification): Tolerance {
  if (parameters) return DERIVED_BOUNDS;
  return candidate.program && candidate.precision === "float16" ? FLOAT16_TOLERANCE : DEFAULT_TOLERANCE;
}

/** `--tolerance auto`. */
export const DERIVED_BOUNDS: Tolerance = { rule: "derived-bounds" };

/** Classes of a model pickled whole whose code is not in the file, and may compute something else. */
export interface UnreadCode {
  /** The side that is the model. */
  readonly side: "candidate" | "reference";
  /** Their names, with their modules'. */
  readonly classes: readonly string[];
}

/** Two sides, the images that both run on, and what is known about them beforehand. */
export interface Verification {
  /** The expected network of both sides, with batch norms unfolded. */
  readonly graph: LayerGraph;
  /** The side under test. */
  readonly candidate: Candidate;
  /** The side that it is compared with. */
  readonly reference: Side;
  /** [N, 3, height, width] float32, RGB, normalised as torchreid does. */
  readonly images: Tensor<"float32">;
  /** The candidate's batch size, if fixed. */
  readonly batch?: number;
  /** Whether the candidate is a model for images of any size, and so is the reference if it is a model. */
  readonly takesAnySize?: boolean;
  /** For a model as the reference: its outputs as a program receives them. */
  readonly referenceProgram?: Program;
  /** Its batch size, if fixed. */
  readonly referenceBatch?: number;
  /** The precision in which it computes, if less than float32. */
  readonly referencePrecision?: FloatDType;
  /**
   * For a model made from another one: the source, its batch size, if fixed, and whether it computes in half precision.
   */
  readonly source?: { readonly program: Program; readonly batch?: number; readonly isHalf?: boolean };
  /** The source of the images, for the report: `seed:0`, a file, `recorded`. */
  readonly imagesSource: string;
  /** Default: derived bounds if `parameters` are given, else `DEFAULT_TOLERANCE`, or more for a model in float16. */
  readonly tolerance?: Tolerance;
  /** The checkpoint, used to recompute layers for derived bounds. */
  readonly parameters?: StateDict;
  /**
   * The checkpoint as it is, if it was imported from a model: `parameters` have the candidate's factors where the
   * products are the same.
   */
  readonly imported?: StateDict;
  /** The weights of a candidate that is compared with a recording; undefined if they cannot be imported. */
  readonly ownParameters?: () => StateDict | undefined;
  /** Of the sides that are models pickled whole. */
  readonly unread?: readonly UnreadCode[];
  /** The comparison of parameters, made beforehand. */
  readonly weights?: WeightsComparison;
  /** For a candidate with quantised weights, which the reference uses too: the network with the original ones. */
  readonly quantized?: {
    readonly summary: Pick<QuantizationResult, "dtypes" | "tensors">;
    readonly original: Backend;
  };
  /**
   * Number of threads, 1 to 4, including this one; the report does not depend on it. Default: the number of processors,
   * and 1 for small networks, in browsers, and against a recording.
   */
  readonly jobs?: number;
  /** Its other threads, if they have been started already; `verify` ends them. */
  readonly threads?: readonly ReturnType<typeof startThread>[];
  /** Called after each layer. */
  readonly onProgress?: (compared: number, total: number) => void;
}

/**
 * Elements of a segment, if no stream has more: 20 MiB of float32. Each segment is another run of the candidate, so
 * there should be few; osnet_x1_0 folded has eleven for two images of 256×128.
 */
const SEGMENT_ELEMENTS = 5 * 2 ** 20;

/**
 * The same for backends that continue from the segments before: 8 MiB, so that the runtime needs less memory at a
 * time.
 */
export const PART_ELEMENTS: number = 2 * 2 ** 20;

/**
 * The same for runtimes that compute every value as the file says, whatever else is output: 64 MiB, all values of osnet_x0_25. Fewer runs
 * take less time, and repeat nothing.
 */
export const RUN_ELEMENTS: number = 16 * 2 ** 20;

/**
 * Cuts the layers with values into segments: a run that outputs one of them needs no memory for the others. Everything
 * that a layer is judged by must come from one run, since another may use other kernels and round differently: so a
 * segment has whole streams, and repeats what it reads from other segments.
 *
 * @param shown names of layers
 * @param images [N, 3, H, W]
 * @throws InputError (`tensor`) if the images are too small for the network
 */
export function segmentsOf(
  graph: LayerGraph,
  shown: readonly string[],
  images: Shape,
  elements: number = SEGMENT_ELEMENTS,
): readonly Segment[] {
  const shapes = outputShapes(graph, images);
  const sizeOf = (layers: readonly string[]): number =>
    layers.reduce((sum, name) => sum + elementCount(shapes.get(name) ?? []), 0);
  let segments: readonly (readonly string[])[] = [];
  for (const part of partsOf(graph, new Set(shown))) {
    const last = segments.at(-1) ?? [];
    const fits = sizeOf(last) + sizeOf(part) <= elements;
    segments = fits ? [...segments.slice(0, -1), [...last, ...part]] : [...segments, part];
  }
  const read = readersOf(graph, new Set(shown));
  return segments.map((layers) => {
    const own = new Set(layers);
    const wanted = new Set(layers.flatMap(read));
    return { layers, others: shown.filter((name) => wanted.has(name) && !own.has(name)) };
  });
}

/** The layers of each stream together, those outside of streams one by one. */
function partsOf(graph: LayerGraph, shown: ReadonlySet<string>): readonly (readonly string[])[] {
  const parts: { readonly first: LayerNode; readonly layers: string[] }[] = [];
  for (const node of graph.nodes) {
    if (!shown.has(node.name)) continue;
    const last = parts.at(-1);
    const isSame = last?.first.block === node.block && last?.first.stream === node.stream;
    if (last && isSame && node.stream !== undefined) last.layers.push(node.name);
    else parts.push({ first: node, layers: [node.name] });
  }
  return parts.map(({ layers }) => layers);
}

/**
 * The values that a layer is judged by: the inputs of its group, and in a stream the ends and gates of its block's
 * streams.
 */
function readersOf(graph: LayerGraph, shown: ReadonlySet<string>): (layer: string) => readonly string[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const groups = new Map(layerGroups(graph, shown).map((group) => [group.layer.name, group]));
  const ends = mistakable(graph).flatMap((name) => nodes.get(name) ?? []);
  const inStreams = ends.filter(({ stream }) => stream !== undefined);
  return (layer) => {
    const group = groups.get(layer);
    const { block, stream } = nodes.get(layer) ?? {};
    const others = stream === undefined ? [] : inStreams.filter((end) => end.block === block);
    return [...(group ? neededBy(group, groups) : []), ...others.map(({ name }) => name)];
  };
}

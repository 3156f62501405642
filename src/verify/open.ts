import { type Dialect, expand, type LayerGraph, type OsnetSpec, variantOf } from "../arch/index.js";
import { type Checkpoint, openCheckpoint } from "../convert/checkpoint.js";
import { isWeightsArchive } from "../convert/decode-weights.js";
import { type NpzArchive, openNpz } from "../convert/formats/npz/archive.js";
import type { SidecarReader } from "../convert/formats/onnx/index.js";
import { type FileFormat, sniffFormat } from "../convert/sniff.js";
import { InputError } from "../errors.js";
import { sha256 } from "../sha256.js";
import type { Tensor } from "../tensor.js";
import type { TfjsBackendName } from "./backend.js";
import { openRecording, type Recording } from "./backends/recorded.js";
import { referenceBackend } from "./backends/reference.js";
import { checkpointCandidate, recordedCandidate } from "./candidate.js";
import { chooseImages } from "./choose-images.js";
import { defaultSize, photographed, seededImages } from "./images.js";
import { type ModelFile, openModel } from "./models.js";
import { feedPixels, withImages } from "./pixels.js";
import { photoTensor } from "./preprocess/photos.js";
import type { Pixels } from "./preprocess/pixels.js";
import type { Party } from "./report.js";
import type { Candidate, Side, Verification } from "./verify.js";

/** A file's bytes under the name that reports and messages give it. */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The weight files beside a model.json, by their paths in it. */
  readonly shards?: ReadonlyMap<string, Uint8Array>;
  /** Reads the files beside an ONNX file that hold its weights. */
  readonly sidecar?: SidecarReader;
  /** What the bytes hold, if they are a checkpoint that is open already. */
  readonly checkpoint?: Checkpoint;
}

export interface OpenOptions {
  /** The architecture of a checkpoint whose names and shapes do not tell it: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
  /** Path of the state dict inside a checkpoint. */
  readonly key?: string;
  /**
   * Test images [N, 3, H, W], or decoded pictures, with what reports call them; `auto` for seeded ones of which no part of
   * the network stays untested, if that can be; a seed; or nothing for seed 0. Recordings bring their own.
   */
  readonly images?:
    | { readonly source: string; readonly tensor: Tensor<"float32"> }
    | { readonly source: string; readonly photos: readonly Pixels[] }
    | "auto"
    | { readonly seed: number };
  /** What runs a TensorFlow.js model. Default: tfjs-wasm. */
  readonly backend?: TfjsBackendName;
  /** Seeded images per run. Default: what the model fixes, else 2. */
  readonly batch?: number;
  /** Size of seeded images and of pictures. Default: what the model fixes, else 256×128 (128×64 for `auto`). */
  readonly size?: { readonly height: number; readonly width: number };
}

type OpenFile =
  | { readonly kind: "model"; readonly format: FileFormat; readonly model: ModelFile }
  | { readonly kind: "checkpoint"; readonly format: FileFormat; readonly checkpoint: Checkpoint }
  | { readonly kind: "recording"; readonly format: FileFormat; readonly archive: NpzArchive };

/**
 * Opens both sides of a verification, whatever they are: the candidate an ONNX file, a recording or a checkpoint (run
 * in float64); the reference a checkpoint or a recording.
 *
 * The architecture is the checkpoint's, where there is one: what a candidate says of itself is not believed. Without a
 * checkpoint it is the one that the ONNX file states, and the recording then judges it.
 *
 * @throws InputError if a file cannot be used, or the two do not go together
 */
export async function openVerification(
  candidate: NamedBytes,
  reference: NamedBytes,
  options: OpenOptions = {},
): Promise<Verification> {
  const candidateFile = openFile(candidate, options);
  const referenceFile = openFile(reference, options);
  if (referenceFile.kind === "model")
    throw new InputError({
      code: "argument",
      subject: reference.name,
      found: `${referenceFile.format === "onnx" ? "an ONNX file" : "a TensorFlow.js model"} as the reference`,
      expected: "a checkpoint or a recording",
      remedy: "give what the model was converted from",
    });
  const graph = architectureOf(candidate, candidateFile, referenceFile);
  const recordings = [[reference, referenceFile] as const, [candidate, candidateFile] as const].flatMap(
    ([{ name }, file]) => (file.kind === "recording" ? [openRecording(file.archive, graph, name)] : []),
  );
  const { images, source } = imagesFor(graph, candidateFile, referenceFile, recordings[0], options);
  const side = await openCandidate(candidate, candidateFile, graph, recordings.at(-1));
  const against = await openReference(reference, referenceFile, graph, recordings[0]);
  return {
    graph,
    candidate: side,
    reference: side.pixels ? { ...against, backend: withImages(against.backend, graph) } : against,
    images: imagesSeen(side, images, recordings.length > 0),
    imagesSource: side.preprocess
      ? `${source}, through the file's own preprocessing (${side.preprocess.description})`
      : source,
    ...(referenceFile.kind === "checkpoint" ? { parameters: referenceFile.checkpoint.stateDict } : {}),
    ...(candidateFile.kind === "model" && referenceFile.kind === "checkpoint"
      ? compareCheckpoint(candidateFile.model, referenceFile.checkpoint, graph, side, against)
      : {}),
  };
}

/**
 * What a checkpoint tells of a model besides its activations: whether the constants are its own. If they are stored in
 * fewer bits, the reference is the network of the weights that are left, which the model is to compute as exactly as any;
 * what they have lost is told apart.
 */
function compareCheckpoint(
  model: ModelFile,
  { stateDict }: Checkpoint,
  graph: LayerGraph,
  candidate: Candidate,
  reference: Side,
): Partial<Verification> {
  const weights = model.compareWeights(graph, stateDict, candidate);
  const { quantized } = model;
  if (!quantized) return { weights };
  const { summary } = quantized;
  const stored = quantized.stateDict(graph, stateDict, candidate);
  return {
    weights,
    parameters: stored,
    reference: { ...reference, backend: referenceBackend(graph, stored) },
    quantized: { summary, original: reference.backend },
  };
}

/** How far images may be from those that a file can be given before they are others. */
const SAME_IMAGE = 1e-5;

/** The images that the candidate's network reads; its preprocessing may take whole numbers only. */
function imagesSeen(
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

function openFile(file: NamedBytes, options: OpenOptions): OpenFile {
  const { name, bytes, checkpoint } = file;
  if (checkpoint) return { kind: "checkpoint", format: checkpoint.decoded.format, checkpoint };
  const format = sniffFormat(bytes);
  if (format === "onnx" || format === "tfjs")
    return { kind: "model", format, model: openModel(format, file, options.backend) };
  if (format === "npz") {
    const archive = openNpz(bytes, name);
    if (!isWeightsArchive(archive.names)) return { kind: "recording", format, archive };
  }
  const { arch, key } = options;
  const opened = openCheckpoint(bytes, {
    subject: name,
    format,
    ...(arch === undefined ? {} : { arch }),
    ...(key === undefined ? {} : { key }),
  });
  return { kind: "checkpoint", format, checkpoint: opened };
}

function architectureOf(candidate: NamedBytes, candidateFile: OpenFile, referenceFile: OpenFile): LayerGraph {
  const stated = candidateFile.kind === "model" ? candidateFile.model.statedSpec() : undefined;
  const checkpoint = [referenceFile, candidateFile].find((file) => file.kind === "checkpoint")?.checkpoint;
  if (checkpoint) {
    if (stated) expectSameSpec(stated, checkpoint.spec, candidate.name);
    return checkpoint.graph;
  }
  if (stated) return expand(stated);
  if (candidateFile.kind === "model" && candidateFile.model.shownGraph)
    return candidateFile.model.shownGraph(recordedDialect(referenceFile));
  throw new InputError({
    code: "argument",
    subject: candidate.name,
    found: "two recordings",
    expected: "a model on at least one side",
    remedy: "give an ONNX file or a checkpoint",
  });
}

/** How a recording names modules: `conv2.0.conv2.1.layers` and `pool2`, or `conv2.0.conv2b` and `conv2.2`. */
function recordedDialect(file: OpenFile): Dialect | undefined {
  if (file.kind !== "recording") return undefined;
  const isAin = file.archive.names.some((name) => /^(conv\d+\.\d+\.conv2\.\d+|pool\d+)(\.|$)/.test(name));
  return isAin ? "osnet_ain" : "osnet";
}

/** Names the first choices in which a candidate's own description departs from the checkpoint's. */
function expectSameSpec(stated: OsnetSpec, identified: OsnetSpec, subject: string): void {
  // Weights lifted from a model of embeddings have lost their classifier, which no embedding depends on.
  const heads = [stated.head, identified.head];
  const withoutHead = heads.includes(null) && heads.every((head) => head?.loss !== "sigmoid");
  const keys = (Object.keys(identified) as (keyof OsnetSpec)[]).filter(
    (key) =>
      JSON.stringify(stated[key]) !== JSON.stringify(identified[key]) && !(key === "head" && withoutHead),
  );
  if (keys.length === 0) return;
  const show = (spec: OsnetSpec): string =>
    keys.map((key) => `${key} ${key === "stages" ? "of its own" : JSON.stringify(spec[key])}`).join(", ");
  throw new InputError({
    code: "spec",
    subject,
    found: `a network that states ${show(stated)}`,
    expected: `the reference's ${show(identified)}`,
    remedy: "if the reference was trained so, which a state dict cannot show, say so with --arch",
  });
}

function imagesFor(
  graph: LayerGraph,
  candidate: OpenFile,
  reference: OpenFile,
  recording: Recording | undefined,
  { images, batch, size }: OpenOptions,
): { readonly images: Tensor<"float32">; readonly source: string } {
  if (recording) {
    if (images || batch || size) throw surplusChoice("a choice of images beside a recording", "a recording");
    return { images: recording.images, source: "the recording" };
  }
  if (images && images !== "auto" && "tensor" in images) {
    if (batch || size) throw surplusChoice("a batch or size beside images", "a file of images");
    return { images: images.tensor, source: images.source };
  }
  const [fixedBatch, , height, width] = candidate.kind === "model" ? candidate.model.inputShape : [];
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
  const pixels = candidate.kind === "model" && candidate.model.preprocess !== undefined;
  return { images: pixels ? photographed(tensor) : tensor, source: `seed:${seed}` };
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

async function openCandidate(
  candidate: NamedBytes,
  file: OpenFile,
  graph: LayerGraph,
  recording: Recording | undefined,
): Promise<Candidate> {
  const party = await describe(candidate, file.format, graph);
  if (file.kind === "model") return feedPixels(file.model.candidate(graph, party), file.model.preprocess);
  if (file.kind === "checkpoint") return checkpointCandidate(graph, file.checkpoint.stateDict, party);
  if (!recording) throw new Error("a recording was not opened");
  return recordedCandidate(recording, party);
}

async function openReference(
  reference: NamedBytes,
  file: OpenFile,
  graph: LayerGraph,
  recording: Recording | undefined,
): Promise<Side> {
  const party = await describe(reference, file.format, graph);
  if (file.kind === "checkpoint")
    return { party, backend: referenceBackend(graph, file.checkpoint.stateDict) };
  if (!recording) throw new Error("a recording was not opened");
  return { party, backend: recording.backend };
}

async function describe(
  { name, bytes, shards }: NamedBytes,
  format: FileFormat,
  graph: LayerGraph,
): Promise<Party> {
  const variant = variantOf(graph.spec);
  return {
    name,
    format,
    ...(variant ? { variant } : {}),
    sha256: await sha256(concatenate([bytes, ...(shards?.values() ?? [])])),
  };
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only) return only;
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

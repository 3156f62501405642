import type { LayerGraph, OsnetSpec } from "../arch/index.js";
import { isModelFormat } from "../convert/formats/registry.js";
import type { Checkpoint } from "../convert/open/checkpoint.js";
import {
  type FileOptions,
  fixedShape,
  type OpenFile,
  openFile,
  type SourceFile,
} from "../convert/open/open-file.js";
import { InputError } from "../core/errors.js";
import { formatShape, type Shape, type StateDict } from "../core/tensor.js";
import { isHalf } from "../core/tensor-cast.js";
import { architectureOf } from "./architecture.js";
import type { BackendName } from "./backends/backend.js";
import { openRecording, type Recording, referenceBackend } from "./backends/references.js";
import { runtimesFor } from "./backends/registry.js";
import {
  type Candidate,
  checkpointCandidate,
  describe,
  imagesSeen,
  makesImages,
  recordedCandidate,
  type Side,
  type Verification,
  withImages,
} from "./candidate/candidate.js";
import { type InterfaceOptions, modelCandidate } from "./candidate/model-candidate.js";
import { type ImageOptions, imagesFor } from "./inputs/choose-images.js";
import { beginThreads, endThreads } from "./judge/threads.js";
import { expectSound, liftedFile, withFactors } from "./open-model-reference.js";
import type { Party } from "./outcome/report.js";
import { compareWeights, type WeightsComparison } from "./weights/compare-weights.js";
import {
  hasShifts,
  isImported,
  locatedInCheckpoint,
  quantizedWeights,
  storedStateDict,
} from "./weights/located.js";

/** How both sides of a verification are opened: files, images, and which input and output count. */
export interface OpenOptions extends FileOptions, ImageOptions, InterfaceOptions {
  /** The runtime for the candidate, if it runs its format. Default: the first. */
  readonly backend?: BackendName;
  /**
   * The model that the candidate was converted from. Each output is compared with the one of the same meaning.
   */
  readonly source?: SourceFile;
  /**
   * Bytes of the reference's values that may be kept, for other verifications of the same checkpoint on the same images. Default: 48 MiB.
   */
  readonly keptBytes?: number;
  /** As in `Verification`. */
  readonly jobs?: number;
  /** Whether the threads of the verification start at once, so that they are ready when all is open. Default: they start with `verify`, which ends them. */
  readonly startsThreads?: boolean;
}

/**
 * Opens both sides of a verification: as the candidate an ONNX file, a TensorFlow.js model, a recording or a checkpoint
 * (run in float64); as the reference a checkpoint, a recording, or a model, whose weights are imported and whose
 * outputs are compared too.
 *
 * The architecture is the checkpoint's, if there is one, since a candidate's own description is not trusted. Without a
 * checkpoint it is the one in the ONNX file's metadata, which the recording then judges.
 *
 * @throws InputError if a file cannot be used, or the two do not match
 */
export async function openVerification(
  candidate: SourceFile,
  reference: SourceFile,
  options: OpenOptions = {},
): Promise<Verification> {
  let threads: Verification["threads"];
  const begin: typeof beginThreads = async (verification) => {
    threads = await beginThreads(verification);
    return threads;
  };
  try {
    return await openSides(candidate, reference, options, begin);
  } catch (error) {
    await endThreads(threads);
    throw error;
  }
}

async function openSides(
  candidate: SourceFile,
  reference: SourceFile,
  options: OpenOptions,
  begin: typeof beginThreads,
): Promise<Verification> {
  const candidateFile = openFile(candidate, options);
  const given = openFile(reference, options);
  const lifted = liftedFile(given, options);
  const isLifted =
    given.kind === "model" ||
    (given.kind === "checkpoint" && isImported(given.checkpoint.graph, given.checkpoint.stateDict));
  const comparable = isLifted ? withFactorsOf(candidateFile, lifted) : lifted;
  const graph = architectureOf(
    { name: candidate.name, file: candidateFile },
    { name: reference.name, file: comparable },
  );
  const recordings = [[reference, comparable] as const, [candidate, candidateFile] as const].flatMap(
    ([{ name }, file]) => (file.kind === "recording" ? [openRecording(file.archive, graph, name)] : []),
  );
  const source = options.source && openFile(options.source, {});
  const both = sharedShape(
    { name: candidate.name, file: candidateFile },
    { name: reference.name, file: given },
  );
  // The images also have a size that the source accepts.
  const sizes = source?.kind === "model" ? fixedShape(source.model) : [];
  const fixed = both.map((size, axis) => (axis > 1 ? (size ?? sizes[axis]) : size));
  const { images, source: imagesSource } = imagesFor(
    graph,
    candidateFile,
    comparable,
    recordings[0],
    fixed,
    options,
  );
  if (recordings.length > 0) expectTaken(images.shape, both, `${candidate.name} against ${reference.name}`);
  const { jobs, startsThreads = false } = options;
  const job = { graph, images, ...(jobs === undefined ? {} : { jobs }) };
  const threads = startsThreads && comparable.kind === "checkpoint" ? await begin(job) : undefined;
  const side = await openCandidate(candidate, candidateFile, graph, comparable, recordings.at(-1), options);
  const isReimported = !isLifted && side.located !== undefined && hasShifts(side.located);
  const referenceFile = isReimported ? withFactorsOf(candidateFile, comparable) : comparable;
  expectBackend(side, options.backend);
  const [batch, referenceBatch] = [candidateFile, given].map((file) =>
    file.kind === "model" ? fixedShape(file.model)[0] : undefined,
  );
  const takesAnySize =
    candidateFile.kind === "model" && both.slice(2).every((pixels) => pixels === undefined);
  const party = await describe(reference, given, graph);
  const against = openReference(party, referenceFile, graph, recordings[0], options);
  const model =
    given.kind === "model"
      ? modelCandidate(given.model, reference, graph, against.party, {
          backend: options.backend,
          inputOrder: "own",
        })
      : undefined;
  const ownParameters = (): StateDict | undefined => checkpointOf(candidateFile, graph.spec)?.stateDict;
  const made = source && options.source && sourceOf(options.source, source, graph, images.shape, party);
  if (model) expectSound(model);
  const sides = [["candidate", candidateFile] as const, ["reference", referenceFile] as const];
  const unread = sides.flatMap(([side, file]) =>
    file.kind === "checkpoint" && file.checkpoint.unread ? { side, classes: file.checkpoint.unread } : [],
  );
  return {
    ...job,
    ...(threads ? { threads } : {}),
    // The weights of a folded model do not show which values it lacks, but a recording shows them.
    candidate: recordings.length > 0 && model ? without(model.folded, side) : side,
    reference: makesImages(side) ? { ...against, backend: withImages(against.backend, graph) } : against,
    ...(batch === undefined ? {} : { batch }),
    ...(takesAnySize ? { takesAnySize } : {}),
    ...(model?.program ? { referenceProgram: model.program } : {}),
    ...(referenceBatch === undefined ? {} : { referenceBatch }),
    ...(model?.precision ? { referencePrecision: model.precision } : {}),
    ...(made ? { source: made } : {}),
    images: imagesSeen(side, images, recordings.length > 0),
    imagesSource: side.preprocess
      ? `${imagesSource}, through the file's own preprocessing (${side.preprocess.description})`
      : imagesSource,
    ...(given.kind === "checkpoint" && (isLifted || isReimported)
      ? { imported: given.checkpoint.stateDict }
      : {}),
    ...(referenceFile.kind === "checkpoint"
      ? { parameters: referenceFile.checkpoint.stateDict }
      : { ownParameters }),
    ...(unread.length > 0 ? { unread } : {}),
    ...(referenceFile.kind === "checkpoint"
      ? compareConstants(side, referenceFile.checkpoint, against, isLifted, ownParameters)
      : {}),
  };
}

/**
 * The model that a candidate was converted from, ready to run; undefined if it does not accept images of this size.
 */
function sourceOf(
  file: SourceFile,
  opened: OpenFile,
  graph: LayerGraph,
  images: Shape,
  party: Party,
): Verification["source"] {
  if (opened.kind !== "model") return undefined;
  const [batch, , ...size] = fixedShape(opened.model);
  if (size.some((pixels, axis) => pixels !== undefined && pixels !== images[axis + 2])) return undefined;
  const { program, precision } = modelCandidate(opened.model, file, graph, party, { inputOrder: "own" });
  return program && { program, isHalf: isHalf(precision), ...(batch === undefined ? {} : { batch }) };
}

/** A recording without layers that the other side computes as part of others. */
function without(folded: ReadonlySet<string>, candidate: Candidate): Candidate {
  const layers = candidate.backend.layers.filter((layer) => !folded.has(layer));
  return recordedCandidate({ backend: { ...candidate.backend, layers } }, candidate.party);
}

interface NamedFile {
  readonly name: string;
  readonly file: OpenFile;
}

/** Batch, channels, height and width of the images, as far as a side fixes them: both run on them. */
function sharedShape(candidate: NamedFile, reference: NamedFile): readonly (number | undefined)[] {
  const [own, other] = [candidate, reference].map(({ file }) =>
    file.kind === "model" ? fixedShape(file.model) : [],
  );
  const shape = [0, 1, 2, 3].map((axis) => own?.[axis] ?? other?.[axis]);
  const differs = shape.some((size, axis) => other?.[axis] !== undefined && other[axis] !== size);
  if (!differs) return shape;
  throw new InputError({
    code: "argument",
    subject: `${candidate.name} against ${reference.name}`,
    found: `the models take images of different shapes, ${shapeInWords(own)} and ${shapeInWords(other)}`,
    remedy: "convert one of them to the other's size, or use the checkpoint as the reference",
  });
}

function shapeInWords(sizes: readonly (number | undefined)[] = []): string {
  return `[${[0, 1, 2, 3].map((axis) => sizes[axis] ?? "any").join(", ")}]`;
}

/** A model must take a recording's images. */
function expectTaken(images: Shape, taken: readonly (number | undefined)[], subject: string): void {
  if (images.every((size, axis) => taken[axis] === undefined || taken[axis] === size)) return;
  throw new InputError({
    code: "argument",
    subject,
    found: `the recording has images ${formatShape(images)}, but the model takes ${shapeInWords(taken)}`,
    remedy: "convert the model to that size, or record it with images of the model's",
  });
}

/** A folded reference with the candidate's factors where these have the same products. */
function withFactorsOf(file: OpenFile, reference: OpenFile): OpenFile {
  if (reference.kind !== "checkpoint" || file.kind === "recording") return reference;
  const { graph, spec } = reference.checkpoint;
  const checkpoint = withFactors(graph, reference.checkpoint, checkpointOf(file, spec));
  return { ...reference, checkpoint };
}

/** A candidate's weights as a checkpoint, if its graph is the network's. */
function checkpointOf(file: OpenFile, arch: OsnetSpec): Checkpoint | undefined {
  try {
    const lifted = liftedFile(file, { arch });
    return lifted.kind === "checkpoint" ? lifted.checkpoint : undefined;
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/**
 * Compares a candidate's constants with a checkpoint's, separately from activations. If they are quantised, the
 * reference uses the stored weights, which the model must compute as exactly as any; the loss of quantisation is
 * reported separately.
 */
function compareConstants(
  { located, document, results }: Candidate,
  { stateDict }: Checkpoint,
  reference: Side,
  isLifted: boolean,
  own: () => StateDict | undefined,
): Partial<Verification> {
  if (!located) return {};
  const compared = compareWeights(located, stateDict, { results, isLifted });
  const weights =
    isLifted && !located.isExact ? byProducts(compared, located.graph, stateDict, own, results) : compared;
  const summary = document?.format === "tfjs" ? quantizedWeights(document.model) : undefined;
  if (!summary && !weights.isOfOwn) return { weights };
  const stored = storedStateDict(located, stateDict, results);
  const { withZeros: _, ...judged } = weights;
  if (!summary) return { weights: judged, parameters: stored };
  return {
    // The quantised weights include its zeros already.
    weights: { result: weights.result, faults: weights.faults },
    parameters: stored,
    reference: { ...reference, backend: referenceBackend(located.graph, stored) },
    quantized: { summary, original: reference.backend },
  };
}

/**
 * The faults of constants by the products of layers and batch norms, where the reference has only these: factors that are not its own say
 * nothing. The same comparison if the candidate has products, too, or its factors cannot be imported.
 */
function byProducts(
  weights: WeightsComparison,
  graph: LayerGraph,
  reference: StateDict,
  own: () => StateDict | undefined,
  results: readonly string[],
): WeightsComparison {
  if (weights.faults.length === 0 || weights.result.folded > 0 || !isImported(graph, reference))
    return weights;
  const stateDict = own();
  if (!stateDict) return weights;
  const located = locatedInCheckpoint(graph, stateDict, reference);
  const { faults, ofOneCause = [] } = compareWeights(located, reference, { results, isLifted: true });
  // The reference's layers are not the candidate's before their norms.
  return faults.length > 0
    ? { result: weights.result, faults, ofOneCause: new Set([...ofOneCause, ...located.absorbed]) }
    : weights;
}

/** A requested backend that does not run the candidate is an error. */
function expectBackend({ party, backend }: Side, wanted: BackendName | undefined): void {
  if (wanted === undefined || backend.name === wanted) return;
  throw new InputError({
    code: "argument",
    subject: party.name,
    found: `backend ${wanted}`,
    expected: isModelFormat(party.format)
      ? runtimesFor(party.format).join(", ")
      : `${backend.name}, which runs this format`,
    remedy: "omit the backend, or convert the model to a format that runs there",
  });
}

async function openCandidate(
  candidate: SourceFile,
  file: OpenFile,
  graph: LayerGraph,
  reference: OpenFile,
  recording: Recording | undefined,
  options: OpenOptions,
): Promise<Candidate> {
  const party = await describe(candidate, file, graph);
  if (file.kind === "model") return modelCandidate(file.model, candidate, graph, party, options);
  expectNoInterface(party, options);
  if (file.kind === "checkpoint") {
    const other = reference.kind === "checkpoint" ? reference.checkpoint.stateDict : undefined;
    return checkpointCandidate(graph, file.checkpoint.stateDict, party, other);
  }
  if (!recording) throw new Error("a recording was not opened");
  return recordedCandidate(recording, party);
}

/** Only a model has an output or a channel order to choose. */
function expectNoInterface({ name }: Party, { output, inputOrder }: InterfaceOptions): void {
  if (output === undefined && inputOrder === undefined) return;
  throw new InputError({
    code: "argument",
    subject: output === undefined ? "--input-order" : "--output",
    found: `${output ?? inputOrder}, with ${name} as the candidate`,
    expected: "a model, which has inputs and outputs",
    remedy: "omit the option",
  });
}

function openReference(
  party: Party,
  file: OpenFile,
  graph: LayerGraph,
  recording: Recording | undefined,
  { keptBytes }: OpenOptions,
): Side {
  if (file.kind === "checkpoint")
    return { party, backend: referenceBackend(graph, file.checkpoint.stateDict, keptBytes) };
  if (!recording) throw new Error("a recording was not opened");
  return { party, backend: recording.backend };
}

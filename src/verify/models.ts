import type { Dialect, LayerGraph, OsnetSpec } from "../arch/index.js";
import { decodeOnnx, encodeOnnx, type OnnxModel, type SidecarReader } from "../convert/formats/onnx/index.js";
import {
  decodeTfjs,
  type TfjsFiles,
  type TfjsGraphModel,
  type TfjsLayersModel,
} from "../convert/formats/tfjs/index.js";
import { imageShape, matchOnnx, type OnnxMatch } from "../convert/lift/index.js";
import { declaredPreprocess, type PixelOrder, PREPROCESS_METADATA } from "../convert/lower/preprocess.js";
import { InputError } from "../errors.js";
import type { StateDict } from "../state-dict.js";
import type { TfjsBackendName } from "./backend.js";
import type { Candidate } from "./candidate.js";
import { foreignCandidate } from "./foreign.js";
import { layersCandidate, layersInputShape } from "./layers-candidate.js";
import { onnxCandidate, SPEC_METADATA, statedSpec } from "./onnx-candidate.js";
import { type QuantizedWeights, quantizedWeights } from "./quantization.js";
import type { Party } from "./report.js";
import { tfjsCandidate, tfjsSpec } from "./tfjs-candidate.js";
import { layersConstants, tfjsConstants } from "./tfjs-weights.js";
import { compareConstants, compareWeights, type WeightsComparison } from "./weights.js";

/** A converted model, as a verification sees it whatever its format. */
export interface ModelFile {
  /**
   * The architecture that the file states; undefined if it states none and has to be matched.
   *
   * @throws InputError (`unsupported`) if it states none and its format is not matched
   */
  readonly statedSpec: () => OsnetSpec | undefined;
  /**
   * The architecture that the file's graph shows, its modules named by a dialect where that is known.
   *
   * @throws InputError (`unsupported`) if the graph is no OSNet
   */
  readonly shownGraph?: (dialect: Dialect | undefined) => LayerGraph;
  /** The order of the raw pixels that the model takes; undefined if it takes normalised images. */
  readonly preprocess: PixelOrder | undefined;
  /** Batch, channels, height and width of the images, as far as the file fixes them. */
  readonly inputShape: readonly (number | undefined)[];
  /** @throws InputError (`unsupported`) if none of its outputs is a result of the network */
  readonly candidate: (graph: LayerGraph, party: Party) => Candidate;
  /** Its constants against a checkpoint's; those that it stores in fewer bits against the checkpoint's in as few. */
  readonly compareWeights: (
    graph: LayerGraph,
    stateDict: StateDict,
    candidate: Candidate,
  ) => WeightsComparison;
  /** What it stores in fewer bits; undefined if it stores all numbers as they are. */
  readonly quantized?: QuantizedWeights;
}

/** The bytes of a model file and, of a model.json, the weight files beside it. */
export interface ModelBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly shards?: ReadonlyMap<string, Uint8Array>;
  /** Reads the files beside an ONNX file that hold its weights. */
  readonly sidecar?: SidecarReader;
}

/** @throws InputError (`format`, `unsupported`) if the bytes are not the format */
export function openModel(
  format: "onnx" | "tfjs",
  { name, bytes, shards = new Map(), sidecar }: ModelBytes,
  backend: TfjsBackendName | undefined,
): ModelFile {
  const subject = name;
  if (format === "onnx")
    return onnxFile(bytes, decodeOnnx(bytes, { subject, ...(sidecar ? { sidecar } : {}) }), subject);
  const files = { json: bytes, shards };
  const model = decodeTfjs(files, { subject });
  if (model.format === "graph-model") return tfjsFile(files, model, subject, backend);
  return layersFile(files, model, subject, backend);
}

/** Our own files are found by names, those of other exporters by structure. */
function onnxFile(original: Uint8Array, model: OnnxModel, subject: string): ModelFile {
  // Runtimes are given bytes, and cannot look beside them; and values inside a function cannot be made outputs.
  const bytes = model.sidecars || model.inlined ? encodeOnnx(model) : original;
  let found: { readonly graph: LayerGraph; readonly result: Matched } | undefined;
  const find = (graph: LayerGraph): Matched => {
    if (found?.graph !== graph) found = { graph, result: matched(model, graph, subject) };
    return found.result;
  };
  return {
    statedSpec: () => (model.metadata.has(SPEC_METADATA) ? statedSpec(model, subject) : undefined),
    preprocess: declaredPreprocess(model.metadata.get(PREPROCESS_METADATA), subject),
    shownGraph: (dialect) => matchOnnx(model, { subject, ...(dialect ? { dialect } : {}) }).graph,
    inputShape: imageShape(model).map((size) => (typeof size === "number" ? size : undefined)),
    candidate(graph, party) {
      const { match, named } = find(graph);
      if (match)
        return { ...foreignCandidate(bytes, model, match, party), isMatched: match.differences.length === 0 };
      return { ...onnxCandidate(bytes, model, graph, party), isMatched: named === "as matched" };
    },
    compareWeights: (graph, stateDict, { results, folded }) =>
      compareWeights(graph, stateDict, model, results, folded, find(graph).match),
  };
}

/** How a file's layers are found, and what its structure says. */
interface Matched {
  /** Where the layers are, if not under their names. */
  readonly match?: OnnxMatch;
  /** Of a file with names as we write them: whether each name is where the structure has its layer. */
  readonly named?: "as matched";
}

/**
 * Layers are found by structure. A file of ours is found by its names, which then are what it is held to, unless another
 * tool has rewritten it.
 */
function matched(model: OnnxModel, graph: LayerGraph, subject: string): Matched {
  if (!model.metadata.has(SPEC_METADATA)) return { match: matchOnnx(model, { subject, graph }) };
  try {
    const match = matchOnnx(model, { subject, graph });
    const { differences, outputs, values } = match;
    const kept = [...values].filter(([layer, value]) => layer === value).length;
    // A simplifier that removes our last Identity leaves the output without its layer's name.
    const ours = outputs.some(({ layer }) => values.get(layer) === layer) && 2 * kept > values.size;
    if (!ours && differences.length === 0) return { match };
    return differences.length === 0 && kept === values.size ? { named: "as matched" } : {};
  } catch (error) {
    if (error instanceof InputError) return {};
    throw error;
  }
}

function tfjsFile(
  files: TfjsFiles,
  model: TfjsGraphModel,
  subject: string,
  backend: TfjsBackendName | undefined,
): ModelFile {
  const [batch, height, width, channels] = inputShape(model);
  return {
    statedSpec: () => tfjsSpec(model, subject),
    preprocess: declaredPreprocess(model.metadata?.[PREPROCESS_METADATA], subject),
    inputShape: [batch, channels, height, width],
    candidate: (graph, party) => tfjsCandidate(files, model, graph, party, backend),
    compareWeights: (graph, stateDict, { results, folded }) =>
      compareConstants(graph, stateDict, tfjsConstants(model, graph), results, folded),
    ...quantizedWeights(model, (graph) => tfjsConstants(model, graph)),
  };
}

function layersFile(
  files: TfjsFiles,
  model: TfjsLayersModel,
  subject: string,
  backend: TfjsBackendName | undefined,
): ModelFile {
  const [batch, height, width, channels] = layersInputShape(model);
  return {
    statedSpec: () => tfjsSpec(model, subject),
    preprocess: declaredPreprocess(model.metadata?.[PREPROCESS_METADATA], subject),
    inputShape: [batch, channels, height, width],
    candidate: (graph, party) => layersCandidate(files, model, graph, party, backend),
    compareWeights: (graph, stateDict, { results, folded }) =>
      compareConstants(graph, stateDict, layersConstants(model, graph), results, folded),
    ...quantizedWeights(model, (graph) => layersConstants(model, graph)),
  };
}

/** The input's shape, NHWC; −1 is any size. */
function inputShape({ signature }: TfjsGraphModel): readonly (number | undefined)[] {
  const [input] = signature.inputs.values();
  return (input?.shape ?? []).map((size) => (size < 0 ? undefined : size));
}

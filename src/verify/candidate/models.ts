import type { LayerGraph } from "../../arch/index.js";
import { statesSpec } from "../../convert/export/metadata.js";
import { VALUE_NAMES } from "../../convert/export/tfjs/index.js";
import { encodeOnnx } from "../../convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../convert/formats/onnx/model.js";
import type { TfjsModel } from "../../convert/formats/tfjs/model.js";
import { withoutBranches } from "../../convert/import/branches.js";
import { type GraphMatch, matchGraph } from "../../convert/import/match.js";
import { type Model, tfjsFiles, weightFiles } from "../../convert/import/open-file.js";
import { matchTfjs, type TfjsMatch } from "../../convert/import/tfjs/translate.js";
import { type NamedBytes, toBytes } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { StateDict } from "../../core/tensor.js";
import type { BackendName, RuntimeName } from "../backends/backend.js";
import type { OnnxFile } from "../backends/onnxruntime.js";
import { runtimeFor } from "../backends/registry.js";
import type { Party } from "../report.js";
import {
  type Compared,
  compareConstants,
  compareMatched,
  compareWeights,
  constantsIn,
  type WeightsComparison,
} from "../weights/compare-weights.js";
import { type QuantizedWeights, quantizedWeights, storedStateDict } from "../weights/quantization.js";
import { tfjsConstants } from "../weights/tfjs-weights.js";
import type { Candidate } from "./candidate.js";
import { foreignCandidate, foreignTfjsCandidate } from "./foreign.js";
import type { InterfaceOptions } from "./interface.js";
import { onnxCandidate } from "./onnx-candidate.js";
import { misnamedOutputs } from "./outputs.js";
import { tfjsCandidate } from "./tfjs-candidate.js";

/** A model that can be run beside a network, and held against a checkpoint. */
export interface RunnableModel {
  /** @throws InputError (`unsupported`) if none of its outputs is a result of the network */
  readonly candidate: (graph: LayerGraph, party: Party, options?: InterfaceOptions) => Candidate;
  /** Its constants against a checkpoint's; those that it stores in fewer bits against the checkpoint's in as few. */
  readonly compareWeights: (graph: LayerGraph, stateDict: StateDict, compared: Compared) => WeightsComparison;
  /** What it stores in fewer bits; undefined if it stores all numbers as they are. */
  readonly quantized?: QuantizedWeights;
}

/**
 * @param file what `model` was decoded from
 * @param backend what runs it, of those that run its format; default: the first
 * @throws InputError (`unsupported`) if no runtime loads the file
 */
export function runnableModel(model: Model, file: NamedBytes, backend?: BackendName): RunnableModel {
  const { document } = model;
  const runtime = runtimeFor(document.format, backend);
  return document.format === "onnx"
    ? runnableOnnx(model, document.model, file, runtime)
    : runnableTfjs(model, document.model, file, runtime);
}

/** Our own files are found by names, those of other exporters by structure. */
function runnableOnnx(
  opened: Model,
  decoded: OnnxModel,
  source: NamedBytes,
  backend: RuntimeName,
): RunnableModel {
  const { name: subject, path } = source;
  const original = toBytes(source.bytes);
  const model = withoutBranches(decoded, subject);
  // Values inside a function or a branch cannot be made outputs, and a file that is tapped is given as bytes.
  const whole = decoded.sidecars ? encodeOnnx(decoded) : original;
  const isUnfolded = model !== decoded || model.inlined !== undefined;
  const bytes = isUnfolded ? encodeOnnx(model) : whole;
  const beside = new Map(
    [...weightFiles(opened, source)].map(([name, found]) => [name, found ?? new Uint8Array()]),
  );
  const file: OnnxFile = {
    bytes,
    whole,
    ...(path === undefined ? {} : { path }),
    ...(beside.size > 0 ? { external: { bytes: original, beside } } : {}),
  };
  const find = foundIn<GraphMatch>({
    isStated: statesSpec(model.metadata),
    isUnfolded,
    match: (graph) => matchGraph(model, { subject, graph }),
    isOwn: (layer, value) => layer === value,
  });
  return {
    candidate(graph, party, options = {}) {
      const { match, shown, unmatched } = find(graph);
      const document = { format: "onnx", model: decoded } as const;
      if (match)
        return named(graph, {
          ...foreignCandidate(file, model, match, party, { ...options, backend }),
          document,
        });
      const found = { ...options, match: shown, unmatched, backend };
      return named(graph, { ...onnxCandidate(file, model, graph, party, found), document });
    },
    compareWeights: (graph, stateDict, compared) =>
      compareWeights(graph, stateDict, model, compared, find(graph)),
  };
}

/** How a file's layers are found, and what its structure says. */
interface Matched<M> {
  /** Where the layers are, if not under their names. */
  readonly match?: M;
  /** What the structure shows, if it is this network's, whether or not layers are found by it. */
  readonly shown?: M;
  /** Why it is not, if it is not. */
  readonly unmatched?: string;
}

interface Lookup<M> {
  /** Whether the file states its architecture, as ours do. */
  readonly isStated: boolean;
  /** Whether functions or branches were unfolded, whose values have names that the file does not say. */
  readonly isUnfolded?: boolean;
  readonly match: (graph: LayerGraph) => M;
  /** Whether a value has the name that we give a layer's. */
  readonly isOwn: (layer: string, value: string) => boolean;
}

/**
 * Layers are found by structure, once for each network. A file of ours is found by its names, which then are what it is held
 * to, unless another tool has rewritten it.
 */
function foundIn<M extends GraphMatch>(lookup: Lookup<M>): (graph: LayerGraph) => Matched<M> {
  let found: { readonly graph: LayerGraph; readonly result: Matched<M> } | undefined;
  return (graph) => {
    if (found?.graph !== graph) found = { graph, result: matched(graph, lookup) };
    return found.result;
  };
}

function matched<M extends GraphMatch>(
  graph: LayerGraph,
  { isStated, isUnfolded = false, match: find, isOwn }: Lookup<M>,
): Matched<M> {
  if (!isStated) {
    const match = find(graph);
    return { match, shown: match };
  }
  try {
    const match = find(graph);
    const { differences, outputs, values } = match;
    const kept = [...values].filter(([layer, value]) => isOwn(layer, value)).length;
    // A simplifier that removes our last Identity leaves the output without its layer's name.
    const ours = outputs.some(({ layer }) => isOwn(layer, values.get(layer) ?? "")) && 2 * kept > values.size;
    if (isUnfolded || (!ours && differences.length === 0)) return { match, shown: match };
    return { shown: match };
  } catch (error) {
    if (error instanceof InputError) return { unmatched: error.problem.found };
    throw error;
  }
}

/** A candidate with the faults of outputs that are called by the name of another result or layer. */
function named(
  graph: LayerGraph,
  candidate: Candidate,
  keys: ReadonlyMap<string, string> = new Map(),
  nameOf?: (layer: string) => string,
): Candidate {
  const outputs = candidate.program?.outputs ?? [];
  const faults = misnamedOutputs(graph, outputs, (name) => keys.get(name) ?? name, nameOf);
  return faults.length > 0
    ? { ...candidate, structure: [...(candidate.structure ?? []), ...faults] }
    : candidate;
}

/** A topology that tfjs has no reader for. */
function notLoaded(subject: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found: "a topology of Keras 3, which tfjs does not load",
    expected: "one of Keras 2",
    remedy: "write one by osnet-convert tfjs2tfjs",
  });
}

/** As with ONNX, our own files are found by names, those of other converters by structure. */
function runnableTfjs(
  { onnx: translated, isRunnable }: Model,
  model: TfjsModel,
  file: NamedBytes,
  backend: RuntimeName,
): RunnableModel {
  const { name: subject } = file;
  if (!isRunnable) throw notLoaded(subject);
  const files = tfjsFiles(file);
  const names = VALUE_NAMES[model.format];
  // Programs of a graph model are given outputs under the signature's keys.
  const keys = new Map(
    model.format === "graph-model"
      ? [...model.signature.outputs].map(([key, { name }]) => [name.replace(/:0$/, ""), key] as const)
      : [],
  );
  const find = foundIn<TfjsMatch>({
    isStated: statesSpec(translated.metadata),
    match: (graph) => matchTfjs(translated, { subject, graph }),
    isOwn: (layer, value) => value === names.of(layer) || value === names.normalized,
  });
  return {
    candidate(graph, party, options = {}) {
      const { match, shown, unmatched } = find(graph);
      const document = { format: "tfjs", model } as const;
      if (match)
        return named(
          graph,
          { ...foreignTfjsCandidate(files, translated, match, party, { ...options, backend }), document },
          keys,
          names.of,
        );
      const found = { ...options, translated, match: shown, unmatched, backend };
      return named(graph, { ...tfjsCandidate(files, model, graph, party, found), document }, keys, names.of);
    },
    compareWeights(graph, stateDict, compared) {
      const { match } = find(graph);
      if (!match) return compareConstants(graph, stateDict, tfjsConstants(model, graph), compared);
      return compareMatched(graph, stateDict, compared, match);
    },
    ...quantizedWeights(model, (graph, stateDict, candidate) => {
      const { match } = find(graph);
      if (!match) return storedStateDict(graph, stateDict, tfjsConstants(model, graph), candidate);
      const { absorbed: folded, affine } = match;
      const { results } = candidate;
      return storedStateDict(graph, stateDict, constantsIn(match), { results, folded, affine });
    }),
  };
}

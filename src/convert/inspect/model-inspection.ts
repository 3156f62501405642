import { type OsnetSpec, variantOf } from "../../arch/index.js";
import { type NamedBytes, sha256, toBytes } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import type { DType, Tensor } from "../../core/tensor.js";
import { isDType, MIN_NORMAL } from "../../core/tensor-cast.js";
import { RESULT_KINDS, type ResultKind } from "../export/options.js";
import { fedInputs, type OnnxDimension, type OnnxModel, type OnnxValue } from "../formats/onnx/model.js";
import { zerosForAbsent } from "../formats/refusals.js";
import type { ModelFormat } from "../formats/registry.js";
import type { Json } from "../formats/tfjs/json.js";
import type { TfjsModel } from "../formats/tfjs/model.js";
import { layerClasses } from "../formats/tfjs/topology.js";
import type { Difference } from "../import/differences.js";
import type { GraphMatch } from "../import/match.js";
import { imageShape } from "../import/normalise.js";
import { describePreprocess } from "../import/preprocess.js";
import { type LiftedModel, liftModel, matchModel } from "../open/lift.js";
import { type Model, openModel, tfjsFiles } from "../open/open-file.js";
import { type Anomaly, findAnomalies } from "./anomalies.js";
import {
  countDTypes,
  type DTypeCount,
  inspectNetwork,
  inspectWeights,
  type NetworkInspection,
  type WeightsInspection,
} from "./inspection.js";

/** A model as a runtime's file, independent of the network in it. */
export interface ModelFacts {
  /** The number of each operator, most frequent first. */
  readonly operators: Readonly<Record<string, number>>;
  readonly inputs: readonly ValueFacts[];
  readonly outputs: readonly ValueFacts[];
  /** Element types of the constants after dequantisation. */
  readonly dtypes: readonly DTypeCount[];
  /** Weights of convolutions below float32's normal range: each product with one takes most x86 processors 150 cycles. */
  readonly subnormal: number;
}

/**
 * An input or output. Fields are null if the file does not state them, such as a dynamic dimension without a name.
 */
export interface ValueFacts {
  /** The name by which a program feeds or requests it. */
  readonly name: string;
  /** Element type that the file states. */
  readonly dtype: DType | null;
  /** Dimensions that the file states: numbers, or the names of dynamic ones. */
  readonly shape: readonly OnnxDimension[] | null;
}

/** The network found in a model, and how the model represents it. */
export interface NetworkFacts {
  /** Images per run; null for any. */
  readonly batch: number | null;
  /** Height and width; null for any. */
  readonly size: { readonly height: number; readonly width: number } | null;
  /** Batch norms: merged into the layers before them, kept, or written as a product and a sum. */
  readonly batchNorms: { readonly folded: number; readonly kept: number; readonly affine: number };
  /** The layer of each output, and the operators after it. */
  readonly results: readonly {
    readonly output: string;
    readonly layer: string;
    /** The kind of result; null for an intermediate layer. */
    readonly kind: ResultKind | null;
    readonly tail: readonly string[];
  }[];
  /** The preprocessing in the file; null if there is none. */
  readonly preprocess: string | null;
  /** Layers whose weights are quantised. */
  readonly quantised: number;
  /** Differences from an OSNet; empty for a faithful file. */
  readonly differences: readonly Omit<Difference, "kind">[];
}

/** The number of occurrences of each name, most frequent first. */
function countNames(names: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([, a], [, b]) => b - a));
}

/** @param constants the file's own, without those that its translation has added */
function modelFacts(
  { graph }: Pick<OnnxModel, "graph">,
  operators: readonly string[],
  constants: Iterable<Tensor>,
): ModelFacts {
  const all = [...constants];
  return {
    operators: countNames(operators),
    inputs: fedInputs(graph).map(valueFacts),
    outputs: graph.outputs.map(valueFacts),
    dtypes: countDTypes(all),
    subnormal: all
      .filter(({ shape }) => shape.length === KERNEL_AXES)
      .reduce((sum, tensor) => sum + countSubnormal(tensor), 0),
  };
}

/** Axes of a convolution's weights, in ONNX as in TensorFlow: other layers run once for an image, and not for each pixel. */
const KERNEL_AXES = 4;

function countSubnormal(tensor: Tensor): number {
  if (!isDType(tensor, "float32")) return 0;
  let count = 0;
  for (const value of tensor.data) if (value !== 0 && Math.abs(value) < MIN_NORMAL) count++;
  return count;
}

function valueFacts({ name, dtype, shape }: OnnxValue): ValueFacts {
  return { name, dtype: dtype ?? null, shape: shape ?? null };
}

function networkFacts(model: OnnxModel, match: GraphMatch): NetworkFacts {
  const [batch, , height, width] = imageShape(model);
  return {
    batch: typeof batch === "number" ? batch : null,
    size: typeof height === "number" && typeof width === "number" ? { height, width } : null,
    batchNorms: countBatchNorms(match),
    results: match.outputs.map(({ name, layer, tail }) => ({
      output: name,
      layer,
      kind: RESULT_KINDS.find((kind) => match.graph.outputs[kind] === layer) ?? null,
      tail,
    })),
    preprocess: match.preprocess ? describePreprocess(match.preprocess) : null,
    quantised: match.roundings.size,
    differences: match.differences.map(({ kind: _, ...difference }) => difference),
  };
}

function countBatchNorms({ graph, absorbed, affine, constants }: GraphMatch): NetworkFacts["batchNorms"] {
  const norms = graph.nodes.filter(({ name, op }) => op.kind === "batchNorm" && constants.has(name));
  const folded = norms.filter(({ inputs }) => absorbed.has(inputs[0] ?? "")).length;
  const spelled = norms.filter(({ name }) => affine.has(name)).length;
  return { folded, kept: norms.length - folded - spelled, affine: spelled };
}

/** The description of a model of any exporter, as data that JSON can represent. */
export interface ModelInspection<F extends ModelFormat, Facts extends ModelFacts> {
  /** Name and version of the document; a version's fields keep their meaning. */
  readonly schema: "osnet-inspection/1";
  /** Name, size and digest of the files. */
  readonly file: ModelFileFacts<F>;
  /** What the file states: its exporter, operators, inputs and outputs. */
  readonly model: Facts & Partial<NetworkFacts>;
  /** Null if the graph is not an OSNet. */
  readonly network: NetworkInspection | null;
  /** Null if the graph is not a faithful OSNet, or its weights are missing. */
  readonly weights: (WeightsInspection & Reparameterised) | null;
  /** The anomalies of its weights, worst first. */
  readonly anomalies: readonly Anomaly[];
  /** The reason why the graph is not an OSNet, or the missing file that is needed to decide. */
  readonly refusal?: string;
}

/** The file or files of a model. */
interface ModelFileFacts<F extends ModelFormat> {
  /** The name that the caller gave it. */
  readonly name: string;
  /** Size of all files together. */
  readonly bytes: number;
  /** Digest of the model file, or of model.json. */
  readonly sha256: string;
  /** What the model is, by its content. */
  readonly format: F;
}

/** Additional facts about weights imported from a folded model. */
interface Reparameterised {
  /**
   * The number of tensors that are products with a folded batch norm instead of trained ones. If there are any,
   * `fingerprint` does not match a checkpoint's; `foldedFingerprint` does if osnet-convert folded the file.
   */
  readonly reparameterised: number;
}

/** Options for inspecting a model. */
export interface ModelInspectionOptions {
  /** The architecture, if the graph leaves open how modules are named: a variant's name or a spec. */
  readonly arch?: string | OsnetSpec;
}

/** The inspection of each format. */
export interface ModelInspections {
  /** The inspection of an ONNX file. */
  readonly onnx: OnnxInspection;
  /** The inspection of a TensorFlow.js model. */
  readonly tfjs: TfjsInspection;
}

/** The facts that are particular to a format. */
interface FileFacts<F extends ModelFormat> {
  readonly file: ModelFileFacts<F>;
  readonly facts: ModelInspections[F]["model"];
  /** Missing files beside it. */
  readonly missing: readonly string[];
  /** The problem, if the graph itself cannot be read without those files. */
  readonly incomplete?: InputError;
}

const FACTS: { readonly [F in ModelFormat]: (file: NamedBytes, model: Model) => Promise<FileFacts<F>> } = {
  onnx: onnxFacts,
  tfjs: tfjsFacts,
};

/**
 * Describes a model as far as possible: without a network if it has another one, without weights if their files are
 * missing.
 *
 * @throws InputError (`format`, `unsupported`) if the bytes are not the format, or broken
 */
export async function inspectModel<F extends ModelFormat>(
  format: F,
  file: NamedBytes,
  options: ModelInspectionOptions = {},
): Promise<ModelInspections[F]> {
  const model = openModel(format, file, zerosForAbsent());
  const { facts, missing, incomplete, ...described } = await FACTS[format](file, model);
  const start = { schema: "osnet-inspection/1", ...described } as const;
  const match = tryMatch(() => matchModel(model, options), incomplete);
  const inspection: ModelInspection<ModelFormat, ModelFacts> =
    match instanceof InputError
      ? { ...start, model: facts, network: null, weights: null, anomalies: [], refusal: match.message }
      : {
          ...start,
          model: { ...facts, ...networkFacts(model.onnx, match) },
          ...(await inspectMatched(match, missing.length > 0 ? undefined : () => liftModel(model, match))),
        };
  // The facts and the file are the format's own.
  return inspection as ModelInspections[F];
}

function tryMatch(find: () => GraphMatch, incomplete?: InputError): GraphMatch | InputError {
  try {
    const match = find();
    return incomplete && match.differences.length > 0 ? incomplete : match;
  } catch (error) {
    if (error instanceof InputError && error.code === "unsupported") return incomplete ?? error;
    throw error;
  }
}

/** @param lift undefined if the weights are missing */
async function inspectMatched(
  { graph, spec, differences }: GraphMatch,
  lift: (() => LiftedModel) | undefined,
): Promise<Pick<ModelInspection<ModelFormat, ModelFacts>, "network" | "weights" | "anomalies">> {
  if (differences.length > 0 || !lift) {
    const network = inspectNetwork({ graph, spec, variant: variantOf(spec), extra: [] });
    return { network, weights: null, anomalies: [] };
  }
  const { checkpoint, reparameterised } = lift();
  const { stateDict } = checkpoint;
  return {
    network: inspectNetwork(checkpoint),
    weights: { ...(await inspectWeights(graph, stateDict)), reparameterised },
    // A folded batch norm has no statistics, which is not an anomaly of the trained network.
    anomalies: findAnomalies(graph, stateDict).filter(
      ({ kind }) => reparameterised === 0 || kind !== "untrained-statistics",
    ),
  };
}

/** An ONNX file, independent of the network in it. Operators of other domains have those before their names. */
interface OnnxFacts extends ModelFacts {
  /** The program that wrote it; either may be empty. */
  readonly producer: { readonly name: string; readonly version: string };
  /** Version of the file format itself. */
  readonly irVersion: number;
  /** Version of the standard operators. */
  readonly opset: number;
  /** Versions of other operator domains. */
  readonly customOpsets: Readonly<Record<string, number>>;
  /** Calls of the file's own functions. */
  readonly functionCalls: number;
  /** `metadata_props`, by key. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Files beside it with its weights. */
  readonly sidecars: readonly { readonly name: string; readonly missing: boolean }[];
}

/** The inspection of an ONNX file from any exporter. */
export type OnnxInspection = ModelInspection<"onnx", OnnxFacts>;

async function onnxFacts({ name, bytes }: NamedBytes, { onnx: model }: Model): Promise<FileFacts<"onnx">> {
  const whole = toBytes(bytes);
  return {
    file: { name, bytes: whole.length, sha256: await sha256(whole), format: "onnx" },
    facts: factsOf(model),
    missing: model.missing ?? [],
  };
}

function factsOf(model: OnnxModel): OnnxFacts {
  const { graph, sidecars = [], missing = [] } = model;
  const operators = graph.nodes.map(({ domain, opType }) => (domain === "" ? opType : `${domain}.${opType}`));
  return {
    producer: model.producer,
    irVersion: model.irVersion,
    opset: model.opset,
    customOpsets: Object.fromEntries(model.customOpsets),
    ...modelFacts(model, operators, graph.initializers.values()),
    functionCalls: model.inlined ?? 0,
    metadata: Object.fromEntries(model.metadata),
    sidecars: [
      ...sidecars.map((name) => ({ name, missing: false })),
      ...missing.map((name) => ({ name, missing: true })),
    ],
  };
}

/**
 * The files of a TensorFlow.js model, independent of the network in it. Operators of a layers model are classes of
 * layers.
 */
interface TfjsFacts extends ModelFacts {
  /** `graph-model` or `layers-model`. */
  readonly format: TfjsModel["format"];
  /** The program that made the model before its conversion; null if the file does not state it. */
  readonly generatedBy: string | null;
  /** The converter and its version; null if the file does not state it. */
  readonly convertedBy: string | null;
  /** The number of weights stored in each quantised type. */
  readonly stored: Readonly<Record<string, number>>;
  /** The weight files, as model.json names them; `bytes` is null for one that is missing. */
  readonly shards: readonly { readonly name: string; readonly bytes: number | null }[];
  /** `userDefinedMetadata`, as in `model.json`. */
  readonly metadata: Readonly<Record<string, Json>>;
}

/** The inspection of a TensorFlow.js model from any converter. */
export type TfjsInspection = ModelInspection<"tfjs", TfjsFacts>;

async function tfjsFacts(source: NamedBytes, { name, onnx, document }: Model): Promise<FileFacts<"tfjs">> {
  if (document.format !== "tfjs") throw new TypeError(`${name} is not a TensorFlow.js model`);
  const { model } = document;
  const { json, shards } = tfjsFiles(source);
  const weights = [...model.weights.values()];
  const operators =
    model.format === "graph-model" ? model.nodes.map(({ op }) => op) : layerClasses(model, name);
  const { missing = [] } = model;
  return {
    file: {
      name,
      bytes: [...shards.values()].reduce((sum, { length }) => sum + length, json.length),
      sha256: await sha256(json),
      format: "tfjs",
    },
    facts: {
      format: model.format,
      generatedBy: model.generatedBy ?? null,
      convertedBy: model.convertedBy ?? null,
      ...modelFacts(
        onnx,
        operators,
        weights.map(({ tensor }) => tensor),
      ),
      stored: countNames(weights.flatMap(({ stored }) => stored?.dtype ?? [])),
      shards: [
        ...Array.from(shards, ([path, { length }]) => ({ name: path, bytes: length })),
        ...missing.map((path) => ({ name: path, bytes: null })),
      ],
      metadata: model.metadata ?? {},
    },
    missing,
    ...(model.format === "graph-model" && missing.length > 0
      ? { incomplete: missingShards(missing, name) }
      : {}),
  };
}

/** A graph has its axes and shapes, and the epsilons of its norms, among its weights. */
function missingShards(missing: readonly string[], subject: string): InputError {
  return new InputError({
    code: "format",
    subject,
    found: `no ${missing[0]} beside it`,
    expected: "all weight files, since the graph's axes and shapes are in them",
    remedy: "pass the model's whole folder",
  });
}

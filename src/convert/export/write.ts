import type { LayerGraph } from "../../arch/graph.js";
import type { OsnetSpec } from "../../arch/spec.js";
import { bytesOf } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { formatShape, type StateDict, sameShape, type Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import { encodeNpz } from "../formats/npz.js";
import { encodePth } from "../formats/pth/encode.js";
import { isWeightsFormat, type ModelFormat, type WeightsFormat } from "../formats/registry.js";
import { encodeSafetensors } from "../formats/safetensors.js";
import { statedZeros } from "./metadata.js";
import type { OnnxOptions } from "./onnx.js";
import type { ImageSize, ResultOptions, WantedResult } from "./options.js";
import type { TfjsOptions } from "./tfjs-graph-model.js";
import { castStateDict } from "./weights.js";

/** A format to convert to, with its writer's options; every other field has a default, as on the command line. */
export type Target =
  | ({ readonly format: "onnx"; readonly externalData?: boolean } & OnnxOptions)
  | ({ readonly format: "tfjs"; readonly layers?: boolean } & TfjsOptions)
  | WeightsTarget;

/** A weight file, optionally in another element type. */
export interface WeightsTarget {
  /** The output format. */
  readonly format: WeightsFormat;
  /** The element type of its floating-point tensors. Default: unchanged. */
  readonly dtype?: FloatDType;
}

/** Whether only weights are written, without a graph. */
export function isWeightsTarget(target: Target): target is WeightsTarget {
  return isWeightsFormat(target.format);
}

/** A network with its weights, and what the result keeps from the source file. */
interface NetworkSource {
  /** Name of the source file in messages. */
  readonly name: string;
  readonly graph: LayerGraph;
  readonly stateDict: StateDict;
  /** The outputs of a model's file; the result has the same ones unless options override them. */
  readonly outputs?: FileOutputs | undefined;
  /** The metadata of a safetensors file, which is copied to another one. */
  readonly decoded: { readonly metadata: ReadonlyMap<string, string> };
}

/** A file to write, or a folder's main file, with the weight files beside it. */
export interface Encoded {
  readonly bytes: Uint8Array;
  /** Weight files by name; absent for a single file. */
  readonly beside?: ReadonlyMap<string, Uint8Array>;
  /** Changes made during the conversion, one clause each, for people to read. */
  readonly notes: readonly string[];
  /** Negligible weights that were written as zeros, and the most that this changes any value, in roundings. */
  readonly zeros?: { readonly count: number; readonly bound: number };
}

/** The name of a weight file beside a model: the usual one, or another that may depend on its content. */
export type NameBeside = (usual: string, data: Uint8Array) => string;

/**
 * The bytes of a network in any format. The same network and options always give the same bytes.
 *
 * @param name of the file, or of the folder for a model of several files
 * @throws InputError (`argument`, `tensor`, `state-dict`, `unsupported`) for options or weights that the format does
 * not support
 */
export async function write(
  source: NetworkSource,
  target: Target,
  name: string,
  nameBeside: NameBeside = (usual) => usual,
): Promise<Encoded> {
  if (!isWeightsTarget(target))
    // Each writer has its own format's options.
    return (WRITERS[target.format] as Writer<Target>)(source, target, name, nameBeside);
  const { stateDict, decoded, graph } = source;
  const stored = storedWeights(stateDict, target, source.name);
  const changed = [...stateDict].filter(([path, tensor]) => stored.get(path) !== tensor).length;
  return {
    bytes: encodeWeights(stored, target.format, { subject: name, metadata: decoded.metadata }),
    notes: [
      ...(changed > 0 ? [`${changed} of ${stateDict.size} tensors converted to ${target.dtype}`] : []),
      ...unseenNotes(graph.spec),
    ],
  };
}

/** Parts of a network that its weights do not show, unless they are torchreid's usual ones. */
function unseenNotes({ gate, pooling, head }: OsnetSpec): readonly string[] {
  const unseen = [
    ...(gate.activation === "sigmoid" ? [] : [`${gate.activation} gates`]),
    ...(pooling === "avg" ? [] : [`${pooling} pooling`]),
    ...(head?.loss === "sigmoid" ? ["sigmoid of its classes"] : []),
  ];
  return unseen.length === 0
    ? []
    : [`the weights do not show the network's ${unseen.join(", ")}: pass --arch wherever this file is read`];
}

/** The names of weight files beside a file, as in torch's exporter. */
export function weightFileNames(target: Target, name: string): readonly string[] {
  return target.format === "onnx" && target.externalData ? [`${name}.data`] : [];
}

type Writer<T> = (source: NetworkSource, target: T, name: string, nameBeside: NameBeside) => Promise<Encoded>;

/** Writers of models, each loaded on demand. */
const WRITERS: { readonly [F in ModelFormat]: Writer<Extract<Target, { format: F }>> } = {
  async onnx({ graph, stateDict, outputs }, target, name, nameBeside) {
    const { lowerToOnnx } = await import("./onnx.js");
    const { encodeOnnx, encodeOnnxFiles } = await import("../formats/onnx/encode.js");
    const model = lowerToOnnx(graph, stateDict, { ...keptInterface(outputs), ...target });
    const about = { notes: [], ...zerosOf(model.metadata) };
    const [usual] = weightFileNames(target, name);
    if (usual === undefined) return { bytes: encodeOnnx(model), ...about };
    const encoded = encodeOnnxFiles(model, usual);
    const own = nameBeside(usual, encoded.data);
    // The model contains the name of its weight file.
    const { bytes, data } = own === usual ? encoded : encodeOnnxFiles(model, own);
    return { bytes, beside: new Map([[own, data]]), ...about };
  },
  async tfjs({ graph, stateDict, outputs }, target, _name, nameBeside) {
    const { encodeTfjs } = await import("../formats/tfjs/codec.js");
    const { lowerToTfjs } = await import("./tfjs-graph-model.js");
    const { lowerToTfjsLayers } = await import("./tfjs-layers-model.js");
    const kept = outputs && !writesNorms(target) ? withoutNorms(outputs) : outputs;
    const lower = target.layers ? lowerToTfjsLayers : lowerToTfjs;
    const model = lower(graph, stateDict, { ...keptInterface(kept), ...target });
    const { json, shards } = encodeTfjs(model, nameBeside);
    const metadata = new Map(Object.entries(model.metadata ?? {}));
    return { bytes: json, beside: shards, notes: [], ...zerosOf(metadata) };
  },
};

function zerosOf(metadata: ReadonlyMap<string, unknown>): Pick<Encoded, "zeros"> {
  const zeros = statedZeros(metadata);
  return zeros ? { zeros } : {};
}

/** Keras layers have no L2 norm, and weights no operators. */
function writesNorms(target: Target): boolean {
  return target.format === "onnx" || (target.format === "tfjs" && !target.layers);
}

/** The state dict as stored in a weight file. @throws InputError (`tensor`) for values too large for its type */
export function storedWeights(stateDict: StateDict, { dtype }: WeightsTarget, subject: string): StateDict {
  return dtype === undefined ? stateDict : castStateDict(stateDict, dtype, subject);
}

/** The metadata of a safetensors file of PyTorch weights, which transformers requires. */
const PYTORCH_METADATA: ReadonlyMap<string, string> = new Map([["format", "pt"]]);

type Encoder = (stateDict: StateDict, subject: string, metadata: ReadonlyMap<string, string>) => Uint8Array;

const ENCODERS: Readonly<Record<WeightsFormat, Encoder>> = {
  pth: (stateDict, subject) => encodePth(stateDict, { subject }),
  safetensors: (stateDict, subject, metadata) => encodeSafetensors(stateDict, { subject, metadata }),
  npz: (stateDict, subject) => encodeNpz(stateDict, { subject }),
};

/**
 * The bytes of a weight file; the same state dict always gives the same bytes.
 *
 * @param metadata of a safetensors file; by default that of PyTorch weights
 * @throws InputError (`unsupported`) for an element type that the format does not support
 */
export function encodeWeights(
  stateDict: StateDict,
  format: WeightsFormat,
  { subject, metadata }: { readonly subject: string; readonly metadata?: ReadonlyMap<string, string> },
): Uint8Array {
  return ENCODERS[format](stateDict, subject, metadata?.size ? metadata : PYTORCH_METADATA);
}

/**
 * All differences between two state dicts, one per line; empty if they have the same tensors bit for bit, including
 * NaNs and signs of zero. Their order does not matter.
 */
export function compareBits(expected: StateDict, actual: StateDict): readonly string[] {
  const problems = [...expected].flatMap(([path, tensor]) => {
    const problem = differenceOf(tensor, actual.get(path));
    return problem === undefined ? [] : [`${path}: ${problem}`];
  });
  const surplus = [...actual.keys()].filter((path) => !expected.has(path));
  return [...problems, ...surplus.map((path) => `${path}: not in the source`)];
}

function differenceOf(expected: Tensor, actual: Tensor | undefined): string | undefined {
  if (!actual) return "missing";
  if (actual.dtype !== expected.dtype) return `${actual.dtype} instead of ${expected.dtype}`;
  if (!sameShape(actual.shape, expected.shape))
    return `shape ${formatShape(actual.shape)} instead of ${formatShape(expected.shape)}`;
  const [a, b] = [bytesOf(expected.data), bytesOf(actual.data)];
  if (a.length !== b.length) return `${b.length} bytes instead of ${a.length}`;
  const at = a.findIndex((byte, index) => byte !== b[index]);
  if (at < 0) return undefined;
  return `element ${Math.floor(at / expected.data.BYTES_PER_ELEMENT)} differs`;
}

/** The interface of a model's file that another file can have too: its outputs, and those that another cannot have. */
export interface FileOutputs {
  /** The size of its images; absent if it takes any. */
  readonly size?: ImageSize;
  /** Results of the network, plain or divided by their L2 norm, in the file's order and under its names. */
  readonly results: readonly WantedResult[];
  /** Whether the gate vectors of all streams are outputs too. */
  readonly hasGates: boolean;
  /** Other outputs, in the file's order. */
  readonly beyond: readonly BeyondNetwork[];
}

/** What a file computes beyond its network's results. */
export interface BeyondNetwork {
  /** `tail`: an operation that changes a result after its layer; `output`: a value that is not a result. */
  readonly kind: "tail" | "output";
  /** The output's name in the file. */
  readonly output: string;
  /** A noun phrase for messages. */
  readonly description: string;
  /** Whether it is only a division by the L2 norm, which keeps the embedding's direction. */
  readonly isL2?: boolean;
}

/** The outputs for a writer without an L2 norm. */
export function withoutNorms({ results, hasGates, beyond }: FileOutputs): FileOutputs {
  const plain = results.filter(({ floors }) => !floors);
  const lost = results.filter(({ floors }) => floors);
  const others = lost.filter(({ kind }) => !plain.some((result) => result.kind === kind));
  return {
    results: [...plain, ...others.map(({ kind, name }) => ({ kind, name }))],
    hasGates,
    beyond: [
      ...beyond,
      ...lost.map(
        ({ kind, name }): BeyondNetwork => ({
          kind: "tail",
          output: name,
          description: `l2Normalize after the ${kind}`,
          isL2: true,
        }),
      ),
    ],
  };
}

/** What a rewritten model has too unless overridden: the image size, and the results by their kinds, with their usual names. */
function keptInterface(outputs: FileOutputs | undefined): ResultOptions & { readonly size?: ImageSize } {
  const size = outputs?.size ? { size: outputs.size } : {};
  if (!outputs || outputs.results.length === 0) return size;
  return {
    ...size,
    output: outputs.results.map(({ kind, name, floors }, index) => {
      const isFirst = outputs.results.findIndex((result) => result.kind === kind) === index;
      return { kind, name: isFirst ? kind : name, ...(floors ? { floors } : {}) };
    }),
    ...(outputs.hasGates ? { gates: true } : {}),
  };
}

/**
 * What is lost from a model's file, one clause each. Weights contain no operators, so they lose nothing from a file
 * whose embeddings have length 1, or whose outputs are layers of the network.
 *
 * @param given what the file computes; undefined for a weight file
 */
export function leftOut(
  subject: string,
  given: FileOutputs | undefined,
  target: Target,
  { dropExtra = false }: { readonly dropExtra?: boolean },
): readonly string[] {
  if (!given) return [];
  const toModel = !isWeightsTarget(target);
  const outputs = writesNorms(target) ? given : withoutNorms(given);
  const beyond = outputs.beyond.filter(({ kind }) => toModel || kind === "tail");
  const refused = dropExtra ? [] : beyond.filter(({ isL2 }) => toModel || !isL2);
  if (refused.length > 0)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${refused.length === 1 ? "an output" : `${refused.length} outputs`} that the network does not have: ${refused.map(clause).join("; ")}`,
      expected: "the network's own outputs",
      remedy: "drop it with --drop-extra",
    });
  return beyond.map((item) => `dropped: ${clause(item)}`);
}

function clause({ kind, output, description }: BeyondNetwork): string {
  return kind === "tail" ? `${description}, as ${output}` : `${output}, ${description}`;
}

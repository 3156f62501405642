import {
  type Identified,
  type LayerGraph,
  multiplyAdds,
  type NearestVariant,
  nearestVariant,
  type OsnetSpec,
  outputShapes,
  parameterCount,
  parametersOf,
  type VariantName,
} from "../../arch/index.js";
import { type Bytes, sha256, toSource } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { type DType, formatShape, type StateDict, type Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { writtenWeights } from "../export/negligible.js";
import { neededNetwork } from "../export/weights.js";
import type { Checkpoint, DecodedWeights } from "../open/checkpoint.js";
import { type Anomaly, findAnomalies } from "./anomalies.js";

/** The description of a checkpoint, as data that JSON can represent. */
export interface Inspection {
  /** Name and version of the document; a version's fields keep their meaning. */
  readonly schema: "osnet-inspection/1";
  /** The file itself, independent of the network in it. */
  readonly file: {
    readonly name: string;
    readonly bytes: number;
    readonly sha256: string;
    readonly format: DecodedWeights["format"];
    /** The PyTorch container, or the format itself. */
    readonly container: DecodedWeights["container"];
    /** Path of keys to the state dict, joined by dots; empty if it is the whole file. */
    readonly wrapperPath: string;
    /** Prefix that was removed from the keys, such as `module.`; empty if there was none. */
    readonly removedPrefix: string;
    /** The class of a model saved whole; empty for a state dict. */
    readonly modelClass: string;
    /** The metadata of a safetensors file; empty for other formats. */
    readonly metadata: Readonly<Record<string, string>>;
    /** Choices made while reading, one clause each. */
    readonly notes: readonly string[];
  };
  /** The architecture that its weights belong to. */
  readonly network: NetworkInspection;
  /** Fingerprints and element types of the weights. */
  readonly weights: WeightsInspection;
  /** Their anomalies, worst first. */
  readonly anomalies: readonly Anomaly[];
}

/** The description of a network. */
export interface NetworkInspection {
  /** The published variant with this backbone; null if there is none. */
  readonly variant: VariantName | null;
  /** The variant, or the nearest one and how the network differs. */
  readonly nearest: NearestVariant;
  /** The architecture as data, as `--arch` takes it. */
  readonly spec: OsnetSpec;
  /** Number of classes; null without a classifier. */
  readonly classes: number | null;
  /** Width of the embedding. */
  readonly embedding: number;
  /** Learned parameters: all, and those that the embedding needs. */
  readonly parameters: { readonly total: number; readonly embedding: number };
  /**
   * Multiply-adds for one image of 256×128 up to the evaluation output; null if the image is too small for the
   * network.
   */
  readonly multiplyAdds: number | null;
  /** Keys that are not part of the network. */
  readonly extra: readonly string[];
}

/** Weights and their fingerprints. */
export interface WeightsInspection {
  /** The version of the fingerprint's definition. */
  readonly scheme: typeof FINGERPRINT_SCHEME;
  /** Equal for files of the same network, whatever their container, key prefix, heads and counters. */
  readonly fingerprint: string;
  /**
   * The fingerprint with every batch norm folded: equal for a checkpoint and a file that osnet-convert folded.
   */
  readonly foldedFingerprint: string;
  /** The numbers of tensors and elements of each element type. */
  readonly dtypes: readonly DTypeCount[];
}

/** The number of tensors and elements of one element type. The type with the most elements comes first. */
export interface DTypeCount {
  /** The element type as the file stores it. */
  readonly dtype: DType;
  /** Number of tensors. */
  readonly tensors: number;
  /** Number of elements in all of them. */
  readonly elements: number;
}

/** Size of torchreid's images, which its complexity tables are made with. */
const IMAGE = [1, 3, 256, 128] as const;

/** Describes an identified checkpoint, whose numbers may be invalid. `file` is the decoded file. */
export async function inspectCheckpoint(
  { graph, spec, variant, extra, stateDict, decoded }: Checkpoint,
  file: { readonly name: string; readonly bytes: Bytes },
): Promise<Inspection> {
  const { format, container, wrapperPath, removedPrefix, modelClass, metadata, notes } = decoded;
  return {
    schema: "osnet-inspection/1",
    file: {
      name: file.name,
      bytes: file.bytes.length,
      sha256: await toSource(file.bytes).sha256(),
      format,
      container,
      wrapperPath,
      removedPrefix,
      modelClass,
      metadata: Object.fromEntries(metadata),
      notes,
    },
    network: inspectNetwork({ graph, spec, variant, extra }),
    weights: await inspectWeights(graph, stateDict),
    anomalies: findAnomalies(graph, stateDict),
  };
}

export function inspectNetwork({ graph, spec, variant, extra }: Identified): NetworkInspection {
  return {
    variant: variant ?? null,
    nearest: nearestVariant(spec),
    spec,
    classes: spec.head?.classes ?? null,
    embedding: embeddingWidth(spec),
    parameters: parameterCount(graph),
    multiplyAdds: fits(() => outputShapes(graph, IMAGE)) ? multiplyAdds(graph, IMAGE) : null,
    extra,
  };
}

export async function inspectWeights(graph: LayerGraph, stateDict: StateDict): Promise<WeightsInspection> {
  return {
    scheme: FINGERPRINT_SCHEME,
    fingerprint: await fingerprintWeights(graph, stateDict),
    foldedFingerprint: await fingerprintFolded(graph, stateDict),
    dtypes: countDTypes(stateDict.values()),
  };
}

/** Without an embedding layer, the embedding is the pooled map of the last stage's width. */
function embeddingWidth({ embedding, stages, stem }: OsnetSpec): number {
  return embedding.at(-1) ?? stages.at(-1)?.blocks.at(-1)?.outChannels ?? stem.channels;
}

/** Whether a network can process images of a size. */
function fits(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

export function countDTypes(tensors: Iterable<Tensor>): DTypeCount[] {
  const counts = new Map<DType, DTypeCount>();
  for (const { dtype, data } of tensors) {
    const { tensors, elements } = counts.get(dtype) ?? { tensors: 0, elements: 0 };
    counts.set(dtype, { dtype, tensors: tensors + 1, elements: elements + data.length });
  }
  return [...counts.values()].sort((a, b) => b.elements - a.elements);
}

/**
 * A fingerprint of a network's weights, which shows whether two files contain the same network.
 *
 * SHA-256 of a text in UTF-8: a line `osnet-weights/1`, then one for each parameter and buffer that the embedding is
 * computed from, in the layer graph's order, which is torchreid's `state_dict()` order:
 *
 *     conv1.conv.weight [16, 3, 7, 7] <SHA-256 of its values, row-major, as little-endian float64>
 *
 * The classifier, other heads and `num_batches_tracked` are excluded; container, wrapper, prefix and the order of keys
 * have no effect. Values are widened, which is exact: float32 weights and a float64 copy of them have the same
 * fingerprint, while a half-precision copy, whose values were rounded, has a different one. −0 and 0 differ as their
 * bits do; every NaN is the same NaN, since widening need not keep its payload.
 *
 * A file with folded batch norms has other weights than its checkpoint, and another fingerprint. Both have the same
 * second fingerprint, `osnet-folded-weights/1`: the same text for the weights that folding gives (in float64, rounded
 * to float32 once, and negligible ones set to zero), under their names in files that osnet-convert writes. Exporters
 * that fold in float32 round differently.
 */

/** The first line of the hashed text, which changes whenever the definition of the rest does. */
const FINGERPRINT_SCHEME = "osnet-weights/1";

const FOLDED_SCHEME = "osnet-folded-weights/1";

/** The high word of float64's default quiet NaN. */
const NAN_HIGH_WORD = 0x7ff80000;

/** The fingerprint of a complete state dict, 64 hexadecimal digits. */
export async function fingerprintWeights(graph: LayerGraph, stateDict: StateDict): Promise<string> {
  const lines = [FINGERPRINT_SCHEME];
  for (const { path, shape, optional } of parametersOf(graph)) {
    const tensor = stateDict.get(path);
    if (optional || !tensor || path.startsWith("classifier.")) continue;
    lines.push(`${path} ${formatShape(shape)} ${await sha256(float64Bytes(tensor, path))}`);
  }
  return sha256(new TextEncoder().encode(`${lines.join("\n")}\n`));
}

/** The fingerprint of a complete state dict as it is once every batch norm is folded into the layer before. */
export async function fingerprintFolded(graph: LayerGraph, stateDict: StateDict): Promise<string> {
  const folded = neededNetwork(graph, true, [{ layer: graph.outputs.features }]);
  const written = writtenWeights(folded, stateDict);
  const digests = new Map<string, string>();
  for (const node of folded.nodes) {
    for (const { name, tensor } of Object.values(written.of(node)))
      if (!digests.has(name))
        digests.set(name, `${formatShape(tensor.shape)} ${await sha256(float64Bytes(tensor, name))}`);
  }
  const lines = [FOLDED_SCHEME, ...[...digests].map(([name, digest]) => `${name} ${digest}`)];
  return sha256(new TextEncoder().encode(`${lines.join("\n")}\n`));
}

function float64Bytes(tensor: Tensor, path: string): Uint8Array {
  const { data } = toReal(tensor, path);
  const view = new DataView(new ArrayBuffer(8 * data.length));
  for (let index = 0; index < data.length; index++) {
    const value = data[index] as number;
    if (Number.isNaN(value)) view.setUint32(8 * index + 4, NAN_HIGH_WORD, true);
    else view.setFloat64(8 * index, value, true);
  }
  return new Uint8Array(view.buffer);
}

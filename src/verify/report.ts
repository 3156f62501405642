import type { PixelOrder } from "../convert/export/preprocess.js";
import type { FileFormat } from "../convert/formats/sniff.js";
import type { Shape } from "../core/tensor.js";
import type { BackendName } from "./backends/backend.js";
import type { Cause } from "./explain/index.js";

/**
 * The result of a verification, plain JSON (schema `osnet-parity/1`). Every other report is a rendering of it.
 * Numbers that JSON cannot hold (an infinite margin, a relative error against 0) are null.
 */
export interface ParityReport {
  readonly schema: "osnet-parity/1";
  readonly candidate: Party;
  readonly reference: Party;
  /** What computed the candidate's side. */
  readonly backend: BackendName;
  readonly tolerance: Tolerance;
  /** `pixels`: what the candidate was given, if raw pixels of 0 to 255 instead of normalised images. */
  readonly input: { readonly source: string; readonly shape: Shape; readonly pixels?: PixelOrder };
  readonly passed: boolean;
  /** Where the candidate first departs from the reference, in network order; layers downstream are not blamed. */
  readonly faults: readonly Fault[];
  /** In network order. */
  readonly layers: readonly LayerResult[];
  readonly gates: readonly GateResult[];
  /** The output that counts, a model's first if none was chosen; null when the two sides have none in common. */
  readonly output: OutputResult | null;
  /** A model's other outputs, in their order; absent where there are none. */
  readonly furtherOutputs?: readonly OutputResult[];
  /** Outputs that were not judged, because another one was chosen. */
  readonly notJudged?: readonly string[];
  readonly weights: WeightsResult | null;
  /** Of a model that stores weights in fewer bits: what that costs. Layers are judged on the weights as stored. */
  readonly quantization?: QuantizationResult;
  readonly coverage: Coverage;
  /** What the images could not test, however wrong it were; absent where layers were not judged one by one. */
  readonly vacuity?: Vacuity;
  /** On what the verdict rests: on the structure and the weights, or on these images alone. */
  readonly proof?: Proof;
  /** What to know of a verdict that stands: that the weights were never trained. Absent where there is nothing. */
  readonly warnings?: readonly string[];
  /** How it compares with an earlier report, where one was given. */
  readonly baseline?: BaselineComparison;
  /** The one block that differs between two runs of the same verification. */
  readonly run?: RunFacts;
}

/** One side of a comparison. */
export interface Party {
  /** File name. */
  readonly name: string;
  readonly format: FileFormat;
  /** The published variant, where the file tells. */
  readonly variant?: string;
  /** Hex SHA-256 of the file. */
  readonly sha256?: string;
}

/**
 * `derived-bounds` (auto): each layer, recomputed in float64 from the candidate's own inputs to it, within a bound on
 * rounding. `relative-to-max`: `|actual − expected| ≤ value · max|expected|` against the reference network, per layer.
 */
export type Tolerance = { readonly rule: "derived-bounds" } | RelativeTolerance;

export interface RelativeTolerance {
  readonly rule: "relative-to-max";
  readonly value: number;
}

export type Status = "pass" | "fail" | "untested";

export interface Fault {
  readonly layer: string;
  readonly stream?: number;
  /** All streams in which a gate is wrong in this way, the first of which `layer` and `stream` name; absent if it is one. */
  readonly streams?: readonly number[];
  /** `missing`: the candidate lacks it; `structure`: another shape; `weights`: another parameter; `numeric`: other values. */
  readonly kind: "missing" | "structure" | "weights" | "numeric";
  /** The largest of its streams'. */
  readonly margin: number | null;
  /** What the layer computes instead, where a guess at that explains its values. */
  readonly cause?: Cause;
  readonly explanation: string;
}

export interface LayerResult {
  readonly name: string;
  readonly op: string;
  readonly shape: Shape;
  readonly stream?: number;
  readonly status: Status;
  /** Error over what the tolerance allows; above 1 fails. Under `derived-bounds` the error is the local one. */
  readonly margin: number | null;
  /** Local error: max |actual − what the layer gives in float64 on the candidate's own inputs|. */
  readonly localMaxAbs?: number;
  /** Accumulated error, here and in what follows: max |actual − expected| against the reference network. */
  readonly maxAbs: number;
  readonly relMax: number | null;
  readonly rmse: number;
  readonly cosine: number;
  readonly ulp: number;
  /** Elements that are NaN or infinite and do not match. */
  readonly nonFinite: number;
}

/** The gate vectors of one stream: the candidate's range, and how far it is from the reference's. */
export interface GateResult {
  readonly block: string;
  readonly stream: number;
  readonly min: number;
  readonly mean: number;
  readonly max: number;
  readonly maxAbs: number;
  readonly status: Status;
  /** The gate vector channel by channel, averaged over the images, to six digits. */
  readonly channels?: GateChannels;
}

export interface GateChannels {
  readonly candidate: readonly number[];
  readonly reference: readonly number[];
  /** The largest |candidate − reference| over the images. */
  readonly maxAbs: readonly number[];
}

export interface OutputResult {
  readonly layer: string;
  /** The output as the file calls it; absent for a recording or a checkpoint. */
  readonly name?: string;
  /** What it is: `features`, `logits`, `probabilities`, or a layer. */
  readonly result?: string;
  /** What the model does to that, and the verdict with it: `L2-normalised`. */
  readonly operation?: string;
  readonly status: Status;
  readonly maxAbs: number;
  readonly relMax: number | null;
  readonly cosine: number;
  /** max |actual − expected| after each embedding is divided by its L2 norm. */
  readonly normalizedMaxAbs: number;
  /** The candidate run again without its inner values as outputs: how far that moves the embedding; null if not run. */
  readonly tappingMaxAbs: number | null;
  /** The candidate run again in ways that must not matter; absent where there was no run as it is. */
  readonly reruns?: readonly Rerun[];
}

/** How far another run of the candidate as it is moves the embedding. */
export interface Rerun {
  /** `unoptimised`: without the runtime's graph optimisations. `alone`: images by themselves, against their rows of the batch. */
  readonly how: "unoptimised" | "alone";
  readonly images: number;
  readonly status: "pass" | "fail";
  /** null if there was no embedding to compare. */
  readonly maxAbs: number | null;
  readonly relMax: number | null;
  /** Why there was none. */
  readonly problem?: string;
}

export interface WeightsResult {
  /** Parameters whose bits the candidate must hold. */
  readonly compared: number;
  readonly identical: number;
  /** Convolutions and linear layers that hold a batch norm folded into them, checked by folding again. */
  readonly folded: number;
  /** Parameters that a candidate stores in fewer bits, each value the checkpoint's rounded once; absent where none is. */
  readonly rounded?: number;
  /** Parameters that a quantised candidate holds within half a step of their rounding; absent where none is quantised. */
  readonly quantised?: number;
  /**
   * Weights that the candidate holds as zeros because they cannot be seen (docs/denormals.md), and what that adds to any value at
   * most, in roundings (2⁻²⁴) of its bias; absent where there are none. The parameters that they are part of count as identical.
   */
  readonly zeroed?: { readonly count: number; readonly bound: number };
}

/** The candidate's embedding against the one of the checkpoint's own weights, in float64. */
export interface QuantizationResult {
  /** How weights are stored: `uint8`. */
  readonly dtypes: readonly string[];
  /** Tensors stored in fewer bits. */
  readonly tensors: number;
  readonly maxAbs: number;
  readonly relMax: number | null;
  readonly cosine: number;
  readonly normalizedMaxAbs: number;
}

export interface Coverage {
  /** Layers of the network that this comparison could reach. */
  readonly expected: number;
  readonly compared: number;
  /** Layers that the candidate computes only as part of the next one. */
  readonly folded: readonly string[];
  readonly missing: readonly string[];
}

/** Parts of the network that the images do not exercise: a fault there would not show in the values. */
export interface Vacuity {
  /** Layers that are untested, and in what way, in network order. */
  readonly untested: readonly { readonly layer: string; readonly stream?: number; readonly reason: string }[];
  /** Different images with embeddings nearer to each other than rounding: pairs of image numbers, from 0. */
  readonly collapsed: readonly (readonly [number, number])[];
}

/**
 * `proven`: the candidate's operators, followed from every output back to the images, are the network's with the checkpoint's
 * constants, so that the two are one function in exact arithmetic, for every finite input; the images then only show the
 * runtime's rounding. `sampled`: agreement was seen on these images. Only a report that has passed is ever proven.
 */
export interface Proof {
  readonly status: "proven" | "sampled";
  /** What the proof rests on, or what it lacks, a sentence each. */
  readonly grounds: readonly string[];
  readonly images: number;
}

/** How a report compares with an earlier one of the same verification. */
export interface BaselineComparison {
  /** File name of the earlier report. */
  readonly name: string;
  /** What a figure must have been multiplied by to count. */
  readonly factor: number;
  /** Whether regressions make the report fail. */
  readonly policy: BaselinePolicy;
  /** Worst first, by how much. */
  readonly regressions: readonly Change[];
  readonly improvements: readonly Change[];
  /** Layers that only one of the reports compares. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** What makes the two hard to compare, a clause each. */
  readonly notes: readonly string[];
}

export type BaselinePolicy = "fail" | "warn";

/** A figure of a layer before and now; null is infinite. */
export interface Change {
  readonly layer: string;
  /** `margin`: of the layer. `drift`: accumulated error as a share of the largest value. */
  readonly figure: "margin" | "drift";
  readonly before: number | null;
  readonly after: number | null;
}

/** Where and with what a verification ran. */
export interface RunFacts {
  /** Names and versions: `osnet-convert`, `node`, the runtime's package. */
  readonly versions: Readonly<Record<string, string>>;
  readonly platform: string;
  readonly cpu: string;
  readonly threads: number;
  readonly seconds: number;
}

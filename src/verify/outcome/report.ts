import type { LayerNode } from "../../arch/index.js";
import type { PixelOrder } from "../../convert/export/options.js";
import type { FileFormat } from "../../convert/formats/registry.js";
import type { Shape } from "../../core/tensor.js";
import type { BackendName, RuntimeFacts } from "../backends/backend.js";
import type { Cause } from "../explain/index.js";

/**
 * The result of a verification, plain JSON (schema `osnet-parity/1`). All other reports are rendered from it. Numbers
 * that JSON cannot represent (an infinite margin, a relative error against 0) are null.
 */
export interface ParityReport {
  /** Name and version of the document; the meaning of a version's fields does not change. */
  readonly schema: "osnet-parity/1";
  /** The file under test. */
  readonly candidate: Party;
  /** The file that it is compared with. */
  readonly reference: Party;
  /** What computed the candidate's side. */
  readonly backend: BackendName;
  /** The browser and GPU that it ran on, if any. */
  readonly runtime?: RuntimeFacts;
  /** How much a layer may differ. */
  readonly tolerance: Tolerance;
  /** `pixels`: the input of the candidate, if raw pixels from 0 to 255 instead of normalised images. */
  readonly input: { readonly source: string; readonly shape: Shape; readonly pixels?: PixelOrder };
  /** Whether there are no faults, and no regression that fails. */
  readonly passed: boolean;
  /** Where the candidate first differs from the reference, in network order; layers downstream are not blamed. */
  readonly faults: readonly Fault[];
  /** In network order. */
  readonly layers: readonly LayerResult[];
  /** Every stream's gate, in network order. */
  readonly gates: readonly GateResult[];
  /** The judged output, a model's first if none was chosen; null if the two sides have none in common. */
  readonly output: OutputResult | null;
  /** A model's other outputs, in their order; absent if there are none. */
  readonly furtherOutputs?: readonly OutputResult[];
  /** Outputs that were not judged, because another one was chosen. */
  readonly notJudged?: readonly string[];
  /** The constants; null if the reference is not a checkpoint or the candidate has no constants to compare. */
  readonly weights: WeightsResult | null;
  /** For a model with quantised weights: the loss. Layers are judged on the weights as stored. */
  readonly quantization?: QuantizationResult;
  /** Which layers could be compared, and which were. */
  readonly coverage: Coverage;
  /** What the images leave untested; absent if layers were not judged one by one. */
  readonly vacuity?: Vacuity;
  /** What the verdict rests on: the structure and the weights, or these images alone. */
  readonly proof?: Proof;
  /** Warnings that do not affect the verdict: that the weights were never trained. Absent if there are none. */
  readonly warnings?: readonly string[];
  /** The comparison with an earlier report, if one was given. */
  readonly baseline?: BaselineComparison;
  /** The one block that differs between two runs of the same verification. */
  readonly run?: RunFacts;
}

/** One side of a comparison. */
export interface Party {
  /** File name. */
  readonly name: string;
  /** The file's format, by its content. */
  readonly format: FileFormat;
  /** The published variant, if the file shows it. */
  readonly variant?: string;
  /** SHA-256 of the file and its weight files: equal for equal files. 64 hexadecimal digits. */
  readonly sha256?: string;
}

/**
 * `derived-bounds` (auto): each layer, recomputed in float64 from the candidate's own inputs, within a rounding bound.
 * `relative-to-max`: `|actual − expected| ≤ value · max|expected|` against the reference network, per layer.
 */
export type Tolerance = { readonly rule: "derived-bounds" } | RelativeTolerance;

/** One limit for every layer, as in `--tolerance NUMBER`. */
export interface RelativeTolerance {
  /** The discriminant of the two kinds of tolerance. */
  readonly rule: "relative-to-max";
  /** The largest error allowed, as a share of the layer's largest value: 0.001 is 0.1 %. */
  readonly value: number;
}

/** `untested`: the images cannot show whether it is right. */
export type Status = "pass" | "fail" | "untested";

/** A place where the candidate is wrong. */
export interface Fault {
  /** The place: a layer of the network, or `images` for everything before it. */
  readonly layer: string;
  /** The stream it belongs to, from 1; absent outside the streams. */
  readonly stream?: number;
  /**
   * All streams in which a gate has this fault, of which `layer` and `stream` name the first; absent if there is only
   * one.
   */
  readonly streams?: readonly number[];
  /**
   * `missing`: the candidate lacks it; `structure`: another shape or operation; `weights`: another parameter;
   * `numeric`: other values.
   */
  readonly kind: "missing" | "structure" | "weights" | "numeric";
  /** The largest of its streams'. */
  readonly margin: number | null;
  /** The name of the explanation for the layer's values, if one was found. */
  readonly cause?: Cause;
  /** What is wrong, in a sentence or two. */
  readonly explanation: string;
}

/** A fault before those of several streams are merged (`mergeFaults`), with what that and other faults depend on. */
export interface FaultDraft extends Fault {
  /** Which difference of structure it is; `quantised`: of an activation. */
  readonly difference?: "inserted" | "own-weights" | "second" | "quantised";
  /** The explanation without what was measured in its stream; default: all of it. */
  readonly says?: string;
}

/** One layer's output on both sides. */
export interface LayerResult {
  /** The layer's name in the network's graph. */
  readonly name: string;
  /** Its operation, such as `conv`. */
  readonly op: string;
  /** The shape of its output: [N, C, H, W], or [N, C] after pooling. */
  readonly shape: Shape;
  /** The stream it belongs to, from 1; absent outside the streams. */
  readonly stream?: number;
  /** Whether it is within the tolerance. */
  readonly status: Status;
  /** The error divided by the allowed one; above 1 fails. With `derived-bounds` the error is the local one. */
  readonly margin: number | null;
  /** Local error: max |actual − value recomputed in float64 from the candidate's own inputs|. */
  readonly localMaxAbs?: number;
  /** Accumulated error, here and below: max |actual − expected| against the reference network. */
  readonly maxAbs: number;
  /** `maxAbs` / max |expected|; null if the expected values are all 0 and the actual ones are not. */
  readonly relMax: number | null;
  /** √ mean (actual − expected)². */
  readonly rmse: number;
  /** Cosine of the angle between both outputs as vectors: 1 if they agree. */
  readonly cosine: number;
  /** The largest number of float32 values between the two; large if a value cancels to near 0. */
  readonly ulp: number;
  /** Elements that are NaN or infinite and do not match. */
  readonly nonFinite: number;
}

/** The gate vectors of one stream: the candidate's range, and its distance from the reference's. */
export interface GateResult {
  /** Path of the residual block, such as `conv2.0`. */
  readonly block: string;
  /** The stream that it scales, from 1. */
  readonly stream: number;
  /** The candidate's smallest gate value, over all images and channels. */
  readonly min: number;
  /** The mean of the candidate's gate values. */
  readonly mean: number;
  /** The candidate's largest gate value. */
  readonly max: number;
  /** max |actual − expected| against the reference network. */
  readonly maxAbs: number;
  /** `pass`, `fail`, or `untested` if the images cannot show it. */
  readonly status: Status;
  /** The gate vector by channel, averaged over the images, to six digits. */
  readonly channels?: GateChannels;
}

/** Gate vectors by channel, each [C] and averaged over the images. */
export interface GateChannels {
  /** Means of the candidate's gate, 0 to 1 for a sigmoid. */
  readonly candidate: readonly number[];
  /** Means of the reference's gate, by channel. */
  readonly reference: readonly number[];
  /** The largest |candidate − reference| over the images, by channel. */
  readonly maxAbs: readonly number[];
}

/** An output of the model on both sides. */
export interface OutputResult {
  /** The network's layer of the output. */
  readonly layer: string;
  /** The output's name in the file; absent for a recording or a checkpoint. */
  readonly name?: string;
  /** The kind of result: `features`, `logits`, `probabilities`, or a layer. */
  readonly result?: string;
  /** The operation after it, which the verifier also computes: `L2-normalised`. */
  readonly operation?: string;
  /** Whether it is within the tolerance. */
  readonly status: Status;
  /** max |actual − expected| against the reference network. */
  readonly maxAbs: number;
  /** `maxAbs` / max |expected|; null if the expected values are all 0 and the actual ones are not. */
  readonly relMax: number | null;
  /** Cosine of the angle between both outputs, all images as one vector: 1 if they agree. */
  readonly cosine: number;
  /** max |actual − expected| after each embedding is divided by its L2 norm. */
  readonly normalizedMaxAbs: number;
  /** How much the embedding changes when the candidate runs without intermediate outputs; null if not run. */
  readonly tappingMaxAbs: number | null;
  /** Reruns of the candidate in ways that must not matter; absent if the unmodified model was not run. */
  readonly reruns?: readonly Rerun[];
}

/** How much the embedding changes in another run of the unmodified candidate. */
export interface Rerun {
  /**
   * `unoptimised`: without the runtime's graph optimisations. `alone`: single images, compared with their rows of the
   * batch.
   */
  readonly how: "unoptimised" | "alone";
  /** How many images were run. */
  readonly images: number;
  /** Whether the embedding changes by no more than rounding. */
  readonly status: "pass" | "fail";
  /** null if there was no embedding to compare. */
  readonly maxAbs: number | null;
  /** `maxAbs` divided by the embedding's largest value; null if there was nothing to compare. */
  readonly relMax: number | null;
  /** Why there was nothing to compare. */
  readonly problem?: string;
}

/** The candidate's constants against the checkpoint's, bit for bit. */
export interface WeightsResult {
  /** The number of parameters compared. */
  readonly compared: number;
  /** How many of those are bit-identical. */
  readonly identical: number;
  /** Convolutions and linear layers with a batch norm folded into them, checked by folding again. */
  readonly folded: number;
  /** Parameters stored in a narrower float type, each value the checkpoint's rounded once, or with zeros for denormal biases and statistics; absent if there are none. */
  readonly rounded?: number;
  /** Quantised parameters within half a step of the checkpoint's; absent if none is quantised. */
  readonly quantised?: number;
  /**
   * Negligible weights that the candidate has as zeros (docs/denormals.md), and the most that this changes any value,
   * in roundings (2⁻²⁴) of its bias; absent if there are none. Their parameters count as identical.
   */
  readonly zeroed?: { readonly count: number; readonly bound: number };
}

/** The candidate's embedding compared with that of the checkpoint's own weights, in float64. */
export interface QuantizationResult {
  /** How weights are stored: `uint8`. */
  readonly dtypes: readonly string[];
  /** Tensors stored in fewer bits. */
  readonly tensors: number;
  /** max |actual − expected| of the embedding. */
  readonly maxAbs: number;
  /** `maxAbs` / max |expected|; null if the expected values are all 0. */
  readonly relMax: number | null;
  /** Cosine of the angle between both embeddings, all images as one vector: 1 if they agree. */
  readonly cosine: number;
  /** max |actual − expected| after each embedding is divided by its L2 norm. */
  readonly normalizedMaxAbs: number;
}

/** Which of the network's layers were compared. */
export interface Coverage {
  /** Number of layers that this comparison could reach. */
  readonly expected: number;
  /** Number of layers that were compared. */
  readonly compared: number;
  /** Layers that the candidate computes only as part of the next one. */
  readonly folded: readonly string[];
  /** Layers without a value in the candidate that could have been compared: each is a fault. */
  readonly missing: readonly string[];
}

/** Parts of the network that the images do not exercise: a fault there would not show in the values. */
export interface Vacuity {
  /** Untested layers and the reasons, in network order. */
  readonly untested: readonly { readonly layer: string; readonly stream?: number; readonly reason: string }[];
  /** Different images whose embeddings are equal to within rounding: pairs of image numbers, from 0. */
  readonly collapsed: readonly (readonly [number, number])[];
}

/**
 * `proven`: the candidate's operators, followed from every output back to the images, are the network's with the
 * checkpoint's constants, so that the two are the same function in exact arithmetic, for every finite input; the images
 * then only test the runtime's rounding. `sampled`: they agree on these images. Only a passing report is ever proven.
 */
export interface Proof {
  /** The claim of the report. */
  readonly status: "proven" | "sampled";
  /** The basis of the proof, or what it lacks, one sentence each. */
  readonly grounds: readonly string[];
  /** The proof applies to normalised images with values up to this; absent if it applies to every input. */
  readonly within?: number;
  /** The number of images on which they agree. */
  readonly images: number;
}

/** How a report compares with an earlier one of the same verification. */
export interface BaselineComparison {
  /** File name of the earlier report. */
  readonly name: string;
  /** The factor by which a figure must change to count. */
  readonly factor: number;
  /** Whether regressions make the report fail. */
  readonly policy: BaselinePolicy;
  /** Worst first, by how much. */
  readonly regressions: readonly Change[];
  /** Figures that are better by at least the factor, the most improved first. */
  readonly improvements: readonly Change[];
  /** Layers that only one of the reports compares. */
  readonly added: readonly string[];
  /** Layers that only the earlier report has. */
  readonly removed: readonly string[];
  /** Reasons why the two are hard to compare, one clause each. */
  readonly notes: readonly string[];
}

/** Whether a regression makes the report fail, or is only reported. */
export type BaselinePolicy = "fail" | "warn";

/** A figure of a layer before and now; null is infinite. */
export interface Change {
  /** The layer of the figure. */
  readonly layer: string;
  /** `margin`: of the layer. `drift`: accumulated error relative to the largest value. */
  readonly figure: "margin" | "drift";
  /** In the earlier report. */
  readonly before: number | null;
  /** In this one. */
  readonly after: number | null;
}

/** The machine and versions of a verification. */
export interface RunFacts {
  /** Names and versions: `osnet-convert`, `node`, the runtime's package. */
  readonly versions: Readonly<Record<string, string>>;
  /** Operating system and processor architecture, such as `linux x64`. */
  readonly platform: string;
  /** Model name of the processor. */
  readonly cpu: string;
  /** Processors available to the run. */
  readonly threads: number;
  /** Wall-clock time of the verification. */
  readonly seconds: number;
}

/**
 * Whether a report passes by its own figures: no fault, no failure, something that was judged, and no failing
 * regression. The same rule for new reports and for those read from a file.
 */
export function holds({
  faults,
  layers,
  gates,
  output,
  baseline,
}: Pick<ParityReport, "faults" | "layers" | "gates" | "output" | "baseline">): boolean {
  const statuses = [...layers, ...gates, ...(output ? [output] : [])].map(({ status }) => status);
  return (
    faults.length === 0 &&
    !statuses.includes("fail") &&
    layers.some(({ status }) => status === "pass") &&
    !(baseline?.policy === "fail" && baseline.regressions.length > 0)
  );
}

/** A report from a file, with its verdict recomputed, since the file is not trusted. */
export function recounted(report: ParityReport): ParityReport {
  return { ...report, passed: holds(report) };
}

/** A fault at a layer of the network. */
export function layerFault(
  node: Pick<LayerNode, "name" | "stream">,
  kind: Fault["kind"],
  margin: number | null,
  explanation: string,
): Fault {
  return {
    layer: node.name,
    ...(node.stream === undefined ? {} : { stream: node.stream }),
    kind,
    margin,
    explanation,
  };
}

/** Whether an absent layer needs no fault of its own: it has one already, or its whole stream is missing. */
export function explainedBy(
  structure: readonly Pick<Fault, "layer" | "stream">[],
  nodes: ReadonlyMap<string, LayerNode>,
): (node: LayerNode) => boolean {
  const place = ({ block, stream }: Pick<LayerNode, "block" | "stream">): string => `${block} ${stream}`;
  const layers = new Set(structure.map(({ layer }) => layer));
  const streams = new Set(
    structure.flatMap(({ layer, stream }) => {
      const node = nodes.get(layer);
      return node && stream !== undefined ? [place(node)] : [];
    }),
  );
  return (node) => layers.has(node.name) || (node.stream !== undefined && streams.has(place(node)));
}

/** All layers with this fault: one, or a gate's in several streams. */
export function faultLayers({
  layer,
  stream,
  streams,
}: Pick<Fault, "layer" | "stream" | "streams">): readonly string[] {
  return streams ? streams.map((each) => layer.replace(`[${stream}]`, `[${each}]`)) : [layer];
}

/** The place of a fault in reports: `conv2.0.gate[1–4].fc2`. */
export function faultName({
  layer,
  stream,
  streams = [],
}: Pick<Fault, "layer" | "stream" | "streams">): string {
  const [first, last] = [streams[0], streams.at(-1)];
  if (first === undefined || last === undefined || first === last) return layer;
  const isRange = streams.length > 2 && last - first === streams.length - 1;
  return layer.replace(`[${stream}]`, `[${isRange ? `${first}–${last}` : streams.join(", ")}]`);
}

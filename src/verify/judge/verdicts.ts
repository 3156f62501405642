import type { GateOutput, LayerNode } from "../../arch/index.js";
import type { RealTensor } from "../../core/tensor.js";
import { type FloatDType, type HalfDType, isHalf } from "../../core/tensor-cast.js";
import { isRounding, type LocalError } from "../bounds/local-error.js";
import { measure, normalizeRows, type TensorMetrics } from "../outcome/metrics.js";
import type {
  GateChannels,
  GateResult,
  LayerResult,
  OutputResult,
  RelativeTolerance,
  Status,
  Tolerance,
} from "../outcome/report.js";

/**
 * Judges one layer: `|actual − expected| ≤ tolerance · max|expected|` for every element, in float64.
 *
 * @param metrics of the actual values against the expected ones
 */
export function judgeLayer(
  node: LayerNode,
  metrics: TensorMetrics,
  actual: RealTensor,
  tolerance: RelativeTolerance,
): LayerResult {
  return {
    ...layerResult(node, actual, metrics),
    status: statusOf(metrics, tolerance),
    margin: finite(marginOf(metrics, tolerance)),
  };
}

function layerResult(
  node: LayerNode,
  { shape }: RealTensor,
  metrics: TensorMetrics,
): Omit<LayerResult, "status" | "margin"> {
  return {
    name: node.name,
    op: node.op.kind,
    shape,
    ...(node.stream === undefined ? {} : { stream: node.stream }),
    maxAbs: metrics.maxAbs,
    relMax: finite(metrics.relMax),
    rmse: metrics.rmse,
    cosine: metrics.cosine,
    ulp: metrics.ulp,
    nonFinite: metrics.mismatchedNonFinite,
  };
}

/**
 * Judges one layer by its error given the candidate's own inputs, compared with the rounding bound; its distance from
 * the reference network is reported and not judged.
 *
 * @param metrics of the actual values against the reference network's
 * @param error undefined if the candidate has no values for the layer's inputs
 */
export function judgeLocally(
  node: LayerNode,
  metrics: TensorMetrics,
  actual: RealTensor,
  error: LocalError | undefined,
): LayerResult {
  if (!error) return { ...layerResult(node, actual, metrics), status: "untested", margin: null };
  const { margin, spread, maxAbs, nonFinite, unjudged } = error;
  // A layer that reads nothing but NaN and infinities could compute anything.
  if (unjudged > 0 && unjudged === actual.data.length)
    return { ...layerResult(node, actual, metrics), status: "untested", margin: null };
  return {
    ...layerResult(node, actual, metrics),
    status: isRounding(error) ? "pass" : "fail",
    margin: finite(Math.max(margin, spread)),
    localMaxAbs: maxAbs,
    nonFinite: Math.max(nonFinite, metrics.mismatchedNonFinite),
  };
}

/** A stream's gate vectors [N, C, 1, 1], with the verdict of the layer that computes them. */
export function gateResult(
  gate: GateOutput,
  expected: RealTensor,
  actual: RealTensor,
  { maxAbs, status }: LayerResult,
): GateResult {
  let [min, max, sum] = [Infinity, -Infinity, 0];
  for (const value of actual.data) {
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
  }
  const mean = sum / actual.data.length;
  const channels = gateChannels(expected, actual);
  return { block: gate.block, stream: gate.stream, min, mean, max, maxAbs, status, channels };
}

/** Significant digits of a gate's values in reports. */
const DIGITS = 6;

function gateChannels(expected: RealTensor, actual: RealTensor): GateChannels {
  const [images = 1, count = 0] = actual.shape;
  const over = (combine: (values: readonly number[]) => number, of: (index: number) => number): number[] =>
    Array.from({ length: count }, (_, channel) => {
      const values = Array.from({ length: images }, (_, image) => of(image * count + channel));
      return Number(combine(values).toPrecision(DIGITS));
    });
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / images;
  const [e, a] = [expected.data, actual.data];
  return {
    candidate: over(mean, (i) => a[i] as number),
    reference: over(mean, (i) => e[i] as number),
    maxAbs: over(
      (values) => Math.max(...values),
      (i) => Math.abs((a[i] as number) - (e[i] as number)),
    ),
  };
}

/**
 * Tolerance for the embedding in a run without intermediate outputs, relative to its largest value, if layers are
 * judged by bounds: runtimes then fuse other layers, and the roundings of a deep network add up to 1e-5.
 */
export const TAPPING_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 1e-3 };

/**
 * In half precision, the run with intermediate outputs rounds all of them, which adds up to more than that. The other
 * run rounds fewer, and must not be farther from the reference than this many times the first, since a single
 * number's drift is chance.
 */
const DRIFT_FACTOR = 4;

/**
 * The largest drift of half precision, relative to the embedding's largest value: correct networks have up to 0.01 in float16, and 0.1
 * in bfloat16.
 */
const MAX_DRIFT = { float16: 2 ** -4, others: 0.25 } as const;

/** How far an embedding may be from the reference's if another run of the same file is this far, both as shares of its largest value. */
export function driftTolerance(drift: number | null, precision?: FloatDType): number {
  const most = precision === "float16" ? MAX_DRIFT.float16 : MAX_DRIFT.others;
  return Math.max(TAPPING_TOLERANCE.value, Math.min(most, DRIFT_FACTOR * (drift ?? 0)));
}

/**
 * Judges the embedding as a program receives it: compared with the reference's, or, if every layer that leads to it is
 * judged by its bound, with the same embedding from the run with intermediate outputs.
 *
 * @param tapped the candidate's embedding from the run with intermediate outputs
 * @param plain the same from a run of the unmodified model, if the backend distinguishes the two
 * @param precision the type in which the candidate's values are stored, if not the one that they are given in
 */
export function judgeOutput(
  layer: string,
  expected: RealTensor,
  tapped: RealTensor,
  plain: RealTensor | undefined,
  tolerance: Tolerance,
  precision?: FloatDType,
): OutputResult {
  const actual = plain ?? tapped;
  const metrics = measure(expected, actual);
  const moved = plain && measure(tapped, plain);
  const status =
    tolerance.rule === "relative-to-max"
      ? statusOf(metrics, tolerance)
      : moved
        ? tappingStatus(moved, metrics, measure(expected, tapped), precision)
        : "pass";
  return {
    layer,
    status: metrics.mismatchedNonFinite > 0 ? "fail" : status,
    maxAbs: metrics.maxAbs,
    relMax: finite(metrics.relMax),
    cosine: metrics.cosine,
    normalizedMaxAbs: measure(normalizeRows(expected), normalizeRows(actual)).maxAbs,
    tappingMaxAbs: moved ? moved.maxAbs : null,
  };
}

/** Tolerance for an embedding in half precision, as a share of its largest value, if rounding the weights alone moves it by this share. */
export function roundingTolerance(share: number, precision: HalfDType): number {
  return Math.max(FOLDED_HALF[precision], Math.min(MAX_DRIFT.others, ROUNDING_FACTOR * share));
}

/** Correct files are up to 2.7 times as far off: their values are rounded too. */
const ROUNDING_FACTOR = 5;

/** Tolerance for an embedding that other kernels compute, as a share of its largest value. */
export function rerunTolerance({ relMax }: OutputResult, precision?: FloatDType): number {
  return isHalf(precision) ? driftTolerance(relMax, precision) : TAPPING_TOLERANCE.value;
}

function tappingStatus(
  moved: TensorMetrics,
  plain: TensorMetrics,
  tapped: TensorMetrics,
  precision: FloatDType | undefined,
): Status {
  if (!isHalf(precision)) return statusOf(moved, TAPPING_TOLERANCE);
  const folded = FOLDED_HALF[precision];
  // Where a network amplifies rounding, both runs are far from the reference, and near each other.
  if (statusOf(moved, { ...TAPPING_TOLERANCE, value: folded }) === "pass") return "pass";
  const value = Math.max(folded, driftTolerance(tapped.relMax, precision));
  return statusOf(plain, { ...TAPPING_TOLERANCE, value });
}

/**
 * How far an embedding in half precision may be off, as a share of its largest value, if the runtime folds batch norms into weights that were
 * exact in that type: correct networks have up to 0.008 in float16, and 0.06 in bfloat16.
 */
const FOLDED_HALF: Readonly<Record<HalfDType, number>> = { float16: 2 ** -6, bfloat16: 2 ** -3 };

function statusOf(
  { mismatchedNonFinite, maxAbs, scale }: TensorMetrics,
  { value }: RelativeTolerance,
): Status {
  return mismatchedNonFinite === 0 && maxAbs <= value * scale ? "pass" : "fail";
}

function marginOf(
  { mismatchedNonFinite, maxAbs, scale }: TensorMetrics,
  { value }: RelativeTolerance,
): number {
  if (mismatchedNonFinite > 0) return Infinity;
  return maxAbs === 0 ? 0 : maxAbs / (value * scale);
}

/** A figure of a report: JSON has no infinite numbers. */
export function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

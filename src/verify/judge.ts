import type { GateOutput, LayerNode } from "../arch/index.js";
import type { RealTensor } from "../tensor.js";
import { measure, normalizeRows, type TensorMetrics } from "./metrics.js";
import type { GateResult, LayerResult, OutputResult, RelativeTolerance, Status } from "./report.js";

/** Judges one layer: `|actual − expected| ≤ tolerance · max|expected|` for every element, in float64. */
export function judgeLayer(
  node: LayerNode,
  expected: RealTensor,
  actual: RealTensor,
  tolerance: RelativeTolerance,
): LayerResult {
  const metrics = measure(expected, actual);
  return {
    name: node.name,
    op: node.op.kind,
    shape: actual.shape,
    ...(node.stream === undefined ? {} : { stream: node.stream }),
    status: statusOf(metrics, tolerance),
    margin: finite(marginOf(metrics, tolerance)),
    maxAbs: metrics.maxAbs,
    relMax: finite(metrics.relMax),
    rmse: metrics.rmse,
    cosine: metrics.cosine,
    ulp: metrics.ulp,
    nonFinite: metrics.mismatchedNonFinite,
  };
}

/** A stream's gate vectors, with the verdict of the layer that computes them. */
export function gateResult(
  gate: GateOutput,
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
  return { block: gate.block, stream: gate.stream, min, mean, max, maxAbs, status };
}

/**
 * Judges the embedding as the model's user gets it.
 *
 * @param tapped the candidate's embedding from the run that also gave its inner values
 * @param plain the same from a run of the model as it is, where the backend can tell them apart
 */
export function judgeOutput(
  layer: string,
  expected: RealTensor,
  tapped: RealTensor,
  plain: RealTensor | undefined,
  tolerance: RelativeTolerance,
): OutputResult {
  const actual = plain ?? tapped;
  const metrics = measure(expected, actual);
  return {
    layer,
    status: statusOf(metrics, tolerance),
    maxAbs: metrics.maxAbs,
    relMax: finite(metrics.relMax),
    cosine: metrics.cosine,
    normalizedMaxAbs: measure(normalizeRows(expected), normalizeRows(actual)).maxAbs,
    tappingMaxAbs: plain ? measure(tapped, plain).maxAbs : null,
  };
}

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

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

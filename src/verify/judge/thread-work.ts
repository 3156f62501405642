import { type LayerGraph, outputShapes } from "../../arch/index.js";
import { discard } from "../../core/bytes.js";
import { copyOf, type RealTensor, type Shape, type StateDict, type Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import type { Numerics } from "../backends/backend.js";
import { type Arithmetic, arithmeticOf, foldedNarrow } from "../bounds/bound.js";
import { isOverflow, isRounding, type LocalError, localError } from "../bounds/local-error.js";
import { type LayerGroup, type Recomputed, recomputer } from "../bounds/recompute.js";
import { measure, type TensorMetrics } from "../outcome/metrics.js";
import type { Elements } from "../reference/elements.js";
import type { Engine } from "../reference/engine.js";
import { type EvaluatedLayer, evaluate } from "../reference/evaluate.js";
import { float64Parameters } from "../reference/evaluate-layer.js";
import { vectorEngine } from "../reference/vector-engine.js";

/** The inputs of a float64 run, as plain data that can be sent to a thread. */
export interface ReferenceSetting {
  readonly graph: LayerGraph;
  readonly images: Tensor<"float32">;
  readonly network: StateDict;
  /** Names of the layers that will be requested. */
  readonly wanted: readonly string[];
  /** Names of the layers whose values are requested, not only their distance from others. */
  readonly returned: readonly string[];
}

/** The distance between a candidate's value and the reference network's. */
export interface Measured {
  readonly metrics: TensorMetrics;
  /** The reference network's value, for layers that are to be returned. */
  readonly expected?: RealTensor;
}

/** A run of the reference network, up to the requested layer. */
export interface ReferenceRun {
  measure(name: string, actual: RealTensor): Measured;
  /** Computes and keeps one more layer, if there is one and memory for it; returns false otherwise. */
  runAhead(): boolean;
}

/** Maximum bytes of copies of layers computed ahead. */
const AHEAD = 2 * 2 ** 20;

/** @param onRelease called when memory has become garbage, since later layers need less */
export function referenceRun(
  { graph, images, network, wanted, returned }: ReferenceSetting,
  onRelease: () => void = () => undefined,
): ReferenceRun {
  let loops: Elements | undefined;
  const engine = (elements: number): Engine => {
    if (loops) onRelease();
    const made = vectorEngine(elements);
    loops = made;
    return made;
  };
  const layers = evaluate(graph, network, images, { reuseMemory: true, engine });
  const remaining = new Set(wanted);
  const whole = new Set(returned);
  const waiting = new Map<string, RealTensor>();
  // Computed ahead, and not copied: the first layers are large.
  let last: EvaluatedLayer | undefined;
  let ahead = 0;

  function wait({ name, tensor: { dtype, shape, data } }: EvaluatedLayer): void {
    waiting.set(name, { dtype, shape, data: data.slice() });
    ahead += data.byteLength;
  }

  /** The value, and whether it is a copy. */
  function reach(name: string): { readonly tensor: RealTensor; readonly isCopy: boolean } {
    const known = waiting.get(name);
    if (known) {
      waiting.delete(name);
      ahead -= known.data.byteLength;
      return { tensor: known, isCopy: true };
    }
    for (;;) {
      const next = last ?? layers.next().value;
      last = undefined;
      if (!next) throw new Error(`the network has no layer ${name} to come`);
      if (next.name === name) return { tensor: next.tensor, isCopy: false };
      if (remaining.has(next.name)) wait(next);
    }
  }

  return {
    measure(name, actual) {
      const { tensor, isCopy } = reach(name);
      remaining.delete(name);
      const metrics = measure(tensor, actual, isCopy ? undefined : loops);
      const expected = whole.has(name) && copyOf(tensor);
      if (isCopy) discard(tensor.data);
      return expected ? { metrics, expected } : { metrics };
    },
    runAhead() {
      if (last && ahead + last.tensor.data.byteLength > AHEAD) return false;
      if (last) wait(last);
      last = undefined;
      if (remaining.size === waiting.size) return false;
      const next = layers.next().value;
      if (!next) return false;
      if (remaining.has(next.name)) last = next;
      return true;
    },
  };
}

/** The inputs of judging layers, as plain data that can be sent to a thread. */
export interface GroupSetting {
  readonly graph: LayerGraph;
  /** [N, 3, H, W] */
  readonly images: Shape;
  /** Names of the layers that the candidate will show. */
  readonly shown: readonly string[];
  /** The checkpoint's parameters. */
  readonly parameters: StateDict;
  /** The element type of the candidate's values and weights. */
  readonly precision: FloatDType;
  /** The numerical properties of its runtime. */
  readonly numerics?: Numerics | undefined;
  /** Whether batch norms may have been folded in that type. */
  readonly foldsNarrow: boolean;
}

/** The error of a layer on the candidate's own inputs to it. */
export interface Judgement {
  readonly error: LocalError;
  /** Set for an overflow: the largest value in exact arithmetic. */
  readonly overflow?: number;
}

/** The values that a group reads, by the names of their layers. */
export type Source = (name: string) => RealTensor;

/** Recomputes groups of layers on the candidate's values, one at a time. */
export interface GroupJudge {
  judge(group: LayerGroup, actual: RealTensor, source: Source): Judgement;
  /** The memory that judging a group takes, in elements. */
  sizeOf(group: LayerGroup): number;
  /** The values that `judge` compares with; valid until the next group is recomputed. */
  recompute(group: LayerGroup, source: Source): Recomputed;
}

/**
 * Takes a group to judge, of which other threads know too.
 *
 * @param taken a mark for each group that a thread has taken
 * @returns whether no other thread has taken it
 */
export function take(taken: Int32Array, index: number): boolean {
  return Atomics.exchange(taken, index, 1) === 0;
}

export function settingArithmetic({ precision, numerics, foldsNarrow }: GroupSetting): Arithmetic {
  const plain = arithmeticOf(precision, numerics);
  return foldsNarrow ? foldedNarrow(plain) : plain;
}

/**
 * @param most the memory of the largest group that will be judged, in elements; by default that of any group
 * @param onRelease called when memory has become garbage, since later groups need less
 */
export function groupJudge(setting: GroupSetting, most?: number, onRelease?: () => void): GroupJudge {
  const { graph, images, parameters } = setting;
  const arithmetic = settingArithmetic(setting);
  const { recompute, sizeOf } = recomputer(
    graph,
    outputShapes(graph, images),
    float64Parameters(parameters),
    arithmetic,
    most,
    onRelease,
  );
  return {
    recompute,
    sizeOf,
    judge(group, actual, source) {
      const { output, bound, loops } = recompute(group, source);
      const readsNaN = (): boolean => group.sources.some((name) => source(name).data.some(Number.isNaN));
      const error = localError(actual, output, bound, readsNaN, loops);
      return !isRounding(error) && isOverflow(actual, output, bound, arithmetic.largest)
        ? { error, overflow: largestOf(output) }
        : { error };
    },
  };
}

function largestOf({ data }: RealTensor): number {
  let most = 0;
  for (const value of data) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  return most;
}

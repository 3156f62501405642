import { type LayerGraph, outputShapes } from "../../arch/index.js";
import type { RealTensor, Shape, StateDict } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import { type Arithmetic, arithmeticOf, foldedNarrow } from "../bounds/bound.js";
import { isOverflow, isRounding, type LocalError, localError } from "../bounds/local-error.js";
import type { Numerics } from "../bounds/numerics.js";
import { type LayerGroup, type Recomputed, recomputer } from "../bounds/recompute.js";
import { float64Parameters } from "../reference/parameters.js";

/** What the judgement of single layers depends on, as plain data: another thread may be sent it. */
export interface GroupSetting {
  readonly graph: LayerGraph;
  /** [N, 3, H, W] */
  readonly images: Shape;
  /** Names of the layers that the candidate will show. */
  readonly shown: readonly string[];
  /** The checkpoint's parameters. */
  readonly parameters: StateDict;
  /** What the candidate's values and weights are stored in. */
  readonly precision: FloatDType;
  /** How its runtime rounds. */
  readonly numerics?: Numerics | undefined;
  /** Whether batch norms may have been folded in it. */
  readonly foldsNarrow: boolean;
}

/** How far a layer is off on the candidate's own inputs to it. */
export interface Judgement {
  readonly error: LocalError;
  /** Present if that is an overflow: the largest value in exact arithmetic. */
  readonly overflow?: number;
}

/** The values that a group reads, by the names of their layers. */
export type Source = (name: string) => RealTensor;

/** Recomputes groups of layers on the candidate's values, one at a time. */
export interface GroupJudge {
  judge(group: LayerGroup, actual: RealTensor, source: Source): Judgement;
  /** What `judge` holds the candidate's values against; valid until the next group is recomputed. */
  recompute(group: LayerGroup, source: Source): Recomputed;
}

export function settingArithmetic({ precision, numerics, foldsNarrow }: GroupSetting): Arithmetic {
  const plain = arithmeticOf(precision, numerics);
  return foldsNarrow ? foldedNarrow(plain) : plain;
}

export function groupJudge(setting: GroupSetting): GroupJudge {
  const { graph, images, parameters } = setting;
  const arithmetic = settingArithmetic(setting);
  const { recompute } = recomputer(
    graph,
    outputShapes(graph, images),
    float64Parameters(parameters),
    arithmetic,
  );
  return {
    recompute,
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

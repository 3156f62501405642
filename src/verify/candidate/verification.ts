import type { LayerGraph } from "../../arch/index.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import type { Backend } from "../backends/backend.js";
import type { QuantizationResult, RelativeTolerance, Tolerance } from "../outcome/report.js";
import type { WeightsComparison } from "../weights/compare-weights.js";
import type { Candidate, Program, Side } from "./candidate.js";

/** The default tolerance if there is no checkpoint to recompute layers from. */
export const DEFAULT_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 1e-4 };

/** `--tolerance auto`. */
export const DERIVED_BOUNDS: Tolerance = { rule: "derived-bounds" };

/** Two sides, the images that both run on, and what is known about them beforehand. */
export interface Verification {
  /** The expected network of both sides, with batch norms unfolded. */
  readonly graph: LayerGraph;
  /** The side under test. */
  readonly candidate: Candidate;
  /** What it is compared with. */
  readonly reference: Side;
  /** [N, 3, height, width] float32, RGB, normalised as torchreid does. */
  readonly images: Tensor<"float32">;
  /** The candidate's batch size, if fixed. */
  readonly batch?: number;
  /** For a model as the reference: its outputs as a program receives them. */
  readonly referenceProgram?: Program;
  /** The precision in which it computes, if less than float32. */
  readonly referencePrecision?: FloatDType;
  /**
   * For a model made from another one: the source, its batch size, if fixed, and whether it computes in half precision.
   */
  readonly source?: { readonly program: Program; readonly batch?: number; readonly isHalf?: boolean };
  /** The source of the images, for the report: `seed:0`, a file, `recorded`. */
  readonly imagesSource: string;
  /** Default: derived bounds if `parameters` are given, else `DEFAULT_TOLERANCE`. */
  readonly tolerance?: Tolerance;
  /** The checkpoint, used to recompute layers for derived bounds. */
  readonly parameters?: StateDict;
  /** The weights of a candidate that is compared with a recording; undefined if they cannot be imported. */
  readonly ownParameters?: () => StateDict | undefined;
  /**
   * For a checkpoint that is a model pickled whole: classes whose code is not in the file, and may compute something
   * else.
   */
  readonly unread?: readonly string[];
  /** The comparison of parameters, made beforehand. */
  readonly weights?: WeightsComparison;
  /** For a candidate with quantised weights, which the reference uses too: the network with the original ones. */
  readonly quantized?: {
    readonly summary: Pick<QuantizationResult, "dtypes" | "tensors">;
    readonly original: Backend;
  };
  /**
   * Number of threads, 1 to 4, including this one; the report does not depend on it. Default: the number of processors,
   * and 1 for small networks, in browsers, and against a recording.
   */
  readonly jobs?: number;
  /** Called after each layer. */
  readonly onProgress?: (compared: number, total: number) => void;
}

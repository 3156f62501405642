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
  /** The network that both sides should be, with batch norms unfolded. */
  readonly graph: LayerGraph;
  /** The side under test. */
  readonly candidate: Candidate;
  /** What it is compared with. */
  readonly reference: Side;
  /** [N, 3, height, width] float32, RGB, normalised as torchreid does. */
  readonly images: Tensor<"float32">;
  /** Images that the candidate takes at a time, where it fixes them. */
  readonly batch?: number;
  /** Of a model as the reference: what a program receives of it. */
  readonly referenceProgram?: Program;
  /** What that computes in, where it is less than float32. */
  readonly referencePrecision?: FloatDType;
  /**
   * Of a model that was made from another one: that, how many images it takes at a time, where it fixes them, and whether it
   * computes in half precision.
   */
  readonly source?: { readonly program: Program; readonly batch?: number; readonly isHalf?: boolean };
  /** Where the images come from, for the report: `seed:0`, a file, `recorded`. */
  readonly imagesSource: string;
  /** Default: derived bounds where `parameters` are given, else `DEFAULT_TOLERANCE`. */
  readonly tolerance?: Tolerance;
  /** The checkpoint, which layers are recomputed with for derived bounds. */
  readonly parameters?: StateDict;
  /** The weights of a candidate that is compared with a recording; undefined if they cannot be imported. */
  readonly ownParameters?: () => StateDict | undefined;
  /** Of a checkpoint that is a model pickled whole: classes whose code is not in the file, and may compute something else. */
  readonly unread?: readonly string[];
  /** The comparison of parameters, made before. */
  readonly weights?: WeightsComparison;
  /**
   * Of a candidate whose weights are stored in fewer bits, on which the reference runs: the network as it was before.
   */
  readonly quantized?: {
    readonly summary: Pick<QuantizationResult, "dtypes" | "tensors">;
    readonly original: Backend;
  };
  /**
   * How many threads do it, 1 to 4, this one among them; the report does not depend on it. Default: as many as
   * there are processors, and 1 for small networks, in browsers, and against a recording.
   */
  readonly jobs?: number;
  /** Called after each layer. */
  readonly onProgress?: (compared: number, total: number) => void;
}

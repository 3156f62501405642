import type { LayerGraph } from "../../arch/index.js";
import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import type { Difference } from "../../convert/import/differences.js";
import type { Tensor } from "../../core/tensor.js";
import { castFloat, toFloat32 } from "../../core/tensor-cast.js";
import { storedWithin } from "./expected.js";

/** One reason why many constants differ: another training, rounding, the ε or the statistics of all batch norms. */

/** What was seen of each layer's constants. */
interface Observed {
  readonly graph: LayerGraph;
  /** Of each convolution and linear layer with weights as trained, what a single layer may have in common with all. */
  readonly causes: readonly (string | undefined)[];
  /** Of each folded batch norm, the ε that explains its constants. */
  readonly epsilons: ReadonlyMap<string, number | undefined>;
  /** Of each batch norm, whether only its statistics differ; of a folded one, whether its channels are scaled. */
  readonly statistics: ReadonlyMap<string, boolean>;
  readonly differences: readonly Pick<Difference, "layer" | "found">[];
}

interface CommonCause {
  /** As a clause. */
  readonly says: string;
  /** The layers that differ because of it. */
  readonly layers: ReadonlySet<string>;
}

/** The reason why constants differ, if all that may have it do. */
export function commonCause({
  graph,
  causes,
  epsilons,
  statistics,
  differences,
}: Observed): CommonCause | undefined {
  const [cause] = causes;
  if (cause !== undefined && causes.length >= FEWEST && causes.every((other) => other === cause))
    return { says: cause, layers: withWeights(graph) };
  const shown = [...epsilons.values()].filter((each) => each !== undefined);
  const [epsilon] = shown;
  if (shown.length > 1 && 2 * shown.length > epsilons.size && shown.every((other) => other === epsilon)) {
    const norms =
      shown.length === epsilons.size
        ? "every folded batch norm"
        : `${shown.length} of ${epsilons.size} folded batch norms`;
    // Batch norms that the file keeps may have the same ε.
    const kept = differences.filter(({ found }) => found === `epsilon ${epsilon}`);
    const folded = [...epsilons].flatMap(([layer, each]) => (each === epsilon ? layer : []));
    return {
      says: `the ε of ${norms} is ${epsilon}`,
      layers: new Set([...folded, ...kept.map(({ layer }) => layer)]),
    };
  }
  if (statistics.size < FEWEST || ![...statistics.values()].every(Boolean)) return undefined;
  const orScale = epsilons.size > 0 ? ", or their scales," : "";
  return {
    says: `the running statistics of all batch norms${orScale} are not the checkpoint's`,
    layers: new Set(statistics.keys()),
  };
}

export function withWeights({ nodes }: LayerGraph): ReadonlySet<string> {
  return new Set(nodes.flatMap(({ name, parameters }) => (Object.keys(parameters).length > 0 ? name : [])));
}

/** Minimum number of convolutions and linear layers with weights as trained for a conclusion about all. */
export const FEWEST = 8;

/**
 * Minimum change of other weights: more than rounding to bfloat16 or 8 bits, and less than an epoch of training.
 */
const MIN_CHANGE = 0.02;

/** Values in another order have the same norm to within rounding. */
const SAME_NORM = 1e-5;

/** One factor for all values, and almost no other difference. */
const SAME_DIRECTION = 0.9999;

/** The cause of a difference, if all layers may have it in common. */
export function causeOfAll(
  wanted: Float32Array,
  tensor: StoredTensor | undefined,
  layer: string,
): string | undefined {
  const { stored } = tensor ?? {};
  if (stored && stored.dtype !== "float16" && typeof storedWithin(wanted, stored) === "string")
    return "weights are stored in steps that are too wide, or in ranges that do not cover their values";
  const narrow = (["float16", "bfloat16"] as const).find((dtype) =>
    isRoundedTo(dtype, wanted, tensor, layer),
  );
  if (narrow) return `the reference's weights are the candidate's, rounded to ${narrow}`;
  if (isOnSteps(wanted, tensor)) return "the weights are rounded to 8 bits";
  return isOtherTraining(wanted, tensor, layer) ? "the weights are from another training run" : undefined;
}

/** Whether a stored value is the expected one, rounded. */
function isRoundedTo(
  dtype: "float16" | "bfloat16",
  wanted: Float32Array,
  tensor: StoredTensor | undefined,
  layer: string,
): boolean {
  if (tensor?.dtype !== "float32" || tensor.data.length !== wanted.length) return false;
  const rounded = toFloat32(castFloat(tensor as Tensor<"float32">, dtype, layer), layer).data;
  return rounded.every((value, index) => value === wanted[index]);
}

/** The steps of 8 bits in a range: to either side of 0, or from the least value to the largest. */
const SIDE_STEPS = 127;
const RANGE_STEPS = 255;

/** How far from a step a float32 may be, in steps. */
const OFF_STEP = 1e-3;

/** Whether the stored values are the expected ones, rounded to the nearest step of 8 bits: of each row, or of all. */
function isOnSteps(wanted: Float32Array, tensor: StoredTensor | undefined): boolean {
  if (tensor?.dtype !== "float32" || tensor.stored || tensor.data.length !== wanted.length) return false;
  const found = tensor.data as Float32Array;
  if (found.every((value, index) => value === wanted[index])) return false;
  const onSteps = (start: number, end: number): boolean => {
    const own = found.subarray(start, end);
    const [least, most] = [own.reduce((a, b) => Math.min(a, b), 0), own.reduce((a, b) => Math.max(a, b), 0)];
    return [Math.max(-least, most) / SIDE_STEPS, (most - least) / RANGE_STEPS].some((step) =>
      own.every((value, at) => {
        const steps = step === 0 ? 0 : value / step;
        const off = Math.abs(value - (wanted[start + at] as number));
        return off <= step * (0.5 + OFF_STEP) && Math.abs(steps - Math.round(steps)) <= OFF_STEP;
      }),
    );
  };
  const rows = tensor.shape[0] ?? 1;
  const size = found.length / rows;
  return (
    onSteps(0, found.length) ||
    Array.from({ length: rows }, (_, row) => row * size).every((start) => onSteps(start, start + size))
  );
}

/**
 * Whether values come from another training, and are not the same ones rounded, scaled, negated or in another order.
 */
function isOtherTraining(wanted: Float32Array, tensor: StoredTensor | undefined, layer: string): boolean {
  if (tensor?.data.length !== wanted.length) return false;
  const found = toFloat32(tensor, layer).data;
  const [dot, a, b] = products(wanted, found);
  const change = Math.sqrt(Math.max(0, a + b - 2 * dot) / a);
  const norms = Math.abs(Math.sqrt(b / a) - 1);
  return change > MIN_CHANGE && norms > SAME_NORM && Math.abs(dot) < SAME_DIRECTION * Math.sqrt(a * b);
}

/** How far products may be from one factor, as a share of the largest: float32 rounds less, and types of 16 bits more. */
const SCALE_ROUNDING = 2 ** -18;

/** Rows of fewer values have one factor by chance. */
const FEWEST_IN_ROW = 3;

/** Whether rows of a weight are those expected, times one positive factor each. */
export function isScaledByRow(wanted: Float32Array | undefined, tensor: StoredTensor | undefined): boolean {
  if (!wanted || tensor?.data.length !== wanted.length) return false;
  const found = toFloat32(tensor, "weight").data;
  const size = found.length / (tensor.shape[0] ?? 1);
  if (size < FEWEST_IN_ROW) return false;
  for (let row = 0; row < found.length; row += size) {
    const [own, other] = [wanted.subarray(row, row + size), found.subarray(row, row + size)];
    const [dot, square] = products(own, other);
    const factor = dot / square;
    const most = SCALE_ROUNDING * own.reduce((all, value) => Math.max(all, Math.abs(factor * value)), 0);
    if (!(factor >= 0) || own.some((value, at) => Math.abs(factor * value - (other[at] as number)) > most))
      return square === 0;
  }
  return true;
}

/** The scalar product of two vectors, and each one's with itself. */
function products(left: Float32Array, right: Float32Array): readonly [number, number, number] {
  let [dot, a, b] = [0, 0, 0];
  for (let index = 0; index < left.length; index++) {
    const [x, y] = [left[index] as number, right[index] as number];
    dot += x * y;
    a += x * x;
    b += y * y;
  }
  return [dot, a, b];
}

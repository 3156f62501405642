import type { LayerNode, Op, OpKind, Size2d } from "../../arch/index.js";
import { filled } from "../../core/functions.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import { FLOAT32_CPU, type Numerics } from "../backends/backend.js";
import { wholeOf } from "../reference/elements.js";
import type { ParameterSource, Workspace } from "../reference/evaluate-layer.js";

/**
 * How a candidate rounds: what every bound of this folder is a function of.
 *
 * The model is the standard one (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 2.4, with the
 * underflow term of 2.8): fl(a ∘ b) = (a ∘ b)(1 + δ) + η with |δ| ≤ u and |η| the smallest number that is not flushed.
 */
export interface Arithmetic extends Numerics {
  /**
   * Relative error of a stored weight or value beyond that, where files or tensors are narrower than the arithmetic. It is
   * counted once for each input, each constant in a product and the output: a runtime may compute on what it has not
   * rounded yet, while the values that it shows are.
   */
  readonly storage: number;
  /** Unit roundoff of folding a batch norm in, where that is coarser: in half precision, if its constants are narrow. */
  readonly folding?: number;
  /** What an operation may lose near 0: subnormal results may be flushed. */
  readonly underflow: number;
  /** The largest finite value: correct arithmetic overflows to infinity beyond it. */
  readonly largest: number;
}

/** The reference's own roundings, in float64, are added to the candidate's: they matter where that is float64 too. */
const REFERENCE_UNIT = 2 ** -53;

const FLOAT32_MAX = 2 ** 128 - 2 ** 104;

/**
 * What values of a dtype lose when they are stored: float64 values are not flushed, float32 may be (wasm and CPU
 * runtimes set FTZ or do not).
 */
const STORED: { readonly [D in FloatDType]: Pick<Arithmetic, "storage" | "underflow" | "largest"> } = {
  float64: { storage: 0, underflow: 2 ** -1022, largest: Number.MAX_VALUE },
  float32: { storage: 0, underflow: 2 ** -126, largest: FLOAT32_MAX },
  float16: { storage: 2 ** -11, underflow: 2 ** -24, largest: 65_504 },
  bfloat16: { storage: 2 ** -8, underflow: 2 ** -126, largest: 2 ** 128 - 2 ** 120 },
};

/**
 * A runtime's arithmetic for tensors of a dtype. Runtimes accumulate half-precision networks in float32 and round
 * stored values.
 */
export function arithmeticOf(dtype: FloatDType, numerics: Numerics = FLOAT32_CPU): Arithmetic {
  const unit = dtype === "float64" ? 2 ** -53 : numerics.unit;
  return { ...numerics, unit: unit + REFERENCE_UNIT, ...STORED[dtype] };
}

/** Unit roundoff of a product in float32, of each of two checkpoints that are compared. */
const IMPORTED = 2 * 2 ** -24;

/**
 * The same arithmetic with constants that were folded in the type they are stored in; in float32 if a network is computed in float64, as a
 * checkpoint is that was imported from a model.
 */
export function foldedNarrow(arithmetic: Arithmetic): Arithmetic {
  const { unit, storage } = arithmetic;
  return { ...arithmetic, folding: unit < IMPORTED / 4 ? IMPORTED : Math.max(unit, storage) };
}

/**
 * γₙ = nu / (1 − nu): the relative error of n roundings in a row, and of a sum of n terms in any order, blocked, fused
 * or not (Higham, lemma 3.1 and section 4.2).
 */
export function gamma(roundings: number, unit: number): number {
  const product = roundings * unit;
  return product / (1 - product);
}

/** How far each element may be off, absolutely: one number for all, or one to an element. */
export type ErrorBound = number | Float64Array;

/** A layer recomputed in float64 from a candidate's inputs, whose rounding is to be bounded. */
export interface BoundCall<K extends OpKind = OpKind> {
  readonly node: Omit<LayerNode, "op"> & { readonly op: Op<K> };
  /** NCHW or NC, in the order of the node's inputs. */
  readonly inputs: readonly RealTensor[];
  /** The error of each input relative to the candidate's: 0 unless the candidate fused the layer before. */
  readonly inputErrors: readonly ErrorBound[];
  /**
   * For a sum: the number of products in a hidden term, which a fused operator may add to the other terms one by one.
   * Default: 0.
   */
  readonly accumulated?: number;
  /** The layer's result on these inputs, in float64. */
  readonly output: Tensor<"float64">;
  readonly parameters: ParameterSource;
  readonly arithmetic: Arithmetic;
  /** Where the bound is computed; reused for the next. */
  readonly workspace: Workspace;
}

/** The error of one layer's output that rounding can account for. */
export interface RoundingBound {
  /** Worst case, for each element: a larger error is not rounding. */
  readonly elements: ErrorBound;
  /** For sums: the limit on their errors together, as far as their roundings are independent. */
  readonly sum?: SumSpread;
  /** For norms: the effect of rounding on a plane, without the common shift caused by an error of the mean. */
  readonly planes?: PlaneBound;
  /** A lower bound on the largest intermediate value of an element; default: the element itself. */
  readonly magnitude?: (index: number) => number;
}

/**
 * The errors of n roundings of a sum add up to about √n of them, not n, if they behave as independent: so the root mean
 * square of error/bound may be at most 2/√n. They are not independent if equal terms are added repeatedly (a constant
 * plane, a dead channel, a letterboxed picture), where each rounding repeats the one before. Therefore the number of
 * distinct terms decides, which `independentTerms` counts. It is computed only if the rule would fail the layer, so it
 * never fails a layer that would have passed.
 */
export interface SumSpread {
  /** Roundings of about the bound's size in each element. */
  readonly roundings: number;
  /** Elements with smaller bounds are excluded: values flushed near 0 always lose in one direction. */
  readonly least: number;
  /** The number of an element's terms that are rounded independently. */
  readonly independent: (index: number) => number;
}

/** Root-mean-square errors about their mean, one for each plane of `size` consecutive elements. */
export interface PlaneBound {
  readonly size: number;
  readonly spread: Float64Array;
  /** The bound of one plane for its number of independent roundings, no smaller than its `spread`. */
  readonly dependent: (plane: number) => number;
}

/** Bounds the rounding of one kind of operation. */
export type Bound<K extends OpKind> = (call: BoundCall<K>) => RoundingBound;

/** The bound for one element. */
export function errorAt(bound: ErrorBound, index: number): number {
  return typeof bound === "number" ? bound : (bound[index] as number);
}

/**
 * How much each element of a layer's input may contribute to the error of a sum: `growth` of its magnitude, plus its
 * own error. Written where the workspace reads the layer's input, so that summing them is running the layer.
 */
export function inputMagnitudes(
  { shape, data: source }: RealTensor,
  { inputErrors: [inputError = 0], output, arithmetic, workspace }: BoundCall,
  node: LayerNode,
  growth: number,
): Tensor<"float64"> {
  const { underflow } = arithmetic;
  const data = workspace.inputOf(node, shape, output.shape);
  if (inputError === 0) workspace.loops.magnitudes(source, data, wholeOf(data), growth, underflow);
  else
    for (let i = 0; i < data.length; i++)
      data[i] = growth * Math.abs(source[i] as number) + (1 + growth) * errorAt(inputError, i) + underflow;
  return { dtype: "float64", shape, data };
}

/** The terms of one element of a sum, for computations on few elements. */

/** An output element: its image, channel, row and column. */
export interface Place {
  readonly image: number;
  readonly channel: number;
  readonly row: number;
  readonly column: number;
}

/** The position of an element of [N, C, H, W] or [N, C]. */
export function placeOf(index: number, [, channels = 1, height = 1, width = 1]: readonly number[]): Place {
  const plane = height * width;
  return {
    image: Math.floor(index / plane / channels),
    channel: Math.floor(index / plane) % channels,
    row: Math.floor((index % plane) / width),
    column: index % width,
  };
}

/**
 * The inputs of one output element of a convolution, in the order of its weights; 0 for padding.
 *
 * @param shift by how many pixels the window is moved down and to the right
 */
export function windowAt(
  { inChannels, outChannels, groups, kernel, stride, padding }: Op<"conv">,
  { shape, data }: RealTensor,
  { image, channel, row, column }: Place,
  [down, right]: Size2d = [0, 0],
): Float64Array {
  const [, , height = 1, width = 1] = shape;
  const perGroup = inChannels / groups;
  const from = image * inChannels + Math.floor(channel / (outChannels / groups)) * perGroup;
  const [rows, columns] = kernel;
  const taps = rows * columns;
  return filled(new Float64Array(perGroup * taps), (k) => {
    const y = row * stride[0] - padding[0] + down + (Math.floor(k / columns) % rows);
    const x = column * stride[1] - padding[1] + right + (k % columns);
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return data[((from + Math.floor(k / taps)) * height + y) * width + x] as number;
  });
}

/**
 * The number of independent roundings of a sum: n²/Σc², with c terms of each distinct value, and n in all. Adding a
 * value rounds off what lies below the last place of the partial sum, so values closer to each other than the spacing
 * of the whole sum count as equal. Adding zero does not round.
 *
 * A constant plane has 1; a plane that is half constant at most 4; random values nearly n.
 */
export function independentTerms(terms: Iterable<number>, unit: number): number {
  const values = [...terms];
  const spacing = 2 * unit * values.reduce((sum, value) => sum + Math.abs(value), 0);
  if (!(spacing > 0 && spacing < Infinity)) return 1;
  const counts = new Map<number, number>();
  for (const value of values) {
    if (value === 0) continue;
    const bin = Math.round(value / spacing);
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  let squares = 0;
  for (const count of counts.values()) squares += count * count;
  return squares === 0 ? 1 : values.length ** 2 / squares;
}

import type { ParameterRole, Size2d } from "../../../arch/index.js";
import type { DType, Tensor } from "../../../core/tensor.js";
import type { NormFloor } from "../../export/options.js";
import type { StoredTensor } from "../../formats/tfjs/model.js";

/**
 * A graph from any exporter in the vocabulary of `src/arch`: the meaning of each node, whatever operators express it.
 * Names are used only to find a value in the file again.
 */

/** Rows above, columns to the left, rows below, columns to the right. */
export type Padding = readonly [top: number, left: number, bottom: number, right: number];

/** How a convolution or pool slides over an image. */
export interface Window {
  readonly kernel: Size2d;
  readonly stride: Size2d;
  readonly padding: Padding;
  /** `auto_pad`, if its padding depends on an image size that the file does not fix. */
  readonly autoPad?: string;
  readonly dilation: Size2d;
}

/** The kinds of nodes. Those that `arch` has too mean the same there. */
interface ForeignOpTable {
  input: object;
  conv: Window & { readonly inChannels: number; readonly outChannels: number; readonly groups: number };
  linear: {
    readonly inFeatures: number;
    readonly outFeatures: number;
    /** Factors of the product and the bias, if not 1. An OSNet has none. */
    readonly factors?: { readonly alpha: number; readonly beta: number };
  };
  batchNorm: { readonly epsilon: number };
  /** A batch norm that normalises by the statistics of its input. */
  trainingNorm: { readonly epsilon: number };
  /** weight · x + bias per channel, each optional: a batch norm as Mul and Add, or a normalised input. */
  affine: object;
  instanceNorm: { readonly epsilon: number };
  /** Over [C, 1, 1] of each image. */
  layerNorm: { readonly epsilon: number };
  relu: object;
  sigmoid: object;
  maxPool: Window & { readonly ceil: boolean };
  avgPool: Window & { readonly ceil: boolean };
  globalAvgPool: object;
  globalMaxPool: object;
  flatten: object;
  /** The product of two activations. */
  scale: object;
  add: object;
  /** x / ‖x‖₂ of each image, with the floors applied in order. */
  l2Normalize: { readonly floors: readonly NormFloor[] };
  /** Over the channels. */
  softmax: object;
  /** Channel c of the result is channel `order[c]` of the input. */
  channelOrder: { readonly order: readonly number[] };
  /** Padding that the next layer did not absorb. */
  pad: { readonly padding: Padding; readonly value: number };
  /** An operator without a known meaning. */
  other: {
    readonly opType: string;
    readonly operands: readonly Value[];
    readonly axes?: readonly number[];
    /** Whether the axes of a reduction are gone, and not of size 1. */
    readonly isReduced?: true;
    /** The bounds of a Clip; NaN for a bound that is not constant. */
    readonly bounds?: ClipBounds;
    /** The numbers of a function, such as `alpha 0.3`. */
    readonly numbers?: readonly string[];
  };
}

export interface ClipBounds {
  readonly least: number;
  readonly most: number;
}

export type ForeignKind = keyof ForeignOpTable;
export type ForeignOp<K extends ForeignKind = ForeignKind> = {
  [P in K]: { readonly kind: P } & ForeignOpTable[P];
}[K];

/** Constants by role, shaped as in a state dict: convolutions OIHW, linear layers [out, in]. */
export type Constants = Readonly<Partial<Record<ParameterRole, StoredTensor>>>;

/** The meaning of each axis of a value in the file, 0 to 3 for N, C, H, W: [0, 2, 3, 1] for NHWC. */
export type Layout = readonly number[];

/** How channels are stored in blocks. */
export interface ChannelBlocks {
  /** Channels in a block. */
  readonly size: number;
  /** The number of channels without the padding of a block. Undefined if there is no padding. */
  readonly channels: number | undefined;
}

/** How the elements of a value in the file become the activation; absent if they are the activation. */
export interface Reading {
  /** Absent for NCHW. */
  readonly layout?: Layout;
  /** [N, C] instead of [N, C, 1, 1]. */
  readonly isFlat?: true;
  /** [N, C, 1], or for a value of the file [N, C, 1, 1], instead of [N, C]. */
  readonly isLine?: true;
  /** (element − zero) · scale. */
  readonly quantised?: { readonly scale: number; readonly zero: number };
  /** NCHW in blocks of channels, despite the shape. */
  readonly blocks?: ChannelBlocks;
}

/** The largest rounding error of quantised constants: half a step, per output channel or one for all. */
export type Roundings = Readonly<Partial<Record<ParameterRole, Float32Array>>>;

/** What is known about a value's shape: a map [N, C, H, W], a pooled map [N, C, 1, 1], or [N, C]. */
export interface Form {
  readonly rank: "map" | "pooled" | "flat";
  readonly channels?: number | undefined;
  /** Height and width of a map, if the file fixes them. */
  readonly size?: Size2d | undefined;
  /**
   * The size if all earlier windows were an OSNet's, for files with a fixed image size. It differs from `size` only
   * after an operator that differs from its layer, which is the finding.
   */
  readonly intended?: Size2d | undefined;
  /** Whether this is only a guess, because an unknown operator before it may have changed the axes. */
  readonly isGuess?: boolean;
}

/** Another form of the same value, as certain as this one. */
export function inForm({ channels, isGuess }: Form, rank: Form["rank"]): Form {
  return { rank, channels, ...(isGuess ? { isGuess } : {}) };
}

export interface ForeignNode<K extends ForeignKind = ForeignKind> {
  readonly op: ForeignOp<K>;
  /** Its inputs that are not constants. */
  readonly inputs: readonly ForeignNode[];
  readonly constants: Constants;
  /** Of several biases the file may have only the sum, which is this; the bias above is a part of it. */
  readonly sharedBias?: StoredTensor;
  readonly form: Form;
  /** The ONNX value of its output; undefined if it is not a value of the file. */
  readonly value: string | undefined;
  /** How the elements of `value` become the activation. */
  readonly reading?: Reading;
  readonly roundings?: Roundings;
  /** For an elementwise operator: what it computes from the value before it, if that is known. */
  readonly pieces?: Pieces;
  /** Operations that it would be if one part were different. */
  readonly nearMisses?: readonly NearMiss[];
}

/** An operation of the network that several operators are, except for one part. */
export interface NearMiss {
  readonly kind: ForeignKind;
  /** What they have instead of that part, as a noun phrase. */
  readonly has: string;
}

/** slope · x + constant; one of the two is 0. */
export interface Piece {
  readonly slope: number;
  readonly constant: number;
}

/**
 * A function of a value x: its pieces where x is negative, zero and positive; undefined for a piece that is unknown.
 */
export interface Pieces {
  readonly of: ForeignNode;
  readonly parts: readonly (Piece | undefined)[];
  /** Whether its results are whole numbers or truth values to the runtime. */
  readonly isWhole?: boolean;
}

/** The meaning of an ONNX value. */
export type Value =
  | {
      readonly kind: "node";
      readonly node: ForeignNode;
      readonly reading?: Reading;
      /** The type of fewer bits that it was cast to; a cast back does not restore it. */
      readonly narrowed?: DType;
      /** Set if the file has its map with fewer axes. */
      readonly planes?: Planes;
    }
  | { readonly kind: "constant"; readonly tensor: Tensor; readonly rounding?: Float32Array }
  /** The quantisation step of an activation, computed while the network runs, times a constant. */
  | { readonly kind: "step"; readonly factor: Tensor | undefined }
  /** Numbers computed from shapes. How many there are, and which, is given if known; one may be a list or a number. */
  | {
      readonly kind: "shape";
      readonly length?: number;
      readonly sizes?: readonly Size[];
      readonly isNumber?: boolean;
    }
  /** Indices into a flat list of elements, computed from its sizes. */
  | ({ readonly kind: "places" } & Places);

/**
 * The size of an axis: a number; that of the batch; or one that depends on the images: the height or width of a
 * node's map.
 */
export type Size = number | "batch" | { readonly of: ForeignNode; readonly axis: number } | undefined;

/**
 * A map [N, C, H, W] with its last axes merged: [N, C, H·W], [N·C, H·W] or [N·C·H·W]. Or a map in any layout with an axis of
 * size 1 more: [N, H, W, C, 1].
 */
export interface Planes {
  /** The number of axes. */
  readonly rank: number;
  /** The sizes of the four axes before. */
  readonly sizes: readonly Size[];
  /** The place of the axis of size 1, and the layout of the others. */
  readonly added?: { readonly at: number; readonly layout: Layout };
}

/** Indices i, j … over axes of these sizes, combined as strides[0] · i + strides[1] · j + …. */
export interface Places {
  readonly sizes: readonly Size[];
  readonly strides: readonly number[];
}

export function isKind<K extends ForeignKind>(
  node: ForeignNode,
  ...kinds: readonly K[]
): node is ForeignNode<K> {
  return (kinds as readonly string[]).includes(node.op.kind);
}

/** Whether a node has a bias that is not zero: exporters write biases of zeros for modules that have none. */
export function hasBias({ constants: { bias } }: ForeignNode): boolean {
  return bias !== undefined && Array.from(bias.data as ArrayLike<number>).some((value) => value !== 0);
}

/** What a file does to its input before the network: image[c] = scale[c] · raw[order[c]] + shift[c], as NCHW. */
export interface Preprocess {
  /** The order of the input's axes: [0, 1, 2, 3] for NCHW, [0, 2, 3, 1] for NHWC. */
  readonly layout: Layout;
  /** Element type of the file's input; undefined if it does not state one. */
  readonly dtype: DType | undefined;
  /** For red, green and blue, the channel of the input: [2, 1, 0] for BGR. */
  readonly order: readonly number[];
  /** The factor of each channel, in the network's order. */
  readonly scale: readonly number[];
  /** The constant that is added to each channel afterwards, in the network's order. */
  readonly shift: readonly number[];
  /** Whether its arithmetic is in half precision. */
  readonly isHalf: boolean;
  /** Other operators before the network. */
  readonly unknown: readonly string[];
}

/** A graph without dead nodes. */
export interface ForeignGraph {
  /** The input of the network: the file's input, or what the file computes from it beforehand. */
  readonly input: ForeignNode;
  readonly preprocess: Preprocess;
  /** In topological order. */
  readonly nodes: readonly ForeignNode[];
  readonly outputs: readonly {
    readonly name: string;
    readonly node: ForeignNode | undefined;
    readonly reading?: Reading;
  }[];
  /** The readers of each node, without repetition. */
  readonly consumers: ReadonlyMap<ForeignNode, readonly ForeignNode[]>;
  /** Values that the file has in blocks of channels, as onnxruntime's optimiser writes them. */
  readonly blocks: ReadonlyMap<string, ChannelBlocks>;
  /** The number of each operator in the file; a decided `If` counts as its branch. */
  readonly census: ReadonlyMap<string, number>;
  /** Constants that were computed from others, by the names of their values: the runtime's must be the same. */
  readonly computed: ReadonlyMap<string, Tensor>;
  /** The first operator that rounds an activation to integers, and that activation, unless it is inside a branch. */
  readonly quantiser: { readonly opType: string; readonly of: ForeignNode | undefined } | undefined;
}

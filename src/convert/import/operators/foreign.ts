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

/** What nodes of foreign graphs are. Kinds that `arch` has too mean the same there. */
interface ForeignOpTable {
  input: object;
  conv: Window & { readonly inChannels: number; readonly outChannels: number; readonly groups: number };
  linear: {
    readonly inFeatures: number;
    readonly outFeatures: number;
    /** What the file multiplies the product and the bias by, where that is not 1: no constants of an OSNet's. */
    readonly factors?: { readonly alpha: number; readonly beta: number };
  };
  batchNorm: { readonly epsilon: number };
  /** A batch norm that normalises by the statistics of its input. */
  trainingNorm: { readonly epsilon: number };
  /** weight · x + bias per channel, each optional: a batch norm as Mul and Add, or a normalised input. */
  affine: object;
  instanceNorm: { readonly epsilon: number };
  /** Over all of [N, C, 1, 1] but the batch. */
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
  /** Padding that no layer after it has taken up. */
  pad: { readonly padding: Padding; readonly value: number };
  /** An operator without a known meaning. */
  other: {
    readonly opType: string;
    readonly operands: readonly Value[];
    readonly axes?: readonly number[];
    /** Of a Clip, as far as they are constants: NaN where one is not. */
    readonly bounds?: ClipBounds;
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

/** Which of N, C, H, W (0 to 3) each axis of a value in the file is: [0, 2, 3, 1] for NHWC. */
export type Layout = readonly number[];

/** How a value in blocks of channels becomes NCHW. */
export interface ChannelBlocks {
  /** Channels in a block. */
  readonly size: number;
  /** The number of channels without the padding of a block. Undefined if there is no padding. */
  readonly channels: number | undefined;
}

/** How the elements of a value in the file become the activation; absent if they are the activation. */
export interface Reading {
  /** Which of N, C, H, W each axis is, where they are in another order. */
  readonly layout?: Layout;
  /** [N, C] instead of [N, C, 1, 1]. */
  readonly isFlat?: true;
  /** [N, C, 1] instead of [N, C]. */
  readonly isLine?: true;
  /** (element − zero) · scale. */
  readonly quantised?: { readonly scale: number; readonly zero: number };
  /** NCHW in blocks of channels, despite the shape. */
  readonly blocks?: ChannelBlocks;
}

/**
 * How far constants may be from those that they were quantised from: half a step, per output channel or one for all.
 */
export type Roundings = Readonly<Partial<Record<ParameterRole, Float32Array>>>;

/** What is known of a value's shape: a feature map [N, C, H, W], one of a single pixel, or [N, C]. */
export interface Form {
  readonly rank: "map" | "pooled" | "flat";
  readonly channels?: number | undefined;
  /** Height and width of a map, where the file fixes them. */
  readonly size?: Size2d | undefined;
  /**
   * The size if the windows before it were an OSNet's, for files with a fixed image size. Differs from `size` only
   * after an operator that differs from its layer, which is the finding.
   */
  readonly intended?: Size2d | undefined;
  /** Whether all of this is only likely: after an unknown operator, which may have changed the axes. */
  readonly isGuess?: boolean;
}

export interface ForeignNode<K extends ForeignKind = ForeignKind> {
  readonly op: ForeignOp<K>;
  /** The activations that it reads. */
  readonly inputs: readonly ForeignNode[];
  readonly constants: Constants;
  readonly form: Form;
  /** The ONNX value of its output; undefined if it is not a value of the file. */
  readonly value: string | undefined;
  /** How `value` is read. */
  readonly reading?: Reading;
  /** Absent if nothing was quantised. */
  readonly roundings?: Roundings;
  /** Of an operator on each element by itself, what it makes of the value before it; absent where that is not known. */
  readonly pieces?: Pieces;
  /** What its operators nearly are; absent if they are nothing of the kind. */
  readonly nearMisses?: readonly NearMiss[];
}

/** Why several operators are not an operation of the network: the only part that differs. */
export interface NearMiss {
  readonly kind: ForeignKind;
  /** The part that they have instead, as a noun phrase. */
  readonly has: string;
}

/** slope · x + constant; one of the two is 0. */
export interface Piece {
  readonly slope: number;
  readonly constant: number;
}

/** What is made of a value x where x is negative, zero and positive; undefined for a part where that is not known. */
export interface Pieces {
  readonly of: ForeignNode;
  readonly parts: readonly (Piece | undefined)[];
}

/** The meaning of an ONNX value. */
export type Value =
  | {
      readonly kind: "node";
      readonly node: ForeignNode;
      readonly reading?: Reading;
      /** Of fewer bits than the network's numbers, which a cast back does not restore. */
      readonly narrowed?: DType;
      /** Its map with fewer axes than the node's; absent where it has the node's own. */
      readonly planes?: Planes;
    }
  | { readonly kind: "constant"; readonly tensor: Tensor; readonly rounding?: Float32Array }
  /** The step that an activation is quantised by while the network runs, times constants. */
  | { readonly kind: "step"; readonly factor: Tensor | undefined }
  /** Numbers computed from shapes, which only say how a tensor is laid out; how many they are, and which, where that is known. */
  | { readonly kind: "shape"; readonly length?: number; readonly sizes?: readonly Size[] }
  /** Places in a list of all elements, which are computed of its sizes. */
  | ({ readonly kind: "places" } & Places);

/** The size of an axis: a number, that of the batch, or one that a run decides: the height or width of a node's map. */
export type Size = number | "batch" | { readonly of: ForeignNode; readonly axis: number } | undefined;

/** A map [N, C, H, W] with its last axes merged: [N, C, H·W], [N·C, H·W] or [N·C·H·W]. */
export interface Planes {
  /** How many axes are left. */
  readonly rank: number;
  /** The four sizes that it had. */
  readonly sizes: readonly Size[];
}

/** Whole numbers that run over axes of these sizes: of the element at i, j … strides[0] · i + strides[1] · j + …. */
export interface Places {
  readonly sizes: readonly Size[];
  readonly strides: readonly number[];
}

/** Whether a node is of one kind, as a type guard. */
export function isKind<K extends ForeignKind>(
  node: ForeignNode,
  ...kinds: readonly K[]
): node is ForeignNode<K> {
  return (kinds as readonly string[]).includes(node.op.kind);
}

/** Whether something is added to what a node computes: exporters write biases of zeros where a module has none. */
export function hasBias({ constants: { bias } }: ForeignNode): boolean {
  return bias !== undefined && Array.from(bias.data as ArrayLike<number>).some((value) => value !== 0);
}

/** What a file does to its input before the network: image[c] = scale[c] · raw[order[c]] + shift[c], as NCHW. */
export interface Preprocess {
  /** The order of the input's axes: [0, 1, 2, 3] for NCHW, [0, 2, 3, 1] for NHWC. */
  readonly layout: Layout;
  /** Element type that the file is fed with; undefined where it does not say. */
  readonly dtype: DType | undefined;
  /** For each of red, green and blue, the channel of the input that it is: [2, 1, 0] for BGR. */
  readonly order: readonly number[];
  /** What each channel is multiplied by, in the network's order. */
  readonly scale: readonly number[];
  /** What is added to each channel then, in the network's order. */
  readonly shift: readonly number[];
  /** Whether its numbers are half precision. */
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
  /** The nodes that read each node, once each. */
  readonly consumers: ReadonlyMap<ForeignNode, readonly ForeignNode[]>;
  /** Values that the file has in blocks of channels, as onnxruntime's optimiser writes them. */
  readonly blocks: ReadonlyMap<string, ChannelBlocks>;
  /** The number of each operator in the file; a decided `If` counts as its branch. */
  readonly census: ReadonlyMap<string, number>;
}

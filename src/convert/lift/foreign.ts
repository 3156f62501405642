import type { ParameterRole, Size2d } from "../../arch/index.js";
import type { Tensor } from "../../tensor.js";

/**
 * A foreign ONNX graph in the vocabulary of `src/arch`: what each node means, whatever operators say it. Names play no
 * part but to find a value again in the file.
 */

/** Rows above, columns to the left, rows below, columns to the right. */
export type Padding = readonly [top: number, left: number, bottom: number, right: number];

/** How a convolution or pool slides over an image. */
export interface Window {
  readonly kernel: Size2d;
  readonly stride: Size2d;
  readonly padding: Padding;
  /** `auto_pad` where the padding that it stands for depends on an image size that the file does not fix. */
  readonly autoPad?: string;
  readonly dilation: Size2d;
}

/** What nodes of foreign graphs are. Kinds that `arch` has too mean the same there. */
interface ForeignOpTable {
  input: object;
  conv: Window & { readonly inChannels: number; readonly outChannels: number; readonly groups: number };
  linear: { readonly inFeatures: number; readonly outFeatures: number };
  batchNorm: { readonly epsilon: number };
  /** weight · x + bias per channel, each optional: a batch norm spelled as Mul and Add, or a normalised input. */
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
  l2Normalize: object;
  /** Padding that no layer after it has taken up. */
  pad: { readonly padding: Padding; readonly value: number };
  /** Any operator without a meaning of its own here. */
  other: { readonly opType: string; readonly operands: readonly Value[]; readonly axes?: readonly number[] };
}

export type ForeignKind = keyof ForeignOpTable;
export type ForeignOp<K extends ForeignKind = ForeignKind> = {
  [P in K]: { readonly kind: P } & ForeignOpTable[P];
}[K];

/** Constants by role, shaped as in a state dict: convolutions OIHW, linear layers [out, in]. */
export type Constants = Readonly<Partial<Record<ParameterRole, Tensor>>>;

/** What is known of a value's shape: a feature map [N, C, H, W], one of a single pixel, or [N, C]. */
export interface Form {
  readonly rank: "map" | "pooled" | "flat";
  readonly channels?: number | undefined;
  /** Height and width of a map, where the file fixes them. */
  readonly size?: Size2d | undefined;
}

export interface ForeignNode<K extends ForeignKind = ForeignKind> {
  readonly op: ForeignOp<K>;
  /** The activations that it reads. */
  readonly inputs: readonly ForeignNode[];
  readonly constants: Constants;
  readonly form: Form;
  /** The ONNX value that holds its output; undefined where no value of the file does. */
  readonly value: string | undefined;
  /** How far constants may be from those that they were quantised from; absent where they were not. */
  readonly rounding?: number;
}

/** What an ONNX value name stands for. */
export type Value =
  | { readonly kind: "node"; readonly node: ForeignNode }
  | { readonly kind: "constant"; readonly tensor: Tensor; readonly rounding?: number }
  /** Numbers computed from shapes, which only say how a tensor is laid out. */
  | { readonly kind: "shape" };

/** Whether a node is of one kind, as a type guard. */
export function isKind<K extends ForeignKind>(
  node: ForeignNode,
  ...kinds: readonly K[]
): node is ForeignNode<K> {
  return (kinds as readonly string[]).includes(node.op.kind);
}

/** A graph without dead nodes. */
export interface ForeignGraph {
  readonly input: ForeignNode;
  /** In topological order. */
  readonly nodes: readonly ForeignNode[];
  readonly outputs: readonly { readonly name: string; readonly node: ForeignNode | undefined }[];
  /** The nodes that read each node, once each. */
  readonly consumers: ReadonlyMap<ForeignNode, readonly ForeignNode[]>;
  /** Operators by how often the file has them. */
  readonly census: ReadonlyMap<string, number>;
}

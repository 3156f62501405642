/**
 * The operations an OSNet is made of, as a discriminated union.
 *
 * Lowering tables, shape rules and reference kernels are `Record<OpKind, …>`: an operation that one of them does not
 * handle does not compile. Activations are NCHW (batch, channels, height, width) or NC after `flatten`; convolution
 * weights are OIHW with I = in channels / groups; linear weights are [out, in].
 */

/** Height, then width. */
export type Size2d = readonly [height: number, width: number];

/** How each operation is parameterised. All padding is symmetric: the same before and after, in both dimensions. */
export interface OpTable {
  /** The network's input. */
  input: object;
  /** torch.nn.Conv2d, dilation 1. `groups` 1, or `outChannels` for a depthwise convolution. Roles: weight, bias?. */
  conv: {
    readonly inChannels: number;
    readonly outChannels: number;
    readonly kernel: Size2d;
    readonly stride: Size2d;
    readonly padding: Size2d;
    readonly groups: number;
    readonly bias: boolean;
  };
  /** torch.nn.Linear, always with bias. Roles: weight [out, in], bias [out]. */
  linear: { readonly inFeatures: number; readonly outFeatures: number };
  /** BatchNorm1d/2d in evaluation mode. Roles: weight, bias, runningMean, runningVar, each [channels]. */
  batchNorm: { readonly channels: number; readonly epsilon: number };
  /** InstanceNorm2d(affine=True), no running statistics: biased variance over H×W. Roles: weight, bias. */
  instanceNorm: { readonly channels: number; readonly epsilon: number };
  /** LayerNorm((channels, 1, 1)) inside a gate: biased variance over C×H×W. Roles: weight, bias [channels, 1, 1]. */
  layerNorm: { readonly channels: number; readonly epsilon: number };
  /** max(0, x), of any shape. */
  relu: object;
  /** 1 / (1 + e^−x), of any shape: a gate's activation, or an attribute model's last operation. */
  sigmoid: object;
  /** MaxPool2d; padding never wins, whatever the sign of the input. */
  maxPool: { readonly kernel: Size2d; readonly stride: Size2d; readonly padding: Size2d };
  /** AvgPool2d without padding; a last partial window is dropped (floor). */
  avgPool: { readonly kernel: Size2d; readonly stride: Size2d };
  /** AdaptiveAvgPool2d(1): [N, C, H, W] to [N, C, 1, 1]. */
  globalAvgPool: object;
  /** AdaptiveMaxPool2d(1): [N, C, H, W] to [N, C, 1, 1]. */
  globalMaxPool: object;
  /** [N, C, 1, 1] to [N, C]. */
  flatten: object;
  /** Channel-wise scaling of a stream by its gate: inputs [N, C, H, W] and [N, C, 1, 1]. */
  scale: object;
  /** The sum of two or more inputs of one shape, added from left to right. */
  add: object;
}

/** The kinds of operation, as `LayerNode.op.kind` spells them. */
export type OpKind = keyof OpTable;

/** One operation with its attributes. */
export type Op<K extends OpKind = OpKind> = { [P in K]: { readonly kind: P } & OpTable[P] }[K];

/** What a parameter is to the operation that uses it. */
export type ParameterRole = "weight" | "bias" | "runningMean" | "runningVar";

/**
 * What an OSNet is, as plain data: `JSON.parse(JSON.stringify(spec))` is the same spec. Any width, depth, number of
 * streams or mix of blocks is a spec, not new code.
 *
 * Source: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification" (ICCV 2019) and "Learning
 * Generalisable Omni-Scale Representations" (TPAMI 2021); modules of torchreid.models.osnet, osnet_ain, and the
 * OSNet_AIN and attribute_recognition projects of deep-person-reid.
 */

/** How modules are named: `torchreid.models.osnet` (conv2a, conv2b.0 …) or `osnet_ain` (conv2.T.layers.L, pool2). */
export type Dialect = "osnet" | "osnet_ain";

/** Where a block normalises each image by itself: before the residual add, after it, both, or nowhere. */
export type InstanceNormPlacement = "none" | "inside" | "outside" | "both";

/** A residual block of `streams` parallel streams; stream t stacks t lightweight 3×3 convolutions. */
export interface BlockSpec {
  readonly inChannels: number;
  readonly outChannels: number;
  /** T of the paper. */
  readonly streams: number;
  /** Bottleneck: the streams have `outChannels / reduction` channels, rounded down. */
  readonly reduction: number;
  readonly instanceNorm: InstanceNormPlacement;
}

/** Blocks, then optionally a transition: a 1×1 convolution and a 2×2 average pool. */
export interface StageSpec {
  readonly blocks: readonly BlockSpec[];
  readonly transition: boolean;
}

export interface GateSpec {
  /** The hidden layer has `channels / reduction` units, rounded down. */
  readonly reduction: number;
  readonly activation: "sigmoid" | "relu" | "linear";
  /** LayerNorm between the hidden layer and its ReLU. */
  readonly layerNorm: boolean;
}

export interface HeadSpec {
  readonly classes: number;
  /**
   * The training loss. `sigmoid` is an attribute model: evaluation returns the sigmoid of the classifier, while
   * `softmax` and `triplet` models return the embedding.
   */
  readonly loss: "softmax" | "triplet" | "sigmoid";
}

export interface OsnetSpec {
  readonly dialect: Dialect;
  /** A 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2. */
  readonly stem: { readonly channels: number; readonly norm: "batch" | "instance" };
  /** conv2, conv3 … in order; the 1×1 convolution after the last stage takes the next number. */
  readonly stages: readonly StageSpec[];
  readonly gate: GateSpec;
  /** Global pooling of the last feature map. */
  readonly pooling: "avg" | "max";
  /** Widths of the Linear + BatchNorm1d + ReLU layers; empty when the embedding is the pooled map. */
  readonly embedding: readonly number[];
  /** The classifier, or null when the checkpoint has none. */
  readonly head: HeadSpec | null;
}

/** Epsilon of every batch, instance and layer norm: PyTorch's default, which torchreid never overrides. */
export const NORM_EPSILON = 1e-5;

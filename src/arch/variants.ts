import type { BlockSpec, Dialect, InstanceNormPlacement, OsnetSpec } from "./spec.js";

/** What tells the published variants apart; all else is common to them. */
interface VariantRow {
  readonly dialect: Dialect;
  /** Stem, conv2, conv3, conv4. */
  readonly channels: readonly [number, number, number, number];
  readonly stemNorm: "batch" | "instance";
  /** Instance norm of the two blocks of each stage. */
  readonly instanceNorm: readonly (readonly [InstanceNormPlacement, InstanceNormPlacement])[];
  readonly pooling: "avg" | "max";
  readonly loss: "softmax" | "sigmoid";
}

const X1_0 = [64, 256, 384, 512] as const;
const X0_75 = [48, 192, 288, 384] as const;
const X0_5 = [32, 128, 192, 256] as const;
const X0_25 = [16, 64, 96, 128] as const;

const PLAIN = {
  dialect: "osnet",
  stemNorm: "batch",
  instanceNorm: [
    ["none", "none"],
    ["none", "none"],
    ["none", "none"],
  ],
  pooling: "avg",
  loss: "softmax",
} as const satisfies Omit<VariantRow, "channels">;

/** torchreid's `IN=True`: the stem, and after the residual add of conv2's blocks. */
const IBN = {
  ...PLAIN,
  stemNorm: "instance",
  instanceNorm: [
    ["outside", "outside"],
    ["none", "none"],
    ["none", "none"],
  ],
} as const satisfies Omit<VariantRow, "channels">;

/** The placement that the TPAMI paper's search found. */
const AIN = {
  ...PLAIN,
  dialect: "osnet_ain",
  stemNorm: "instance",
  instanceNorm: [
    ["inside", "inside"],
    ["none", "inside"],
    ["inside", "none"],
  ],
} as const satisfies Omit<VariantRow, "channels">;

/** The variants by torchreid's names; the last two are the attribute recognition project's. */
export type VariantName =
  | "osnet_x1_0"
  | "osnet_x0_75"
  | "osnet_x0_5"
  | "osnet_x0_25"
  | "osnet_ibn_x1_0"
  | "osnet_ain_x1_0"
  | "osnet_ain_x0_75"
  | "osnet_ain_x0_5"
  | "osnet_ain_x0_25"
  | "osnet_avgpool"
  | "osnet_maxpool";

const ROWS: Readonly<Record<VariantName, VariantRow>> = {
  osnet_x1_0: { ...PLAIN, channels: X1_0 },
  osnet_x0_75: { ...PLAIN, channels: X0_75 },
  osnet_x0_5: { ...PLAIN, channels: X0_5 },
  osnet_x0_25: { ...PLAIN, channels: X0_25 },
  osnet_ibn_x1_0: { ...IBN, channels: X1_0 },
  osnet_ain_x1_0: { ...AIN, channels: X1_0 },
  osnet_ain_x0_75: { ...AIN, channels: X0_75 },
  osnet_ain_x0_5: { ...AIN, channels: X0_5 },
  osnet_ain_x0_25: { ...AIN, channels: X0_25 },
  osnet_avgpool: { ...PLAIN, channels: X1_0, loss: "sigmoid" },
  osnet_maxpool: { ...PLAIN, channels: X1_0, loss: "sigmoid", pooling: "max" },
};

/** Every variant that `variant` accepts, in the order of the table. */
export const VARIANT_NAMES: readonly VariantName[] = Object.keys(ROWS) as VariantName[];

/**
 * The spec of a named variant with torchreid's defaults: four streams, bottleneck 4, gate reduction 16, an embedding
 * of 512 and a classifier of 1000 classes. What a checkpoint may change (classes, embedding) `identify` reads from it.
 */
export function variant(name: VariantName): OsnetSpec {
  const row = ROWS[name];
  const [stem, ...widths] = row.channels;
  return {
    dialect: row.dialect,
    stem: { channels: stem, norm: row.stemNorm },
    stages: widths.map((width, index) => ({
      blocks: (row.instanceNorm[index] ?? []).map(
        (instanceNorm, position): BlockSpec => ({
          inChannels: position > 0 ? width : (row.channels[index] ?? stem),
          outChannels: width,
          streams: 4,
          reduction: 4,
          instanceNorm,
        }),
      ),
      transition: index < widths.length - 1,
    })),
    gate: { reduction: 16, activation: "sigmoid", layerNorm: false },
    pooling: row.pooling,
    embedding: [512],
    head: { classes: 1000, loss: row.loss },
  };
}

/** Whether a string names a variant. */
export function isVariantName(name: string): name is VariantName {
  return Object.hasOwn(ROWS, name);
}

/**
 * The named variant whose backbone a spec has, whatever its embedding, classes and loss; undefined for a network of
 * its own kind. Specs that differ only by what a state dict cannot show (pooling) are told apart here.
 */
export function variantOf(spec: OsnetSpec): VariantName | undefined {
  const backbone = (candidate: OsnetSpec): string => {
    const { dialect, stem, stages, gate, pooling } = candidate;
    const sigmoid = candidate.head?.loss === "sigmoid";
    return JSON.stringify([
      dialect,
      [stem.channels, stem.norm],
      stages.map((stage) => [
        stage.transition,
        stage.blocks.map((b) => [b.inChannels, b.outChannels, b.streams, b.reduction, b.instanceNorm]),
      ]),
      [gate.reduction, gate.activation, gate.layerNorm],
      pooling,
      sigmoid,
    ]);
  };
  const wanted = backbone(spec);
  return VARIANT_NAMES.find((name) => backbone(variant(name)) === wanted);
}

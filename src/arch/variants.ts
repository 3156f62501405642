import { plural } from "../core/text.js";
import { expand } from "./expand.js";
import { compareStateDict, countProblems, parametersOf } from "./parameters.js";
import type { BlockSpec, Dialect, InstanceNormPlacement, OsnetSpec } from "./spec.js";

/** The differences between the published variants; everything else is the same in all. */
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

/** The placement found by the TPAMI paper's search. */
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

/** The variants by torchreid's names; the last two are from the attribute recognition project. */
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
 * The spec of a named variant with torchreid's defaults: four streams, bottleneck 4, gate reduction 16, an embedding of
 * 512 and a classifier of 1000 classes. `identify` reads what a checkpoint may change (classes, embedding) from it.
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
 * The named variant with a spec's backbone, whatever its embedding, classes and loss; undefined if there is none. This
 * also distinguishes specs that differ only in what a state dict does not show (pooling).
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

/** A published variant, and how a network differs from it. */
export interface NearestVariant {
  /** torchreid's name for it, such as `osnet_x0_25`. */
  readonly variant: VariantName;
  /** Noun phrases, such as `instance norm outside the residual in conv2`; empty for the variant itself. */
  readonly differences: readonly string[];
}

/** The maximum number of differences named in a sentence. */
const NAMED = 4;

/**
 * The published variant whose backbone differs least from that of a network. The embedding and the classifier, which
 * may have any size, do not count.
 *
 * @throws InputError (`spec`) if the spec does not describe a valid network
 */
export function nearestVariant(spec: OsnetSpec): NearestVariant {
  const exact = variantOf(spec);
  if (exact) return { variant: exact, differences: [] };
  const { embedding } = spec;
  const headers = new Map(parametersOf(expand({ ...spec, head: null })).map((entry) => [entry.path, entry]));
  const [nearest] = VARIANT_NAMES.map((name) => {
    const graph = expand({ ...variant(name), embedding, head: null });
    const keys = countProblems(compareStateDict(headers, graph));
    return { variant: name, keys, differences: differencesOf(spec, variant(name)) };
  }).sort((a, b) => a.keys - b.keys || a.differences.length - b.differences.length);
  return { variant: nearest?.variant ?? "osnet_x1_0", differences: nearest?.differences ?? [] };
}

/** A network in words: `osnet_x0_25`, or `osnet_x0_25 with instance norm outside the residual in conv2`. */
export function describeNetwork(spec: OsnetSpec): string {
  const { variant: name, differences } = nearestVariant(spec);
  if (differences.length === 0) return name;
  const more = differences.length - NAMED;
  const named = [...differences.slice(0, NAMED), ...(more > 0 ? [`${more} more differences`] : [])];
  // The phrases may contain "and" themselves.
  return `${name} with ${conjunction(named, ", and ")}`;
}

function differencesOf(spec: OsnetSpec, other: OsnetSpec): string[] {
  return [
    ...(spec.dialect === other.dialect ? [] : [`the module names of ${spec.dialect}`]),
    ...channelDifference(spec, other),
    ...(spec.stem.norm === other.stem.norm ? [] : [`${spec.stem.norm} norm in the stem`]),
    ...stageDifferences(spec, other),
    ...blockDifferences(spec, other, "instanceNorm", (block) => INSTANCE_NORM[block.instanceNorm]),
    ...blockDifferences(spec, other, "streams", ({ streams }) => `${streams} streams`),
    ...blockDifferences(spec, other, "reduction", ({ reduction }) => `bottleneck reduction ${reduction}`),
    ...gateDifferences(spec, other),
    ...(spec.pooling === other.pooling ? [] : [`global ${spec.pooling} pooling`]),
    ...((spec.head?.loss === "sigmoid") === (other.head?.loss === "sigmoid")
      ? []
      : [`${spec.head?.loss === "sigmoid" ? "a" : "no"} sigmoid over the classes`]),
  ];
}

const INSTANCE_NORM: Readonly<Record<InstanceNormPlacement, string>> = {
  none: "no instance norm",
  inside: "instance norm inside the residual",
  outside: "instance norm outside the residual",
  both: "instance norm inside and outside the residual",
};

/** Widths as in the papers' tables: stem, then every stage that both networks have. */
function channelDifference(spec: OsnetSpec, other: OsnetSpec): string[] {
  const shared = Math.min(spec.stages.length, other.stages.length);
  const [own, others] = [spec, other].map(({ stem, stages }) =>
    [
      stem.channels,
      ...stages
        .slice(0, shared)
        .map(({ blocks }) => [...new Set(blocks.map(({ outChannels }) => outChannels))].join("+")),
    ].join("/"),
  );
  return own === others ? [] : [`channels ${own} (not ${others})`];
}

function stageDifferences(spec: OsnetSpec, other: OsnetSpec): string[] {
  const count = spec.stages.length;
  const differences =
    count === other.stages.length ? [] : [`${plural(count, "stage")} (not ${other.stages.length})`];
  spec.stages.forEach(({ blocks, transition }, index) => {
    const stage = other.stages[index];
    if (!stage) return;
    const path = `conv${index + 2}`;
    if (blocks.length !== stage.blocks.length)
      differences.push(`${plural(blocks.length, "block")} in ${path} (not ${stage.blocks.length})`);
    if (transition !== stage.transition)
      differences.push(`${transition ? "a" : "no"} transition after ${path}`);
  });
  return differences;
}

/** Blocks that both networks have and that differ in a field, grouped by their value. */
function blockDifferences<K extends keyof BlockSpec>(
  spec: OsnetSpec,
  other: OsnetSpec,
  field: K,
  phrase: (block: BlockSpec) => string,
): string[] {
  const places = new Map<string, string[]>();
  const add = (text: string, path: string): void => {
    places.set(text, [...(places.get(text) ?? []), path]);
  };
  spec.stages.forEach(({ blocks }, index) => {
    const differing = blocks.flatMap((block, position) => {
      const counterpart = other.stages[index]?.blocks[position];
      return counterpart && counterpart[field] !== block[field] ? [{ block, position }] : [];
    });
    const phrases = new Set(differing.map(({ block }) => phrase(block)));
    const [only] = phrases;
    if (only !== undefined && phrases.size === 1 && differing.length === blocks.length)
      add(only, `conv${index + 2}`);
    else for (const { block, position } of differing) add(phrase(block), `conv${index + 2}.${position}`);
  });
  const everywhere = spec.stages.map((_, index) => `conv${index + 2}`).join();
  return [...places].map(([text, paths]) =>
    paths.join() === everywhere ? `${text} in every block` : `${text} in ${conjunction(paths)}`,
  );
}

function gateDifferences({ gate }: OsnetSpec, { gate: other }: OsnetSpec): string[] {
  return [
    ...(gate.reduction === other.reduction ? [] : [`gate reduction ${gate.reduction}`]),
    ...(gate.activation === other.activation ? [] : [`${gate.activation} gates`]),
    ...(gate.layerNorm === other.layerNorm ? [] : [`${gate.layerNorm ? "" : "no "}layer norm in the gates`]),
  ];
}

function conjunction(items: readonly string[], and = " and "): string {
  const last = items.at(-1) ?? "";
  return items.length > 1 ? `${items.slice(0, -1).join(", ")}${and}${last}` : last;
}

import { expand } from "./expand.js";
import { compareStateDict, countProblems, parametersOf } from "./parameters.js";
import type { BlockSpec, InstanceNormPlacement, OsnetSpec } from "./spec.js";
import { VARIANT_NAMES, type VariantName, variant, variantOf } from "./variants.js";

/** A published variant, and what a network has instead of what the variant has. */
export interface NearestVariant {
  /** torchreid's name of it, such as `osnet_x0_25`. */
  readonly variant: VariantName;
  /** Noun phrases, such as `instance norm outside the residual in conv2`; empty for the variant itself. */
  readonly differences: readonly string[];
}

/** As many differences are named in a sentence. */
const NAMED = 4;

/**
 * The published variant whose backbone's state dict departs least from that of a network. The embedding and the
 * classifier, which a variant may have of any size, do not count.
 *
 * @throws InputError (`spec`) if no network can follow the spec
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
  // The phrases may have an "and" of their own.
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

/** Widths as the papers' tables give them: stem, then every stage that both networks have. */
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

/** Blocks that both networks have and that differ in a field, gathered by what they have instead. */
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

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function conjunction(items: readonly string[], and = " and "): string {
  const last = items.at(-1) ?? "";
  return items.length > 1 ? `${items.slice(0, -1).join(", ")}${and}${last}` : last;
}

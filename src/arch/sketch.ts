import type { Shape } from "../core/tensor.js";
import type { BlockSpec, Dialect, GateSpec, InstanceNormPlacement, OsnetSpec, StageSpec } from "./spec.js";

/** Paths and shapes of a state dict: all that identification looks at. */
export type ParameterShapes = ReadonlyMap<string, Shape>;

/**
 * Reads the architecture off a state dict's names and shapes. The result is a first guess, not a judgement: where keys
 * are missing the neighbours fill in, and `identify` compares all of it afterwards. Undefined if nothing in the state
 * dict is named like an OSNet.
 *
 * Some choices leave no trace in a state dict and take torchreid's defaults: sigmoid gates, average pooling, softmax.
 */
export function sketchSpec(shapes: ParameterShapes): OsnetSpec | undefined {
  const keys = [...shapes.keys()];
  const dialect = dialectOf(keys);
  const stem = dimension(shapes, ["conv1.conv.weight", "conv1.bn.weight"]);
  if (!dialect || stem === undefined) return undefined;
  const numbers = indices(keys, /^conv(\d+)\.\d+\./);
  let channels = stem;
  const stages = numbers.map((number): StageSpec => {
    const blockNumbers = indices(
      keys,
      new RegExp(`^conv${number}\\.(\\d+)\\.(?:conv\\d[a-z]?|gate|downsample|IN(?:_in|_out)?)\\.`),
    );
    const blocks = range(0, blockNumbers.at(-1) ?? -1).map((index) => {
      const block = sketchBlock(shapes, keys, `conv${number}.${index}`, dialect, channels);
      channels = block.outChannels;
      return block;
    });
    const transition = dialect === "osnet" ? `conv${number}.${blocks.length}.0.` : `pool${number}.0.`;
    return { blocks, transition: keys.some((key) => key.startsWith(transition)) };
  });
  // Without a bias it is the weight of an angular loss, or another head's: torchreid's classifier has both.
  const classes = shapes.has("classifier.bias")
    ? dimension(shapes, ["classifier.weight", "classifier.bias"])
    : undefined;
  return {
    dialect,
    stem: { channels: stem, norm: shapes.has("conv1.bn.running_mean") ? "batch" : "instance" },
    stages,
    gate: sketchGate(shapes),
    pooling: "avg",
    embedding: indices(keys, /^fc\.(\d+)\./)
      .filter((index) => index % 3 === 0)
      .map((index) => dimension(shapes, [`fc.${index}.weight`, `fc.${index}.bias`]) ?? 0),
    head: classes === undefined ? null : { classes, loss: "softmax" },
  };
}

function dialectOf(keys: readonly string[]): Dialect | undefined {
  if (keys.some((key) => /^conv\d+\.\d+\.conv2\.\d+\.layers\./.test(key))) return "osnet_ain";
  if (keys.some((key) => /^conv\d+\.\d+\.conv2[a-z]\./.test(key))) return "osnet";
  return undefined;
}

function sketchBlock(
  shapes: ParameterShapes,
  keys: readonly string[],
  path: string,
  dialect: Dialect,
  inChannels: number,
): BlockSpec {
  const bottleneck = dimension(shapes, [`${path}.conv1.conv.weight`, `${path}.conv1.bn.weight`]);
  const outChannels =
    dimension(shapes, [`${path}.conv3.conv.weight`, `${path}.conv3.bn.weight`, `${path}.IN.weight`]) ??
    inChannels;
  const streams =
    dialect === "osnet"
      ? letters(keys, `${path}.conv2`)
      : (indices(keys, new RegExp(`^${literal(path)}\\.conv2\\.(\\d+)\\.`)).at(-1) ?? -1) + 1;
  return {
    inChannels,
    outChannels,
    streams: streams || 4,
    reduction: bottleneck ? Math.max(1, Math.floor(outChannels / bottleneck)) : 4,
    instanceNorm: placement(shapes, path),
  };
}

/** An instance norm inside the residual replaces conv3's batch norm; outside, both are there. */
function placement(shapes: ParameterShapes, path: string): InstanceNormPlacement {
  if (shapes.has(`${path}.IN_in.weight`) || shapes.has(`${path}.IN_out.weight`)) return "both";
  if (!shapes.has(`${path}.IN.weight`) && !shapes.has(`${path}.IN.bias`)) return "none";
  return shapes.has(`${path}.conv3.bn.weight`) ? "outside" : "inside";
}

/** The gate reduction that explains every gate's hidden width; torchreid's 16 wherever it does. */
function sketchGate(shapes: ParameterShapes): GateSpec {
  const gates: { readonly channels: number; readonly hidden: number }[] = [];
  for (const [key, [hidden = 0, channels = 0]] of shapes)
    if (key.endsWith(".gate.fc1.weight")) gates.push({ channels, hidden });
  const explains = (reduction: number): boolean =>
    gates.every(({ channels, hidden }) => Math.floor(channels / reduction) === hidden);
  const largest = Math.max(1, ...gates.map(({ channels }) => channels));
  const reduction = explains(16) ? 16 : (range(1, Math.min(largest, 65_536)).find(explains) ?? 16);
  const layerNorm = [...shapes.keys()].some((key) => key.endsWith(".gate.norm1.weight"));
  return { reduction, activation: "sigmoid", layerNorm };
}

/** First dimension of the first of these paths that is there. */
function dimension(shapes: ParameterShapes, paths: readonly string[]): number | undefined {
  const path = paths.find((candidate) => shapes.has(candidate));
  return path === undefined ? undefined : shapes.get(path)?.[0];
}

/** The distinct numbers that a pattern captures, ascending; numbers no network reaches are left out. */
function indices(keys: readonly string[], pattern: RegExp): number[] {
  const found = new Set<number>();
  for (const key of keys) {
    const digits = pattern.exec(key)?.[1];
    if (digits !== undefined && digits.length <= 3) found.add(Number(digits));
  }
  return [...found].sort((a, b) => a - b);
}

/** How many streams `prefix`a, `prefix`b … there are, counted to the last letter. */
function letters(keys: readonly string[], prefix: string): number {
  const codes = keys
    .filter((key) => key.startsWith(prefix) && key[prefix.length + 1] === ".")
    .map((key) => key.charCodeAt(prefix.length) - 96);
  return Math.max(0, ...codes.filter((code) => code >= 1 && code <= 26));
}

function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, offset) => first + offset);
}

function literal(text: string): string {
  return text.replaceAll(".", "\\.");
}

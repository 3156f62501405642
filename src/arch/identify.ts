import { InputError } from "../core/errors.js";
import type { Shape } from "../core/tensor.js";
import { expand } from "./expand.js";
import type { LayerGraph } from "./graph.js";
import {
  compareStateDict,
  countProblems,
  parametersOf,
  type StateDictProblems,
  type TensorHeader,
} from "./parameters.js";
import type { BlockSpec, Dialect, GateSpec, InstanceNormPlacement, OsnetSpec, StageSpec } from "./spec.js";
import { describeNetwork, VARIANT_NAMES, type VariantName, variant, variantOf } from "./variants.js";

/** A state dict's architecture, checked against every key. */
export interface Identified {
  /** The architecture, inferred from names and shapes or as given. */
  readonly spec: OsnetSpec;
  /** `expand(spec)`. */
  readonly graph: LayerGraph;
  /** The published variant with this backbone; undefined if it is not a published one. */
  readonly variant: VariantName | undefined;
  /** Keys that are not part of the network, in the file's order: heads of other losses, such as `bottleneck.weight`. */
  readonly extra: readonly string[];
}

/** Shape and dtype of every tensor, by its path; a `StateDict` is one. */
type StateDictHeaders = ReadonlyMap<string, TensorHeader>;

/** A network compared with a state dict. */
interface Match {
  readonly graph: LayerGraph;
  readonly problems: StateDictProblems;
  /** Unexpected keys outside the network's modules. */
  readonly extra: readonly string[];
}

/** The modules that compute the embedding. Other keys belong to a head, or to nothing in the network. */
const BACKBONE_MODULES = /^(?:conv\d+|pool\d*|maxpool|global_(?:avg)?pool|fc)$/;

/**
 * Infers the spec of a state dict from its names and shapes, or checks it against a given one. A match is complete: no
 * missing keys, no extra keys in the network's modules, no different shapes (only `num_batches_tracked` may be
 * missing). Keys of other modules are heads that torchreid does not have; they are returned as `extra`.
 *
 * The checkpoint's classifier, which may have any number of classes or be missing, replaces that of a given spec. If
 * there are other heads, a classifier that does not fit the embedding is one of them.
 *
 * @param subject name of the state dict in messages, usually the file's name
 * @throws InputError (`state-dict`) listing every missing, unexpected and mis-shaped key
 */
export function identify(
  stateDict: StateDictHeaders,
  { subject = "state dict", spec }: { readonly subject?: string; readonly spec?: OsnetSpec } = {},
): Identified {
  const shapes = new Map<string, Shape>([...stateDict].map(([path, { shape }]) => [path, shape]));
  const sketch = sketchSpec(shapes);
  const candidates = spec
    ? [withHead(spec, sketch)]
    : [
        ...(sketch ? [sketch, ...withLostEmbedding(sketch, shapes)] : []),
        ...VARIANT_NAMES.map((name) => withHead(variant(name), sketch, true)),
      ];
  const matches: Match[] = [];
  for (const candidate of candidates) {
    const match = matchSpec(stateDict, candidate, spec !== undefined);
    if (match && isComplete(match)) {
      const torn = spec || isRegular(match.graph.spec) ? undefined : tornVariant(stateDict, candidates);
      if (torn) throw incomplete(subject, torn, false);
      return identified(match);
    }
    if (match) matches.push(match);
  }
  for (const candidate of candidates) {
    const match = matchSpec(stateDict, { ...candidate, head: null }, spec !== undefined);
    if (match && isComplete(match) && match.extra.some((path) => !path.startsWith("classifier.")))
      return identified(match);
  }
  if (isFused(stateDict)) throw fused(subject);
  const [best] = matches.sort((a, b) => rank(a) - rank(b));
  if (!best || (!spec && !sketch && resembles(best, stateDict) < 0.5)) throw notAnOsnet(subject, stateDict);
  throw incomplete(subject, best, spec !== undefined);
}

function identified({ graph, extra }: Match): Identified {
  return { spec: graph.spec, graph, variant: variantOf(graph.spec), extra };
}

function matchSpec(stateDict: StateDictHeaders, spec: OsnetSpec, given: boolean): Match | undefined {
  const graph = tryExpand(spec, given);
  if (!graph) return undefined;
  const known = new Set(parametersOf(graph).map(({ path }) => path));
  const extra = [...stateDict.keys()].filter(
    (path) => !known.has(path) && !BACKBONE_MODULES.test(path.split(".", 1)[0] ?? ""),
  );
  return { graph, problems: compareStateDict(stateDict, graph), extra };
}

/** Whether the only differences are keys outside the network. */
function isComplete({ problems, extra }: Match): boolean {
  return countProblems(problems) === extra.length;
}

/**
 * The published variant of which a state dict is an incomplete copy: keys are missing, but none contradicts it.
 * `osnet_x1_0` without its last block is a valid network, but hardly one that anybody trained.
 */
function tornVariant(stateDict: StateDictHeaders, candidates: readonly OsnetSpec[]): Match | undefined {
  return candidates
    .filter((candidate) => variantOf(candidate) !== undefined)
    .flatMap((candidate) => matchSpec(stateDict, candidate, false) ?? [])
    .filter(isPart)
    .sort((a, b) => countProblems(a.problems) - countProblems(b.problems))[0];
}

/**
 * Whether all blocks have the same streams, all stages as many blocks, and all but the last a transition. osnet's
 * stages have one placement of instance norm; osnet_ain places it per block, with a batch norm elsewhere.
 */
function isRegular({ dialect, stages }: OsnetSpec): boolean {
  const [first] = stages;
  const streams = first?.blocks[0]?.streams;
  return stages.every(
    ({ blocks, transition }, index) =>
      blocks.length === first?.blocks.length &&
      blocks.every((block) => block.streams === streams) &&
      (dialect === "osnet_ain" || new Set(blocks.map(({ instanceNorm }) => instanceNorm)).size === 1) &&
      transition === index < stages.length - 1,
  );
}

/** The match with the fewest problems is best. A part of a published variant is that variant, not a smaller network. */
function rank(match: Match): number {
  const count = countProblems(match.problems) - match.extra.length;
  return isPart(match) && variantOf(match.graph.spec) ? count / 1e6 : count;
}

/** Whether the only problems are missing keys. */
function isPart({ problems, extra }: Match): boolean {
  return countProblems(problems) === problems.missing.length + extra.length;
}

/** A spec with the checkpoint's classifier and, for named variants, its embedding. */
function withHead(spec: OsnetSpec, sketch: OsnetSpec | undefined, embedding = false): OsnetSpec {
  if (!sketch) return spec;
  return {
    ...spec,
    head: sketch.head && { classes: sketch.head.classes, loss: spec.head?.loss ?? "softmax" },
    embedding: embedding ? sketch.embedding : spec.embedding,
  };
}

/**
 * The embedding layer that a classifier reads but that is missing completely, so that its keys are reported as missing.
 */
function withLostEmbedding(sketch: OsnetSpec, shapes: ReadonlyMap<string, Shape>): OsnetSpec[] {
  const width = shapes.get("classifier.weight")?.[1];
  return sketch.embedding.length === 0 && width !== undefined ? [{ ...sketch, embedding: [width] }] : [];
}

/** The sketch of a damaged state dict may be invalid; a spec from the user must be valid. */
function tryExpand(spec: OsnetSpec, given: boolean): LayerGraph | undefined {
  try {
    return expand(spec);
  } catch (error) {
    if (given || !(error instanceof InputError)) throw error;
    return undefined;
  }
}

/** The share of the network's keys that the state dict has. */
function resembles(best: Match, stateDict: ReadonlyMap<string, unknown>): number {
  const known = stateDict.size - best.problems.unexpected.length;
  return known / Math.max(1, parametersOf(best.graph).length);
}

/** Whether the batch norms of an OSNet are part of its convolutions, which then have biases. */
function isFused(stateDict: StateDictHeaders): boolean {
  const keys = [...stateDict.keys()];
  const ends = (suffix: string): boolean => keys.some((key) => key.endsWith(suffix));
  return (
    ends("conv2.0.conv1.conv.bias") && ends("conv2.0.gate.fc1.weight") && !ends("conv2.0.conv1.bn.weight")
  );
}

function fused(subject: string): InputError {
  return new InputError({
    code: "state-dict",
    subject,
    found: "an OSNet whose batch norms are fused into its convolutions",
    expected: "the state dict of an OSNet with its batch norms",
    remedy: "use the checkpoint from before they were fused, or export the fused model to ONNX",
  });
}

function notAnOsnet(subject: string, stateDict: StateDictHeaders): InputError {
  const keys = [...stateDict.keys()];
  const examples = keys.slice(0, 3).map((key) => JSON.stringify(key));
  const found =
    keys.length === 0
      ? "no tensors"
      : `${keys.length} tensors of another network (${examples.join(", ")}, …)`;
  return new InputError({
    code: "state-dict",
    subject,
    found,
    expected: "the state dict of an OSNet (conv1.conv.weight, conv2.0.conv2a… or conv2.0.conv2.0.layers…)",
    remedy: "use a torchreid OSNet checkpoint",
  });
}

/** Names of the parts of a checkpoint, as Hugging Face's libraries write them. */
const SHARD = /-\d{5}-of-\d{5}\b/;

/** @param isGiven whether the user named this network */
function incomplete(subject: string, { graph, problems }: Match, isGiven: boolean): InputError {
  const groups = [
    ["missing", problems.missing],
    ["unexpected", problems.unexpected],
    ["mis-shaped", problems.misshaped],
    ["wrongly typed", problems.wrongDtype],
  ] as const;
  const counts = groups.filter(([, list]) => list.length > 0).map(([name, list]) => `${list.length} ${name}`);
  const total = countProblems(problems);
  return new InputError({
    code: "state-dict",
    subject,
    found: `${counts.join(", ")} ${total === 1 ? "key" : "keys"}`,
    expected: `the complete state dict of ${describeNetwork(graph.spec)}`,
    remedy: SHARD.test(subject)
      ? "it is one of several parts, so load all of them, and save them as one file"
      : isGiven
        ? "partial state dicts are not loaded, so use the checkpoint's own architecture, or let it be inferred"
        : "partial state dicts are not loaded, so repair the checkpoint, or name its architecture with --arch",
    details: groups.flatMap(([name, list]) => list.map((line) => `${name}: ${line}`)),
  });
}

/** Paths and shapes of a state dict, which are all that identification reads. */
type ParameterShapes = ReadonlyMap<string, Shape>;

/**
 * Reads the architecture off a state dict's names and shapes. The result is a first guess: if keys are missing it is
 * inferred from neighbours, and `identify` compares everything afterwards. Undefined if no name in the state dict looks
 * like an OSNet's.
 *
 * Some choices leave no trace in a state dict and take torchreid's defaults: sigmoid gates, average pooling, softmax.
 */
function sketchSpec(shapes: ParameterShapes): OsnetSpec | undefined {
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
  // Without a bias it belongs to an angular loss or another head: torchreid's classifier has both.
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

/** The gate reduction that gives every gate's hidden width; torchreid's 16 if that does. */
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

/** First dimension of the first of these paths that exists. */
function dimension(shapes: ParameterShapes, paths: readonly string[]): number | undefined {
  const path = paths.find((candidate) => shapes.has(candidate));
  return path === undefined ? undefined : shapes.get(path)?.[0];
}

/** The distinct numbers that a pattern captures, ascending, without numbers beyond any network's. */
function indices(keys: readonly string[], pattern: RegExp): number[] {
  const found = new Set<number>();
  for (const key of keys) {
    const digits = pattern.exec(key)?.[1];
    if (digits !== undefined && digits.length <= 3) found.add(Number(digits));
  }
  return [...found].sort((a, b) => a - b);
}

/** The number of streams `prefix`a, `prefix`b …, counted to the last letter. */
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

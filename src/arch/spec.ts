import { InputError } from "../core/errors.js";

/**
 * What an OSNet is, as plain data: `JSON.parse(JSON.stringify(spec))` is the same spec. Any width, depth, number of
 * streams or mix of blocks is a spec, not new code.
 *
 * Source: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification" (ICCV 2019) and "Learning
 * Generalisable Omni-Scale Representations" (TPAMI 2021); modules of torchreid.models.osnet, osnet_ain, and the
 * OSNet_AIN and attribute_recognition projects of deep-person-reid.
 */

/** Module names: `torchreid.models.osnet` (conv2a, conv2b.0 …) or `osnet_ain` (conv2.T.layers.L, pool2). */
export type Dialect = "osnet" | "osnet_ain";

/** Where a block has instance norms: before the residual add, after it, both, or nowhere. */
export type InstanceNormPlacement = "none" | "inside" | "outside" | "both";

/** A residual block of `streams` parallel streams; stream t stacks t lightweight 3×3 convolutions. */
export interface BlockSpec {
  /** Channels of its input. If they differ from `outChannels`, the identity branch has a 1×1 convolution. */
  readonly inChannels: number;
  /** Channels of its output. */
  readonly outChannels: number;
  /** T in the paper. */
  readonly streams: number;
  /** Bottleneck: the streams have `outChannels / reduction` channels, rounded down. */
  readonly reduction: number;
  /** Where it has instance norms; `none` in most variants. */
  readonly instanceNorm: InstanceNormPlacement;
}

/** Blocks, then optionally a transition: a 1×1 convolution and a 2×2 average pool. */
export interface StageSpec {
  /** In order; each reads the one before it. */
  readonly blocks: readonly BlockSpec[];
  /** Whether the stage ends in the 1×1 convolution and the 2×2 average pool that halve its map. */
  readonly transition: boolean;
}

/** The activations of a gate, torchreid's default first; each except `linear` is an operation of that name. */
export const GATE_ACTIVATIONS = ["sigmoid", "relu", "linear"] as const;

/** The aggregation gate of a block: global average pool, 1×1 convolution, ReLU, 1×1 convolution, activation. */
export interface GateSpec {
  /** The hidden layer has `channels / reduction` units, rounded down. */
  readonly reduction: number;
  /** The activation after the last convolution; torchreid's default is `sigmoid`. */
  readonly activation: (typeof GATE_ACTIVATIONS)[number];
  /** LayerNorm between the hidden layer and its ReLU. */
  readonly layerNorm: boolean;
}

/** The classifier used in training: a linear layer over the embedding. */
export interface HeadSpec {
  /** Width of the classifier's output: the identities (or attributes) of the training set. */
  readonly classes: number;
  /**
   * The training loss. `sigmoid` is an attribute model: evaluation returns the sigmoid of the classifier, while
   * `softmax` and `triplet` models return the embedding.
   */
  readonly loss: "softmax" | "triplet" | "sigmoid";
}

/** The architecture of an OSNet, as plain JSON data. `expand` makes the layer graph from it. */
export interface OsnetSpec {
  /** The naming of modules in the state dict. */
  readonly dialect: Dialect;
  /** A 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2. */
  readonly stem: { readonly channels: number; readonly norm: "batch" | "instance" };
  /** conv2, conv3 … in order; the 1×1 convolution after the last stage takes the next number. */
  readonly stages: readonly StageSpec[];
  /** The same for every block. */
  readonly gate: GateSpec;
  /** Global pooling of the last feature map. */
  readonly pooling: "avg" | "max";
  /** Widths of the Linear + BatchNorm1d + ReLU layers; empty if the embedding is the pooled map. */
  readonly embedding: readonly number[];
  /** The classifier, or null if the checkpoint has none. */
  readonly head: HeadSpec | null;
}

/** Epsilon of every batch, instance and layer norm: PyTorch's default, which torchreid uses throughout. */
export const NORM_EPSILON = 1e-5;

/**
 * A block of T streams has T(T+1)/2 light convolutions, each expanded to several layers. osnet_x1_0 has 60; a hostile
 * spec of a few bytes could ask for billions.
 */
const MAX_CONVOLUTIONS = 2_000;

/** Published networks have 1. Each is a matrix product followed by a batch norm. */
const MAX_EMBEDDING_LAYERS = 16;

/** Blocks of all stages; published networks have 6. */
const MAX_BLOCKS = 500;

/**
 * Checks that a spec describes a valid network: positive whole widths, matching block channels, at least one channel in
 * every bottleneck and gate.
 *
 * @throws InputError (`spec`) that lists every problem.
 */
export function validateSpec(spec: OsnetSpec): void {
  const problems = specProblems(spec);
  const [first] = problems;
  if (first === undefined) return;
  throw new InputError({
    code: "spec",
    subject: "architecture description",
    found: problems.length === 1 ? first : `${problems.length} invalid values`,
    expected: "a valid OSNet spec",
    remedy: "correct these values",
    details: problems.length === 1 ? [] : problems,
  });
}

function specProblems(spec: OsnetSpec): string[] {
  const problems: string[] = [];
  const positive = (name: string, value: number): void => {
    if (!Number.isSafeInteger(value) || value < 1)
      problems.push(`${name} ${value}, which is not a positive whole number`);
  };
  positive("stem.channels", spec.stem.channels);
  positive("gate.reduction", spec.gate.reduction);
  for (const width of spec.embedding) positive("embedding width", width);
  if (spec.head) positive("head.classes", spec.head.classes);
  if (spec.embedding.length > MAX_EMBEDDING_LAYERS)
    problems.push(`${spec.embedding.length} embedding layers (limit: ${MAX_EMBEDDING_LAYERS})`);
  const blocks = spec.stages.reduce((count, stage) => count + stage.blocks.length, 0);
  if (blocks + spec.stages.length > MAX_BLOCKS)
    problems.push(`${blocks} blocks in ${spec.stages.length} stages (limit: ${MAX_BLOCKS})`);
  if (spec.stages.length === 0) problems.push("no stages");
  const convolutions = spec.stages
    .flatMap(({ blocks }) => blocks)
    .reduce((count, { streams }) => count + (streams * (streams + 1)) / 2, 0);
  if (!(convolutions <= MAX_CONVOLUTIONS))
    problems.push(`${convolutions} convolutions in all streams (limit: ${MAX_CONVOLUTIONS})`);
  let channels = spec.stem.channels;
  spec.stages.forEach((stage, stageIndex) => {
    const stageName = `stages[${stageIndex}]`;
    if (stage.blocks.length === 0) problems.push(`${stageName} without blocks`);
    stage.blocks.forEach((block, blockIndex) => {
      const name = `${stageName}.blocks[${blockIndex}]`;
      positive(`${name}.outChannels`, block.outChannels);
      positive(`${name}.reduction`, block.reduction);
      positive(`${name}.streams`, block.streams);
      if (spec.dialect === "osnet" && block.streams > 26)
        problems.push(`${name}.streams ${block.streams}, but the osnet dialect can only name streams a to z`);
      if (block.inChannels !== channels)
        problems.push(`${name}.inChannels ${block.inChannels} after a layer of ${channels} channels`);
      const hidden = Math.floor(Math.floor(block.outChannels / block.reduction) / spec.gate.reduction);
      if (hidden < 1)
        problems.push(
          `${name} without a hidden unit in its gate (outChannels / reduction / gate.reduction < 1)`,
        );
      channels = block.outChannels;
    });
  });
  return problems;
}

/** The type of a value in words, for messages. */
type Check = (value: unknown) => string | undefined;

const number: Check = (value) => (typeof value === "number" ? undefined : "a number");
const boolean: Check = (value) => (typeof value === "boolean" ? undefined : "true or false");
const oneOf =
  (...options: readonly string[]): Check =>
  (value) =>
    options.includes(value as string)
      ? undefined
      : options.map((option) => JSON.stringify(option)).join(" or ");

/** The fields of each object of a spec; nested objects are named by their path. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  stem: { channels: number, norm: oneOf("batch", "instance") },
  gate: { reduction: number, activation: oneOf(...GATE_ACTIVATIONS), layerNorm: boolean },
  head: { classes: number, loss: oneOf("softmax", "triplet", "sigmoid") },
  block: {
    inChannels: number,
    outChannels: number,
    streams: number,
    reduction: number,
    instanceNorm: oneOf("none", "inside", "outside", "both"),
  },
};

/**
 * Reads a spec from JSON text: every field present, of its type, and no other.
 *
 * @param subject name of the text in messages, usually a file name
 * @throws InputError (`spec`) listing every problem
 */
export function parseSpec(text: string, subject: string): OsnetSpec {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw badSpec(subject, ["text that is not JSON"], cause);
  }
  const problems = fieldProblems(value);
  if (problems.length > 0) throw badSpec(subject, problems);
  const spec = value as OsnetSpec;
  validateSpec(spec);
  return spec;
}

function fieldProblems(value: unknown): string[] {
  const problems: string[] = [];
  const spec = fields(
    value,
    "",
    ["dialect", "stem", "stages", "gate", "pooling", "embedding", "head"],
    problems,
  );
  if (!spec) return problems;
  apply("dialect", oneOf("osnet", "osnet_ain"), spec.dialect, problems);
  apply("pooling", oneOf("avg", "max"), spec.pooling, problems);
  object("stem", spec.stem, "stem", problems);
  object("gate", spec.gate, "gate", problems);
  if (spec.head !== null) object("head", spec.head, "head", problems);
  list("embedding", spec.embedding, problems, (path, width) => apply(path, number, width, problems));
  list("stages", spec.stages, problems, (path, stageValue) => {
    const stage = fields(stageValue, path, ["blocks", "transition"], problems);
    if (!stage) return;
    apply(`${path}.transition`, boolean, stage.transition, problems);
    list(`${path}.blocks`, stage.blocks, problems, (blockPath, block) => {
      object(blockPath, block, "block", problems);
    });
  });
  return problems;
}

function object(path: string, value: unknown, kind: string, problems: string[]): void {
  const checks = FIELDS[kind] ?? {};
  const found = fields(value, path, Object.keys(checks), problems);
  if (found)
    for (const [key, check] of Object.entries(checks)) apply(`${path}.${key}`, check, found[key], problems);
}

function list(
  path: string,
  value: unknown,
  problems: string[],
  each: (path: string, item: unknown) => void,
): void {
  if (!Array.isArray(value)) problems.push(`${path}: expected a list`);
  else
    value.forEach((item, index) => {
      each(`${path}[${index}]`, item);
    });
}

function fields(
  value: unknown,
  path: string,
  keys: readonly string[],
  problems: string[],
): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    problems.push(`${path || "the spec"}: expected an object`);
    return undefined;
  }
  for (const key of Object.keys(value))
    if (!keys.includes(key)) problems.push(`${path ? `${path}.` : ""}${key}: unknown field`);
  return value as Readonly<Record<string, unknown>>;
}

function apply(path: string, check: Check, value: unknown, problems: string[]): void {
  const expected = check(value);
  if (expected !== undefined)
    problems.push(`${path}: found ${JSON.stringify(value) ?? "nothing"}, expected ${expected}`);
}

function badSpec(subject: string, problems: readonly string[], cause?: unknown): InputError {
  return new InputError(
    {
      code: "spec",
      subject,
      found: problems.length === 1 ? (problems[0] ?? "") : `${problems.length} problems`,
      expected: "an OSNet architecture description",
      remedy: "see docs/architecture.md for its fields",
      details: problems.length === 1 ? [] : problems,
    },
    { cause },
  );
}

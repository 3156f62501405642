import { InputError } from "../errors.js";
import { formatShape, type Shape, sameShape, type Tensor } from "../tensor.js";
import { expand } from "./expand.js";
import type { LayerGraph } from "./graph.js";
import { parametersOf } from "./parameters.js";
import { sketchSpec } from "./sketch.js";
import type { OsnetSpec } from "./spec.js";
import { VARIANT_NAMES, type VariantName, variant, variantOf } from "./variants.js";

/** A state dict's architecture, confirmed key by key. */
export interface Identified {
  readonly spec: OsnetSpec;
  readonly graph: LayerGraph;
  /** The published variant whose backbone this is; undefined for a network of its own kind. */
  readonly variant: VariantName | undefined;
}

/** Every way in which a state dict departs from a spec. */
export interface StateDictProblems {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshaped: readonly string[];
  readonly wrongDtype: readonly string[];
}

/** What identification reads of a tensor. */
type TensorHeader = Pick<Tensor, "shape" | "dtype">;

/**
 * Finds the spec of a state dict from its names and shapes, or checks it against a given one. A match is complete: no
 * key missing, none left over, no shape different (`num_batches_tracked` alone may be absent).
 *
 * A given spec's classifier gives way to the checkpoint's, which may have any number of classes or none.
 *
 * @param subject what messages call the state dict, usually the file's name
 * @throws InputError (`state-dict`) listing every missing, unexpected and mis-shaped key
 */
export function identify(
  stateDict: ReadonlyMap<string, TensorHeader>,
  { subject = "state dict", spec }: { readonly subject?: string; readonly spec?: OsnetSpec } = {},
): Identified {
  const shapes = new Map<string, Shape>([...stateDict].map(([path, { shape }]) => [path, shape]));
  const sketch = sketchSpec(shapes);
  const candidates = spec
    ? [withHead(spec, sketch)]
    : [...(sketch ? [sketch] : []), ...VARIANT_NAMES.map((name) => withHead(variant(name), sketch, true))];
  let best: Match | undefined;
  for (const candidate of candidates) {
    const match = matchSpec(stateDict, candidate, spec !== undefined);
    if (match && (!best || countOf(match.problems) < countOf(best.problems))) best = match;
    if (best && countOf(best.problems) === 0) break;
  }
  if (!best || (!spec && !sketch && resembles(best, stateDict) < 0.5)) throw notAnOsnet(subject, stateDict);
  if (!spec && (countOf(best.problems) > 0 || !isRegular(best.graph.spec)))
    best = tornVariant(stateDict, candidates) ?? best;
  if (countOf(best.problems) > 0) throw incomplete(subject, best.graph, best.problems);
  return { spec: best.graph.spec, graph: best.graph, variant: variantOf(best.graph.spec) };
}

/** A network, and how a state dict departs from it. */
interface Match {
  readonly graph: LayerGraph;
  readonly problems: StateDictProblems;
}

function matchSpec(
  stateDict: ReadonlyMap<string, TensorHeader>,
  spec: OsnetSpec,
  given: boolean,
): Match | undefined {
  const graph = tryExpand(spec, given);
  return graph && { graph, problems: compareStateDict(stateDict, graph) };
}

/**
 * The published variant of which a state dict is a torn part: it lacks keys, and contradicts none. Without its last
 * block, `osnet_x1_0` is a network that could be, but hardly one that anybody trained.
 */
function tornVariant(
  stateDict: ReadonlyMap<string, TensorHeader>,
  candidates: readonly OsnetSpec[],
): Match | undefined {
  return candidates
    .filter((candidate) => variantOf(candidate) !== undefined)
    .flatMap((candidate) => matchSpec(stateDict, candidate, false) ?? [])
    .filter(({ problems }) => problems.missing.length === countOf(problems))
    .sort((a, b) => countOf(a.problems) - countOf(b.problems))[0];
}

/** Whether all blocks have the same streams, all stages as many blocks, and all but the last a transition. */
function isRegular({ stages }: OsnetSpec): boolean {
  const streams = stages.flatMap(({ blocks }) => blocks.map((block) => block.streams));
  const [firstStage] = stages;
  return (
    streams.every((count) => count === streams[0]) &&
    stages.every(
      ({ blocks, transition }, index) =>
        blocks.length === firstStage?.blocks.length && transition === index < stages.length - 1,
    )
  );
}

/** Compares a state dict with what a network needs; the result lists everything, in the network's order. */
export function compareStateDict(
  stateDict: ReadonlyMap<string, TensorHeader>,
  graph: LayerGraph,
): StateDictProblems {
  const expected = new Map(parametersOf(graph).map((parameter) => [parameter.path, parameter]));
  const missing: string[] = [];
  const misshaped: string[] = [];
  const wrongDtype: string[] = [];
  for (const { path, shape, dtype, optional } of expected.values()) {
    const found = stateDict.get(path);
    if (!found) {
      if (!optional) missing.push(`${path} ${formatShape(shape)}`);
    } else if (!sameShape(found.shape, shape) && !optional)
      misshaped.push(`${path}: found ${formatShape(found.shape)}, expected ${formatShape(shape)}`);
    else if (dtype === "float32" && !isFloat(found.dtype))
      wrongDtype.push(`${path}: found ${found.dtype}, expected a floating-point type`);
  }
  const unexpected = [...stateDict]
    .filter(([path]) => !expected.has(path))
    .map(([path, { shape }]) => `${path} ${formatShape(shape)}`);
  return { missing, unexpected, misshaped, wrongDtype };
}

function isFloat(dtype: TensorHeader["dtype"]): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "float16" || dtype === "bfloat16";
}

function countOf(problems: StateDictProblems): number {
  const { missing, unexpected, misshaped, wrongDtype } = problems;
  return missing.length + unexpected.length + misshaped.length + wrongDtype.length;
}

/** A spec with the classifier, and for named variants the embedding too, that the checkpoint has. */
function withHead(spec: OsnetSpec, sketch: OsnetSpec | undefined, embedding = false): OsnetSpec {
  if (!sketch) return spec;
  return {
    ...spec,
    head: sketch.head && { classes: sketch.head.classes, loss: spec.head?.loss ?? "softmax" },
    embedding: embedding ? sketch.embedding : spec.embedding,
  };
}

/** A sketch of a damaged state dict may not expand; a spec that the user gave must. */
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

function notAnOsnet(subject: string, stateDict: ReadonlyMap<string, TensorHeader>): InputError {
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
    remedy: "give a torchreid OSNet checkpoint",
  });
}

function incomplete(subject: string, graph: LayerGraph, problems: StateDictProblems): InputError {
  const groups = [
    ["missing", problems.missing],
    ["unexpected", problems.unexpected],
    ["mis-shaped", problems.misshaped],
    ["wrongly typed", problems.wrongDtype],
  ] as const;
  const counts = groups.filter(([, list]) => list.length > 0).map(([name, list]) => `${list.length} ${name}`);
  const total = countOf(problems);
  return new InputError({
    code: "state-dict",
    subject,
    found: `${counts.join(", ")} ${total === 1 ? "key" : "keys"}`,
    expected: `the complete state dict of ${variantOf(graph.spec) ?? "an OSNet"}`,
    remedy: "nothing is loaded in part, so repair the checkpoint, or name its architecture with --arch",
    details: groups.flatMap(([name, list]) => list.map((line) => `${name}: ${line}`)),
  });
}

import { unreadLayers } from "../../arch/graph.js";
import type { LayerGraph, LayerNode } from "../../arch/index.js";
import { someOf } from "../../core/text.js";
import { type LayerGroup, layerGroups } from "../bounds/recompute.js";
import type { Candidate } from "../candidate/candidate.js";
import type { Explanation } from "../explain/index.js";
import {
  type Fault,
  type FaultDraft,
  type LayerResult,
  layerFault,
  type OutputResult,
  type RelativeTolerance,
} from "../outcome/report.js";

/**
 * Failing layers that do not depend on another failing layer, worst first: the origins of errors. Layers downstream
 * of a fault differ because of it, and are not reported, even if a layer in between is within the tolerance.
 */
export function numericFaults(
  graph: LayerGraph,
  results: ReadonlyMap<string, LayerResult>,
  { value }: RelativeTolerance,
  structure: readonly Fault[] = [],
): Fault[] {
  // Layers after a wrong one differ because of it.
  const tainted = new Set(structure.map(({ layer }) => layer));
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  // A product that is folded with its batch norm has no value of its own.
  const inputsAgree = ({ op, inputs }: LayerNode): boolean =>
    inputs.every((input) => {
      const source = nodes.get(input);
      const result = results.get(input);
      if (!source || source.op.kind === "input" || result) return !result || result.status === "pass";
      return op.kind === "batchNorm" && source.op.kind !== "batchNorm" && inputsAgree(source);
    });
  const faults: Fault[] = [];
  for (const node of graph.nodes) {
    const upstream = node.inputs.some((input) => tainted.has(input));
    const result = results.get(node.name);
    if (upstream || result?.status === "fail") tainted.add(node.name);
    if (upstream || result?.status !== "fail") continue;
    faults.push(layerFault(node, "numeric", result.margin, explain(result, value, inputsAgree(node))));
  }
  return faults.sort(byMargin);
}

/**
 * Layers whose error on the candidate's own inputs exceeds their bound, in network order: each is a separate fault,
 * except for those that overflow, which are one.
 */
export function localFaults(
  graph: LayerGraph,
  results: ReadonlyMap<string, LayerResult>,
  explanations: ReadonlyMap<string, Explanation>,
): Fault[] {
  const overflows = graph.nodes.filter(
    ({ name }) => results.get(name)?.status === "fail" && explanations.get(name)?.cause === "overflow",
  );
  const isOff = (name: string): boolean => results.get(name)?.status === "fail";
  return graph.nodes.flatMap((node) => {
    const result = results.get(node.name);
    if (result?.status !== "fail" || overflows.indexOf(node) > 0) return [];
    const explanation = explanations.get(node.name);
    // Padding zeros around non-negative values are correct: that these values are non-negative is the fault.
    if (explanation?.cause === "zero-padding" && node.inputs.some(isOff)) return [];
    const fault = layerFault(
      node,
      "numeric",
      result.margin,
      explanation ? sentenceOf(explanation, overflows) : explainLocally(result),
    );
    return [explanation ? { ...fault, cause: explanation.cause } : fault];
  });
}

/** Causes that other weights produce as well, since weights are found by fitting. */
export const OF_WEIGHTS: ReadonlySet<string> = new Set(["weights-other", "bias"]);

/**
 * Minimum share of groups with weights that are wrong, and maximum share of these with another explanation, as groups
 * of few values have.
 */
const MIN_OFF = 0.9;
const MAX_OTHERWISE = 0.125;

/**
 * Minimum error of values computed with other weights, as a share of the layer's largest: smaller ones may be rounded
 * weights. Not all of them reach it, since the largest is the reference network's, whose values may be far larger.
 */
const OTHER_VALUES = 0.02;
const MAX_NEAR = 0.25;

/** Minimum number of layers with weights whose inputs are recorded too, for a finding about weights only. */
const MIN_SHOWN = 8;

/** Minimum number of groups of layers, for a recording with few layers. */
const MIN_GROUPS = 2;

/**
 * One fault for a recording of other weights: every layer with weights is wrong on the recording's own inputs, and
 * every layer without is right. If no layer is recorded with its inputs, a network that computes something else
 * throughout looks the same. Undefined for other recordings.
 *
 * @param shown names of the layers that the recording has
 */
export function ofOtherWeights(
  graph: LayerGraph,
  results: ReadonlyMap<string, LayerResult>,
  explanations: ReadonlyMap<string, Explanation>,
  shown: ReadonlySet<string>,
): Fault | undefined {
  const groups = layerGroups(graph, shown).filter(({ layer }) => {
    const status = results.get(layer.name)?.status;
    return status === "pass" || status === "fail";
  });
  const isOff = ({ layer }: LayerGroup): boolean => results.get(layer.name)?.status === "fail";
  const [weighted, others] = [groups.filter(hasWeights), groups.filter((group) => !hasWeights(group))];
  const off = weighted.filter(isOff);
  const [first] = off;
  const otherwise = off.filter(({ layer }) => {
    const cause = explanations.get(layer.name)?.cause;
    return cause !== undefined && !OF_WEIGHTS.has(cause);
  });
  const near = off.filter(({ layer }) => !isFar(results.get(layer.name)));
  if (!first || off.length < MIN_GROUPS || off.length < MIN_OFF * weighted.length) return undefined;
  if (otherwise.length > MAX_OTHERWISE * off.length || near.length > MAX_NEAR * off.length) return undefined;
  if (others.some(isOff)) return undefined;
  const alone = weighted.filter(({ nodes }) => nodes.length === 1).length;
  const count = `${off.length} of ${weighted.length} ${alone < MIN_SHOWN ? "recorded parts" : "layers"} with weights differ on their own inputs`;
  const margins = off.map(({ layer }) => results.get(layer.name)?.margin ?? Infinity);
  const most = Math.max(...margins);
  return layerFault(
    first.layer,
    "weights",
    Number.isFinite(most) ? most : null,
    alone < MIN_SHOWN
      ? `the recording was made with other weights, or with a network that computes something else throughout: ${count}`
      : `the recording was made with other weights: ${count}, and ${others.length === 0 ? "no others are recorded" : `the ${others.length} without weights are right`}`,
  );
}

function hasWeights({ nodes }: LayerGroup): boolean {
  return nodes.some(({ parameters }) => Object.keys(parameters).length > 0);
}

function isFar(result: LayerResult | undefined): boolean {
  if (!result || result.margin === null || result.relMax === null || result.relMax === 0) return true;
  const largest = result.maxAbs / result.relMax;
  return (result.localMaxAbs ?? Infinity) > OTHER_VALUES * largest;
}

function sentenceOf({ cause, sentence }: Explanation, overflows: readonly LayerNode[]): string {
  const [, ...others] = cause === "overflow" ? overflows : [];
  return others.length === 0 ? sentence : `${sentence}; also at ${others.map(({ name }) => name).join(", ")}`;
}

/**
 * Merges faults with one cause: if a layer's operation or parameters are known to be wrong, its wrong values give
 * that fault's margin, and are not a second fault. A parameter that all streams share affects all of them.
 */
export function withCauses(
  graph: LayerGraph,
  causes: readonly FaultDraft[],
  numeric: readonly FaultDraft[],
  isShown: (layer: string) => boolean = () => true,
): FaultDraft[] {
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const inside = new Map(numeric.map(({ layer }) => [layer, computedIn(nodes, layer, isShown)]));
  const explains = (cause: Fault, effect: Fault): boolean => {
    if (cause.layer === effect.layer) return true;
    if (cause.kind !== "weights") return false;
    if (inside.get(effect.layer)?.has(cause.layer)) return true;
    const shared = new Set(Object.values(nodes.get(cause.layer)?.parameters ?? {}));
    return Object.values(nodes.get(effect.layer)?.parameters ?? {}).some((path) => shared.has(path));
  };
  const merged = causes.map((cause) => {
    const effects = numeric.filter((effect) => explains(cause, effect));
    const [own = effects[0]] = effects.filter(
      ({ layer }) => layer === cause.layer || inside.get(layer)?.has(cause.layer),
    );
    if (!own) return cause;
    const worst = Math.max(...effects.map(({ margin }) => margin ?? Infinity));
    return {
      ...cause,
      margin: Number.isFinite(worst) ? worst : null,
      ...(own.cause && cause.cause === undefined
        ? {
            cause: own.cause,
            explanation: `${cause.explanation}; ${own.explanation}`,
            says: cause.says ?? cause.explanation,
          }
        : {}),
    };
  });
  return [...merged, ...numeric.filter((effect) => !causes.some((cause) => explains(cause, effect)))];
}

/** The layers that a file computes in one operator with this one, and does not show. */
export function computedIn(
  nodes: ReadonlyMap<string, LayerNode>,
  layer: string,
  isShown: (layer: string) => boolean,
): ReadonlySet<string> {
  const inside = new Set<string>();
  const pending = [...(nodes.get(layer)?.inputs ?? [])];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const node = nodes.get(name);
    if (!node || node.op.kind === "input" || inside.has(name) || isShown(name)) continue;
    inside.add(name);
    pending.push(...node.inputs);
  }
  return inside;
}

function byMargin(a: Fault, b: Fault): number {
  return (b.margin ?? Infinity) - (a.margin ?? Infinity);
}

function explainLocally({ nonFinite, localMaxAbs, margin }: LayerResult): string {
  if (margin === null)
    return `${nonFinite} elements are NaN or infinite, although the inputs of the layer are finite`;
  return `off by ${localMaxAbs?.toPrecision(3)} on the candidate's own inputs, ${margin.toPrecision(3)} times its rounding bound`;
}

/** Without intermediate outputs, the model must compute what it computed with them. */
export function outputFaults(
  output: OutputResult | null,
  results: ReadonlyMap<string, LayerResult>,
): FaultDraft[] {
  const result = output && results.get(output.layer);
  if (output?.status !== "fail" || !result || result.status === "fail") return [];
  if (result.nonFinite > 0) {
    const values = `${result.nonFinite} elements of the embedding are NaN or infinite`;
    return [{ layer: output.layer, kind: "numeric", margin: null, explanation: values }];
  }
  const moved = output.tappingMaxAbs?.toPrecision(3);
  const named = output.name === undefined ? "embedding" : `output ${JSON.stringify(output.name)}`;
  const explanation = `without intermediate values as outputs, the model computes a different ${named} (max |difference| ${moved})`;
  return [{ layer: output.layer, kind: "numeric", margin: null, explanation }];
}

function explain(
  { nonFinite, maxAbs, relMax }: LayerResult,
  tolerance: number,
  inputsAgree: boolean,
): string {
  if (nonFinite > 0) return `${nonFinite} elements are NaN or infinite and do not match`;
  const relative =
    relMax === null ? "where the reference is 0 throughout" : `${relMax.toExponential(2)} of max`;
  return `max |actual − expected| ${maxAbs.toPrecision(3)}, ${relative}, over the tolerance ${tolerance}; ${inputsAgree ? "its inputs agree" : "its inputs were not compared"}`;
}

/** Operators inserted after a layer are the one fault of all its readers. */
function withInserted(
  numeric: readonly FaultDraft[],
  deviations: readonly FaultDraft[],
  readers: (layer: string) => ReadonlySet<string>,
): readonly FaultDraft[] {
  const inserted = deviations.flatMap((deviation) => {
    const { layer, difference } = deviation;
    if (difference !== "inserted" || numeric.some((fault) => fault.layer === layer)) return [];
    const reading = readers(layer);
    const effects = numeric.filter((fault) => reading.has(fault.layer));
    return effects.length > 0 ? [{ deviation, effects }] : [];
  });
  const explained = new Set(inserted.flatMap(({ effects }) => effects));
  return [
    ...inserted.map(({ deviation, effects }) => ({
      ...deviation,
      margin: effects.reduce<number | null>(
        (most, { margin }) => (margin === null || most === null ? null : Math.max(most, margin)),
        0,
      ),
    })),
    ...numeric.filter((fault) => !explained.has(fault)),
  ];
}

/** Faults that the values do not explain get the structural explanation. A layer with both has both. */
export function withDeviations(
  numeric: readonly FaultDraft[],
  { deviations = [] }: Pick<Candidate, "deviations">,
  readers: (layer: string) => ReadonlySet<string> = () => new Set(),
): readonly FaultDraft[] {
  return withInserted(numeric, deviations, readers).map((fault) => {
    const deviation = deviations.find(({ layer }) => layer === fault.layer);
    if (!deviation) return fault;
    const { explanation } = deviation;
    if (fault.cause) return { ...fault, says: explanation };
    if (fault.explanation === explanation) return fault;
    return {
      ...fault,
      kind: "structure",
      explanation: `${explanation}; ${fault.explanation}`,
      says: explanation,
    };
  });
}

/** Minimum number of unexplained layers for which quantised constants are the one fault. */
const MIN_QUANTISED = 3;

/**
 * Merges the unexplained faults of a file with quantised constants.
 *
 * @param isQuantised whether a layer has any
 */
export function ofQuantised(
  numeric: readonly FaultDraft[],
  quantised: number,
  isQuantised: (layer: string) => boolean,
): readonly FaultDraft[] {
  const unexplained = numeric.filter(isUnexplained);
  const [first] = unexplained;
  if (!first || quantised === 0) return numeric;
  if (unexplained.length < MIN_QUANTISED)
    return numeric.map((fault) =>
      isUnexplained(fault) && isQuantised(fault.layer)
        ? {
            ...fault,
            kind: "weights",
            explanation: `its constants are quantised, each within half a step of the checkpoint's: ${fault.explanation}`,
          }
        : fault,
    );
  const margins = unexplained.map(({ margin }) => margin ?? Infinity);
  const most = Math.max(...margins);
  const explanation = `${quantised} constants are quantised: ${unexplained.length} layers differ from those of the checkpoint's weights by more than rounding, ${first.layer} first`;
  const one: Fault = {
    ...first,
    margin: Number.isFinite(most) ? most : null,
    explanation,
  };
  return [one, ...numeric.filter((fault) => !unexplained.includes(fault))];
}

function isUnexplained({ kind, cause }: FaultDraft): boolean {
  return kind === "numeric" && cause === undefined;
}

/**
 * The faults of values that quantised activations do not explain, which round every layer after the first of them.
 *
 * @param layer the layer with the first quantised activation; a result of the network if it is not known
 */
export function beforeQuantised(
  { nodes }: LayerGraph,
  numeric: readonly FaultDraft[],
  layer: string,
  results: readonly string[],
): readonly FaultDraft[] {
  const order = nodes.map(({ name }) => name);
  const first = results.includes(layer) ? 0 : order.indexOf(layer);
  return numeric.filter((fault) => !isUnexplained(fault) || order.indexOf(fault.layer) < first);
}

/** The fault of quantised activations, with the biases that are off because of them. */
export function withBiases(fault: FaultDraft, biasesOff: readonly string[] = []): FaultDraft {
  if (fault.difference !== "quantised" || biasesOff.length === 0) return fault;
  const off = `biases are more than half a step off at ${someOf(biasesOff)}`;
  return { ...fault, explanation: `${fault.explanation}; ${off}` };
}

/** Drops the finding that a stream has weights of its own, if its weights differ from the checkpoint's. */
export function withoutOwnWeights(
  structure: readonly FaultDraft[],
  weights: readonly FaultDraft[],
): readonly FaultDraft[] {
  const moduleOf = (layer: string): string => layer.replace(/\[\d+\]/, "[]");
  const modules = new Set(weights.map(({ layer }) => moduleOf(layer)));
  return structure.filter(
    ({ layer, difference }) => !(difference === "own-weights" && modules.has(moduleOf(layer))),
  );
}

/** The layers with other weights whose instance norm is missing: what is in its place may be folded into them. */
export function foldedInstead(
  { nodes }: LayerGraph,
  structure: readonly Fault[],
  weights: readonly Fault[],
): ReadonlyMap<string, string> {
  const [missing, other] = [structure, weights].map((faults) => new Set(faults.map(({ layer }) => layer)));
  return new Map(
    nodes.flatMap(({ name, op, inputs: [input = ""] }) =>
      op.kind === "instanceNorm" && missing?.has(name) && other?.has(input) ? [[input, name] as const] : [],
    ),
  );
}

/** The fault of a missing norm, with the layer that what is in its place may be folded into. */
export function withFolded(fault: FaultDraft, into: ReadonlyMap<string, string>): FaultDraft {
  const [layer] = [...into].find(([, norm]) => norm === fault.layer) ?? [];
  if (layer === undefined) return fault;
  const { explanation } = fault;
  return {
    ...fault,
    explanation: `${explanation}; the weights of ${layer} are not the checkpoint's either, as if another norm were folded into them`,
    says: explanation,
  };
}

/**
 * Layers with a wrong shape that do not depend on another such layer, and are not known to be replaced: the layers
 * after one have wrong sizes because of it. A structural finding is more specific than a shape.
 */
export function firstMisshapen(
  { nodes }: LayerGraph,
  misshapen: readonly FaultDraft[],
  { structure = [], deviations = [] }: Pick<Candidate, "structure" | "deviations">,
): readonly FaultDraft[] {
  const shapes = new Map(misshapen.map((fault) => [fault.layer, fault]));
  const others = new Set(structure.map(({ layer }) => layer));
  const affected = new Set<string>();
  return nodes.flatMap(({ name, inputs }) => {
    const follows = inputs.some((input) => affected.has(input));
    if (follows || others.has(name) || shapes.has(name)) affected.add(name);
    const fault = follows || others.has(name) ? undefined : shapes.get(name);
    const deviation = fault && deviations.find(({ layer }) => layer === name);
    return deviation ?? fault ?? [];
  });
}

/**
 * Layers that are absent because of a fault reported elsewhere: their input was not found, or their reader is wrong,
 * such as a sum without one of its streams.
 *
 * @param missing layers for which one side has no value
 * @param failing layers whose values are wrong
 * @param structure layers that were replaced
 */
export function consequences(
  graph: LayerGraph,
  missing: ReadonlySet<string>,
  failing: ReadonlySet<string>,
  structure: readonly Pick<Fault, "layer">[],
): ReadonlySet<string> {
  const others = new Set(structure.map(({ layer }) => layer));
  const lost = new Set(others);
  for (const { name, inputs } of graph.nodes)
    if (missing.has(name) && inputs.some((input) => lost.has(input))) lost.add(name);
  const unread = unreadLayers(
    graph,
    (layer) => missing.has(layer),
    (reader) => failing.has(reader) || others.has(reader),
  );
  return new Set([...missing].filter((name) => lost.has(name) || unread.has(name)));
}

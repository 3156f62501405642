import { INPUT_NAME, type LayerGraph, type LayerNode } from "../../arch/index.js";
import { someOf } from "../../core/text.js";
import type { Verification } from "../candidate/candidate.js";
import type { Explanation } from "../explain/index.js";
import { explainedBy, type Fault, type FaultDraft, layerFault, type Tolerance } from "../outcome/report.js";
import type { Comparison } from "./compare-layers.js";
import {
  beforeQuantised,
  computedIn,
  consequences,
  firstMisshapen,
  foldedInstead,
  localFaults,
  numericFaults,
  OF_WEIGHTS,
  ofOtherWeights,
  ofQuantised,
  outputFaults,
  withBiases,
  withCauses,
  withDeviations,
  withFolded,
  withoutOwnWeights,
} from "./faults.js";
import { rerunFaults } from "./reruns.js";

/** The faults, and the missing layers that none of them explains. */
interface Found {
  readonly faults: readonly Fault[];
  readonly missing: readonly LayerNode[];
}

/** The faults, each reported once, where it starts; and the missing layers that no other fault explains. */
export function findFaults(
  verification: Verification,
  tolerance: Tolerance,
  wanted: readonly LayerNode[],
  comparison: Comparison,
): Found {
  const { weights } = verification;
  const { ofZeros = [] } = weights ?? {};
  if (!weights || ofZeros.length === 0) return faultsOf(verification, tolerance, wanted, comparison);
  const without = {
    ...weights,
    faults: weights.faults.filter((fault) => !ofZeros.includes(fault)),
    ofOneCause: new Set([...(weights.ofOneCause ?? []), ...ofZeros.map(({ layer }) => layer)]),
  };
  const others = faultsOf({ ...verification, weights: without }, tolerance, wanted, comparison);
  return others.faults.length > 0 ? others : faultsOf(verification, tolerance, wanted, comparison);
}

function faultsOf(
  { graph, candidate, weights }: Verification,
  tolerance: Tolerance,
  wanted: readonly LayerNode[],
  { layers, outputs, misshapen, explanations }: Comparison,
): Found {
  const isOwn = ({ layer, explanation }: Fault): boolean =>
    !(weights?.withEpsilon?.has(layer) && explanation.startsWith("found epsilon "));
  const replaced = foldedInstead(graph, candidate.structure ?? [], weights?.faults ?? []);
  const structure = [
    ...withoutOwnWeights(candidate.structure ?? [], weights?.faults ?? [])
      .filter(isOwn)
      .map((fault) => withFolded(withBiases(fault, weights?.biasesOff), replaced)),
    ...firstMisshapen(graph, misshapen, candidate),
  ];
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const explained = explainedBy(structure, nodes);
  const sized = namesOf(misshapen.map(({ layer }) => ({ name: layer })));
  const absent = wanted.filter((node) => !layers.has(node.name) && !sized.has(node.name) && !explained(node));
  const failing = [...layers.values()].filter(({ status }) => status === "fail");
  const following = consequences(graph, namesOf(absent), namesOf(failing), structure);
  const missing = absent.filter(({ name }) => !following.has(name));
  const known = [
    ...(weights?.faults ?? []).filter(({ layer }) => !following.has(layer) && !replaced.has(layer)),
    ...missing.map((node) => layerFault(node, "missing", null, "one side has no value with this name")),
    ...structure,
  ];
  // Layers that read wrong images differ because of them.
  const isFed = structure.every(({ layer }) => layer !== INPUT_NAME);
  const fed = new Set([INPUT_NAME]);
  for (const { name, inputs } of graph.nodes)
    if (inputs.some((input) => fed.has(input) && (input === INPUT_NAME || candidate.folded.has(input))))
      fed.add(name);
  const readsImages = ({ layer }: Fault): boolean => fed.has(layer);
  const isShown = (name: string): boolean => layers.has(name);
  const isCovered = ({ layer }: Fault): boolean =>
    [layer, ...computedIn(nodes, layer, isShown)].some(
      (each) => weights?.ofOneCause?.has(each) || weights?.withEpsilon?.has(each),
    );
  /** The layers that read a layer, possibly through others computed in the same operator. */
  const readersOf = (layer: string): ReadonlySet<string> => {
    const hidden = new Set([layer]);
    const reading = new Set<string>();
    for (const { name, inputs } of graph.nodes) {
      if (!inputs.some((input) => hidden.has(input))) continue;
      if (isShown(name)) reading.add(name);
      else hidden.add(name);
    }
    return reading;
  };
  const ofOthers =
    tolerance.rule === "derived-bounds" && candidate.backend.name === "recorded"
      ? ofOtherWeights(graph, layers, explanations, new Set(candidate.backend.layers))
      : undefined;
  if (ofOthers) return { faults: [...known, ofOthers], missing };
  const numeric = (
    tolerance.rule === "relative-to-max"
      ? numericFaults(graph, layers, tolerance, structure)
      : withDeviations(localFaults(graph, layers, explanations), candidate, readersOf).filter(
          (fault) => isFed || !readsImages(fault),
        )
  ).filter((fault) => !isCovered(fault) && !replaced.has(fault.layer));
  const quantiser = structure.find(({ difference }) => difference === "quantised")?.layer;
  const rounded = candidate.located?.match?.roundings;
  const separate = ofQuantised(
    quantiser === undefined ? numeric : beforeQuantised(graph, numeric, quantiser, candidate.results),
    weights?.result.quantised ?? 0,
    (layer) => rounded?.has(layer) === true,
  );
  const judged = withCauses(graph, known, separate, isShown);
  const shapes = outputs.faults.filter(({ kind }) => kind !== "missing");
  // If a layer is wrong, outputs and reruns differ because of it, and only other faults of outputs are
  // reported.
  if (judged.length > 0) {
    const isOther = ({ kind, layer }: Fault): boolean =>
      kind !== "numeric" && judged.every((fault) => fault.layer !== layer);
    return { faults: [...judged, ...shapes.filter(isOther)], missing };
  }
  const results = [...(outputs.output ? [outputs.output] : []), ...outputs.further];
  const whole = [
    ...shapes,
    ...results.flatMap((output) => outputFaults(output, layers)),
    ...rerunFaults(outputs.output?.layer ?? "", outputs.output?.reruns ?? []),
  ];
  if (whole.length > 0) return { faults: whole, missing };
  return { faults: outputs.faults.length > 0 ? outputs.faults : (candidate.deviations ?? []), missing };
}

function namesOf(layers: readonly { readonly name: string }[]): ReadonlySet<string> {
  return new Set(layers.map(({ name }) => name));
}

/**
 * Merges faults that are one mistake: of a layer that was moved, of many layers, or of a module that several streams
 * share.
 *
 * @param explanations by layer, from its values
 */
export function mergeFaults(
  graph: LayerGraph,
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation>,
): readonly Fault[] {
  return mergeStreams(mergeEverywhere(graph, faults, explanations), explanations);
}

/** Minimum number of modules with the same difference for it to be one mistake: two may be two. */
const MIN_SAME = 3;

/**
 * Merges a difference of structure that several modules have, or all layers of an operation, into one fault, at the
 * first of them, and one that is found in two places, such as a layer that was moved.
 */
function mergeEverywhere(
  { nodes }: LayerGraph,
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation>,
): readonly FaultDraft[] {
  const layersByName = new Map(nodes.map((node) => [node.name, node]));
  const differenceOf = differencesOf(faults, explanations, layersByName);
  return faults.flatMap((fault) => {
    const same = faults.filter((other) => differenceOf(other) === differenceOf(fault));
    const first = same.filter(({ difference }) => difference !== "second");
    const group = first.length > 0 ? first : same;
    if (!group.includes(fault)) return [];
    const layers = new Set(group.map(({ layer }) => layer));
    const ofKinds = new Set([...layers].map((layer) => layersByName.get(layer)?.op.kind));
    const all = nodes.filter(({ op }) => ofKinds.has(op.kind)).length;
    const modules = new Map(group.toReversed().map((other) => [moduleOf(other), other.layer]));
    const isOne = layers.size === all || modules.size >= MIN_SAME;
    if (differenceOf(fault) === undefined || layers.size < 2 || !isOne) return [fault];
    const one = merged(group, (layer) => layersByName.get(layer)?.block);
    const others = [...modules.values()].reverse().filter((layer) => layer !== one.layer);
    const count = layers.size === all ? `all ${all}` : `${layers.size} of ${all}`;
    const where = 2 * layers.size > all ? `${count} layers of its kind` : someOf(others);
    return fault === group[0] ? [{ ...one, explanation: `${one.explanation}; the same at ${where}` }] : [];
  });
}

/**
 * What a fault has in common with others. The same operator with other numbers, such as slopes, is another mistake, where
 * values show it; where they show nothing, it counts as neither.
 *
 * @param layers those whose blocks have the same difference if only the names of the blocks differ
 */
function differencesOf(
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation>,
  layers: ReadonlyMap<string, LayerNode> = new Map(),
): (fault: FaultDraft) => string | undefined {
  const shownBy = ({ layer, cause }: FaultDraft): string | undefined =>
    cause === undefined ? undefined : explanations.get(layer)?.says;
  // Weights with the same mistake, such as transposed ones, differ by different numbers.
  const foundIn = (fault: FaultDraft): string | undefined => {
    const shown = fault.cause !== undefined && OF_WEIGHTS.has(fault.cause) ? undefined : shownBy(fault);
    if (fault.kind === "weights") return shown;
    if (fault.kind !== "structure") return fault.says ?? shown;
    const { block } = layers.get(fault.layer) ?? {};
    const said = fault.says ?? fault.explanation;
    return block === undefined ? said : said.replaceAll(block, "…");
  };
  const shownOf = new Map<string | undefined, Set<string>>();
  for (const fault of faults) {
    const [found, shown] = [foundIn(fault), shownBy(fault)];
    if (shown !== undefined) shownOf.set(found, new Set([...(shownOf.get(found) ?? []), shown]));
  }
  return (fault) => {
    const found = foundIn(fault);
    const isShown = fault.kind === "structure" && (shownOf.get(found)?.size ?? 0) > 1;
    return found !== undefined && isShown ? `${found} ${shownBy(fault) ?? ""}` : found;
  };
}

/** The module that all streams of a block share, for a layer of a gate. */
function moduleOf({ layer, stream }: FaultDraft): string {
  return stream === undefined ? layer : layer.replace(`[${stream}]`, "[]");
}

/**
 * Merges equal faults of one module of a gate, which all streams of a block share, into one: at the first of those
 * streams, with the largest margin and its explanation. In the order of their first.
 *
 * @param explanations by layer, from its values
 */
function mergeStreams(
  faults: readonly FaultDraft[],
  explanations: ReadonlyMap<string, Explanation>,
): readonly FaultDraft[] {
  const groups = new Map<string, FaultDraft[]>();
  const differenceOf = differencesOf(faults, explanations);
  for (const draft of faults) {
    const { says, difference: _, ...fault } = draft;
    const { layer, kind, cause, explanation } = fault;
    const shown = cause === undefined ? undefined : explanations.get(layer)?.says;
    const found = kind === "structure" ? differenceOf(draft) : (says ?? explanation);
    const key = JSON.stringify([moduleOf(fault), kind, kind === "numeric" ? (shown ?? "") : found]);
    groups.set(key, [...(groups.get(key) ?? []), fault]);
  }
  return [...groups.values()].map((group) => merged(group));
}

/** @param blockOf the block of a layer: the explanation names that of the first, though it is the worst's */
function merged(
  faults: readonly FaultDraft[],
  blockOf: (layer: string) => string | undefined = () => undefined,
): Fault {
  const [first] = faults.toSorted((a, b) => (a.stream ?? 0) - (b.stream ?? 0)) as [Fault];
  if (faults.length === 1) return first;
  const marginOf = ({ margin }: Fault): number => margin ?? Infinity;
  const explained = faults.filter(({ cause }) => cause !== undefined);
  const [worst] = (explained.length > 0 ? explained : faults).toSorted(
    (a, b) => marginOf(b) - marginOf(a),
  ) as [Fault];
  const most = Math.max(...faults.map(marginOf));
  const sharing = faults.filter(
    (fault) => fault.layer !== moduleOf(fault) && moduleOf(fault) === moduleOf(first),
  );
  const streams = [...new Set(sharing.flatMap(({ stream }) => stream ?? []))].sort((a, b) => a - b);
  const [own, other] = [first, worst].map(({ layer }) => blockOf(layer));
  const explanation = own && other ? worst.explanation.replaceAll(other, own) : worst.explanation;
  return {
    ...worst,
    explanation,
    layer: first.layer,
    ...(first.stream === undefined ? {} : { stream: first.stream }),
    ...(streams.length > 0 ? { streams } : {}),
    margin: Number.isFinite(most) ? most : null,
  };
}
